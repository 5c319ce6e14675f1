"""A client library that stumbles is an outage; a mistake of our own is none."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, Never

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from structlog.testing import capture_logs

from segexport.consume import consumer as consuming
from segexport.consume.consumer import EventReader
from segexport.errors import ClientFailed, DeliveryError
from segexport.kafka import cluster, ensure_topics
from segexport.relay import position_log
from segexport.relay import relay as relays
from segexport.relay.schedule import Schedule
from segexport.relay.transactional import TransactionalPublisher
from segexport.service import running as service_running
from segexport.settings import KafkaSettings, Settings
from segexport.store.sqlite import SqliteStore
from support.deliveries import (
    complete,
    delivered,
    discard_file,
    relay_of,
    require_exactly_once,
    run_jobs,
    running,
    submit,
)
from support.kafka import Kafka
from support.stumbling import ERRORS, Stumbles

CALLS: Final = [
    "admin __init__",
    "admin start",
    "admin describe_topics",
    "admin create_topics",
    "admin describe_configs",
    "consumer __init__",
    "consumer start",
    "consumer assign",
    "consumer beginning_offsets",
    "consumer end_offsets",
    "consumer seek",
    "consumer position",
    "consumer getmany",
    "consumer highwater",
    "producer start",
    "producer create_batch",
    "producer begin_transaction",
    "producer send_batch",
    "producer commit_transaction",
]


class Acknowledged(AIOKafkaProducer):  # type: ignore[misc]  # aiokafka is untyped
    """A producer whose acknowledgements of batches fail, or are cancelled, in turn."""

    left = iter(ERRORS)

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> Any:
        future = await super().send_batch(batch, topic, partition=partition)
        return asyncio.ensure_future(self._acknowledged(future))

    async def _acknowledged(self, future: Any) -> Any:
        done = await future
        error = next(Acknowledged.left, None)
        if error is not None:
            raise error
        return done


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays, "LONGEST_PAUSE", 0.05)


def stumble(stumbles: Stumbles, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Let all clients of the relay do so; its producer is the result."""
    monkeypatch.setattr(cluster, "AIOKafkaAdminClient", stumbles.class_of(AIOKafkaAdminClient))
    monkeypatch.setattr(position_log, "AIOKafkaConsumer", stumbles.class_of(AIOKafkaConsumer))
    return stumbles.class_of(AIOKafkaProducer)


Deliver = Callable[[Callable[..., Any]], Awaitable[list[Any]]]


@pytest.fixture
def deliver_through(
    kafka: Kafka, kafka_settings: KafkaSettings, store: SqliteStore, tmp_path: Path
) -> Deliver:
    """Deliver in spite of a producer; what was logged about outages."""

    async def deliver(producer: Callable[..., Any]) -> list[Any]:
        publishers = partial(TransactionalPublisher, kafka_settings, producer=producer)
        await complete(store, await submit(store), discard_file(tmp_path, 30))
        with capture_logs() as logged:
            async with running(relay_of(store, kafka_settings, publishers=publishers)):
                await run_jobs(store, 2)
                await delivered(store, patience=60)
                await run_jobs(store, 1)
                await delivered(store, patience=60)
        await require_exactly_once(kafka, kafka_settings, store)
        return [entry for entry in logged if entry.get("code") == "delivery.client"]

    return deliver


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("call", CALLS)
async def test_whatever_a_call_of_the_library_lets_out_is_an_outage_with_a_traceback(
    deliver_through: Deliver, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    stumbles = Stumbles(call)
    told = await deliver_through(stumble(stumbles, monkeypatch))
    assert stumbles.happened == len(ERRORS)
    aloud = [entry for entry in told if entry["log_level"] in {"info", "warning"}]
    assert len(aloud) >= 2
    assert {type(entry["exc_info"]) for entry in aloud} <= set(map(type, ERRORS))


@pytest.mark.usefixtures("hasty")
async def test_a_commit_that_took_effect_before_the_library_stumbled_is_not_repeated(
    deliver_through: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    stumbles = Stumbles("producer commit_transaction", heard=True)
    assert await deliver_through(stumble(stumbles, monkeypatch))
    assert stumbles.happened >= 2


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("call", ["admin close", "consumer stop"])
async def test_a_goodbye_that_goes_wrong_changes_nothing(
    deliver_through: Deliver, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    stumbles = Stumbles(call, heard=True)
    assert await deliver_through(stumble(stumbles, monkeypatch)) == []
    assert stumbles.happened > 0


@pytest.mark.usefixtures("hasty")
async def test_an_acknowledgement_that_fails_for_no_known_reason_is_an_outage(
    deliver_through: Deliver,
) -> None:
    Acknowledged.left = iter(ERRORS)
    assert await deliver_through(Acknowledged)
    assert next(Acknowledged.left, None) is None


async def test_a_mistake_of_ours_in_the_relay_is_no_outage(
    kafka_settings: KafkaSettings, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fill(*_: object) -> Never:
        raise KeyError("ours")

    monkeypatch.setattr(Schedule, "fill", fill)
    await run_jobs(store, 1)
    async with asyncio.timeout(20):
        with pytest.raises(KeyError, match="ours"):
            await relay_of(store, kafka_settings).run()


@pytest.mark.parametrize("call", ["admin describe_topics", "admin describe_configs"])
async def test_a_service_starts_while_the_library_stumbles(
    kafka_settings: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    stumbles = Stumbles(call)
    stumble(stumbles, monkeypatch)
    settings = Settings(data=tmp_path / "data", kafka=kafka_settings)
    async with service_running(settings) as parts:
        await submit(parts.store)
        await delivered(parts.store, patience=60)
    assert stumbles.happened == len(ERRORS)


@pytest.mark.parametrize(
    "call",
    [
        "admin list_topics",
        "consumer __init__",
        "consumer start",
        "consumer end_offsets",
        "consumer position",
        "consumer getmany",
    ],
)
async def test_a_reader_says_that_the_library_has_failed(
    kafka_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    await ensure_topics(kafka_settings)
    stumbles = Stumbles(call)
    stumble(stumbles, monkeypatch)
    monkeypatch.setattr(consuming, "AIOKafkaConsumer", stumbles.class_of(AIOKafkaConsumer))

    async def read() -> None:
        async with EventReader(kafka_settings) as reader:
            async for _ in reader.so_far():
                pass
            async for _ in reader.follow(within=timedelta(seconds=0.1)):
                pass

    for error in ERRORS:
        with pytest.raises(ClientFailed, match=type(error).__name__):
            await read()
    await read()


async def test_a_reader_whose_fetching_has_ended_says_so(kafka_settings: KafkaSettings) -> None:
    await ensure_topics(kafka_settings)
    async with EventReader(kafka_settings) as reader:
        reader._consumer._fetcher.error_future.cancel()
        with pytest.raises(DeliveryError, match="nothing is fetched any more"):
            async for _ in reader.follow(within=timedelta(seconds=10)):
                pass
