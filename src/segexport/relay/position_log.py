"""Reading the last committed position from its topic."""

import asyncio
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from segexport.kafka import client_arguments
from segexport.relay.position import Position
from segexport.settings import KafkaSettings

LOOK_BACK: Final = 500
"""Offsets before the end where the last position is looked for first; then ten times that."""
_FETCH_WAIT_MS: Final = 50


async def last_position(settings: KafkaSettings) -> Position | None:
    """The last committed position of the topic; None if there never was one.

    Reads to the end of the log as it is now, not only of its stable part: a transaction
    that somebody has left open before the end would otherwise make an old position look
    like the last. It must be called after the producer has started, which ends the
    relay's own open transaction; it waits, for as long as the caller lets it, for those of
    others. Raises `PositionMismatch` for a record that is not a position, and aiokafka's
    errors.
    """
    consumer = AIOKafkaConsumer(
        **client_arguments(settings, role="relay"),
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
    )
    partition = TopicPartition(settings.positions_topic, 0)
    try:
        await consumer.start()
        consumer.assign([partition])
        beginning = (await consumer.beginning_offsets([partition]))[partition]
        stable_end = (await consumer.end_offsets([partition]))[partition]
        reach = LOOK_BACK
        while True:
            start = max(beginning, stable_end - reach)
            consumer.seek(partition, start)
            found = await _last_value(consumer, partition)
            if found is not None:
                return Position.decode(found)
            if start == beginning:
                return None
            reach *= 10
    finally:
        await consumer.stop()


async def _last_value(consumer: AIOKafkaConsumer, partition: TopicPartition) -> bytes | None:
    """The last committed value between here and the end of the log.

    What the consumer's position counts, unlike its records, are markers and aborted
    records too: it does reach the end.
    """
    found: bytes | None = None
    while True:
        for records in (await consumer.getmany(partition, timeout_ms=_FETCH_WAIT_MS)).values():
            found = records[-1].value
        end = consumer.highwater(partition)
        if end is not None and await consumer.position(partition) >= end:
            return found
        await asyncio.sleep(0)
