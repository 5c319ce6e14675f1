"""What every publisher does with aiokafka's producer: send, judge, keep within bounds."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import zip_longest
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka

from segexport.errors import BrokerUnreachable, RelayFenced
from segexport.kafka import in_plain_words
from segexport.relay.discard import take_note
from segexport.relay.parcel import Batch, Parcel
from segexport.relay.publisher import RecordsRefused
from segexport.settings import KafkaSettings


class InvalidRecord(kafka.BrokerResponseError):  # type: ignore[misc]  # aiokafka is untyped
    """The broker has validated a record and refuses it (error 87, which aiokafka lacks)."""

    errno = 87
    message = "INVALID_RECORD"


# Without an entry of its own it would be an UnknownError, which is no verdict on a record.
kafka.kafka_errors.setdefault(InvalidRecord.errno, InvalidRecord)

REFUSALS: Final = (
    kafka.MessageSizeTooLargeError,
    kafka.RecordListTooLargeError,
    kafka.CorruptRecordException,
    kafka.InvalidTimestampError,
    InvalidRecord,
)
"""Verdicts on what was sent. Everything else says something about the broker: an outage."""


async def send_batches(
    producer: AIOKafkaProducer, topic: str, parcel: Parcel
) -> Mapping[asyncio.Future[Any], Batch]:
    """Hand all batches to the producer, in turn for each partition; what will become of each.

    One after the other is enough: a call returns once the batch before it in the same
    partition is on its way.
    """
    sending: dict[asyncio.Future[Any], Batch] = {}
    for turn in zip_longest(*([(each, p) for each in b] for p, b in parcel.batches.items())):
        for batch, partition in filter(None, turn):
            future = await producer.send_batch(batch.builder, topic, partition=partition)
            future.add_done_callback(take_note)
            sending[future] = batch
    return sending


def is_out_of_time(sending: Mapping[asyncio.Future[Any], Batch]) -> bool:
    """Whether a batch was refused for a timestamp in it."""
    done = (future for future in sending if future.done() and not future.cancelled())
    return any(isinstance(future.exception(), kafka.InvalidTimestampError) for future in done)


def require_accepted(sending: Mapping[asyncio.Future[Any], Batch]) -> None:
    """Raise what has failed, if anything has: an outage rather than a refusal.

    What follows a refused batch in its partition is out of order for the broker: that is no
    failure of its own.
    """
    refused: RecordsRefused | None = None
    unordered: BaseException | None = None
    for future, batch in sending.items():
        match future.exception() if future.done() else None:
            case None:
                pass
            case kafka.OutOfOrderSequenceNumber() as error:
                unordered = unordered or error
            case error if isinstance(error, REFUSALS):
                reason = f"{error.message}: {error.description}".rstrip(" :")
                refused = refused or RecordsRefused(batch.first, batch.records, reason)
            case error:
                raise error
    if failure := refused or unordered:
        raise failure


@asynccontextmanager
async def bounded(settings: KafkaSettings, seconds: float, doing: str) -> AsyncIterator[None]:
    """Limit the time of what is done inside, and let only our own errors out.

    Only what has to do with the library belongs inside: see `kafka.faults`.
    """
    async with in_plain_words(settings):
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise BrokerUnreachable(
                f"{doing} did not end within {seconds:g} s at {settings.bootstrap_servers}; what "
                "became of it will be read from the topic"
            ) from error
        except (kafka.ProducerFenced, kafka.InvalidProducerEpoch) as error:
            raise RelayFenced(
                f"the broker has given the transactional id {settings.transactional_id!r} to "
                "another relay, or has ended a transaction that took too long"
            ) from error
