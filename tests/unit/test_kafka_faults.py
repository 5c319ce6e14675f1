"""What the Kafka client raises, in words that name the setting."""

import asyncio
import struct
from collections.abc import Callable
from datetime import timedelta

import pytest
from aiokafka import errors as kafka

from segexport.errors import (
    BrokerUnreachable,
    ClientFailed,
    DeliveryError,
    SettingRefused,
    TopicUnusable,
)
from segexport.kafka import explain, in_plain_words, passed_over
from segexport.settings import KafkaSettings

SETTINGS = KafkaSettings(
    bootstrap_servers="broker:9092",
    partitions=7,
    replication_factor=5,
    compression="gzip",
    transaction_timeout=timedelta(hours=1),
)


def from_task(cause: Exception) -> kafka.KafkaError:
    """As aiokafka tells what has ended one of its tasks."""
    error = kafka.KafkaError("Unexpected error during batch delivery")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (
            kafka.InvalidTransactionTimeout(),
            SettingRefused,
            "kafka.transaction_timeout, which is 1:00:00: lower it to the broker's transaction",
        ),
        (kafka.for_code(76)(), SettingRefused, "kafka.compression 'gzip'"),
        (
            kafka.InvalidReplicationFactorError(),
            TopicUnusable,
            "kafka.replication_factor is 5: lower it",
        ),
        (kafka.InvalidPartitionsError(), TopicUnusable, "kafka.partitions is 7"),
        (kafka.PolicyViolationError(), TopicUnusable, "kafka.partitions is 7"),
        (kafka.InvalidTopicError(), TopicUnusable, "check kafka.topic"),
        (kafka.NotEnoughReplicasError(), BrokerUnreachable, "no broker answers"),
        (from_task(kafka.InvalidTransactionTimeout()), SettingRefused, "transaction_timeout"),
        (from_task(KeyError("answer")), ClientFailed, "KeyError: 'answer'"),
        (struct.error("short"), ClientFailed, "error: short"),
    ],
)
async def test_the_words_say_what_to_look_at(
    error: Exception, kind: type[DeliveryError], says: str
) -> None:
    told = await explain(error, SETTINGS)
    assert type(told) is kind
    assert says in str(told)


async def slip() -> None:
    """A cancellation that nobody asked for."""
    raise asyncio.CancelledError


async def plainly(doing: Callable[[], object]) -> None:
    async with in_plain_words(SETTINGS):
        await asyncio.sleep(0)
        doing()
        await slip()


async def quietly(doing: Callable[[], object]) -> None:
    with passed_over():
        doing()
        await slip()


async def test_a_cancellation_that_nobody_asked_for_is_a_failure_of_the_library() -> None:
    with pytest.raises(ClientFailed, match="CancelledError"):
        await plainly(lambda: None)
    await quietly(lambda: None)


@pytest.mark.parametrize("block", [plainly, quietly])
async def test_a_cancellation_that_somebody_asked_for_is_none(
    block: Callable[[Callable[[], object]], object],
) -> None:
    async def cancelled() -> None:
        current = asyncio.current_task()
        assert current is not None
        await block(current.cancel)  # type: ignore[misc]  # a coroutine function

    task = asyncio.create_task(cancelled())
    await asyncio.wait({task})
    assert task.cancelled()


async def test_errors_of_ours_are_left_as_they_are() -> None:
    with pytest.raises(TopicUnusable, match="ours"):
        async with in_plain_words(SETTINGS):
            raise TopicUnusable("ours")
