"""Reading the last committed position from its topic, and how far the events topic is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from segexport.errors import TopicUnusable
from segexport.kafka import client_arguments, passed_over
from segexport.relay.discard import PATIENCE
from segexport.relay.position import Position
from segexport.settings import KafkaSettings

LOOK_BACK: Final = 500
"""Offsets before the end where the last position is looked for first; then ten times that."""
_FETCH_WAIT_MS: Final = 50


async def last_position(
    settings: KafkaSettings, *, through_open: float | None = None
) -> Position | None:
    """The last committed position of the topic; None if there never was one.

    Somebody's open transaction hides what is behind it, so an old position may look like
    the last. To be certain, start the producer, which ends the relay's own open
    transaction, and give `through_open`: then this reads to the very end of the log, and
    waits so many seconds for transactions of others to end. Raises `TopicUnusable` if one is
    still open then, `PositionMismatch` for a record that is not a position, and whatever
    aiokafka raises.
    """
    async with _reader(settings) as consumer:
        return await _last_position(settings, consumer, through_open)


async def position_and_ends(
    settings: KafkaSettings, partitions: int, *, through_open: float
) -> tuple[Position | None, dict[int, int]]:
    """The last position, as above, and then the end of each partition of the events topic.

    An end is the offset behind the last record that readers of committed records may see; it
    stays when records are removed by age or by an administrator.
    """
    wanted = [TopicPartition(settings.topic, number) for number in range(partitions)]
    async with _reader(settings) as consumer:
        position = await _last_position(settings, consumer, through_open)
        ends = await consumer.end_offsets(wanted)
        return position, {each.partition: ends[each] for each in wanted}


@asynccontextmanager
async def _reader(settings: KafkaSettings) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **client_arguments(settings, role="relay"),
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        with passed_over():
            async with asyncio.timeout(PATIENCE):
                await consumer.stop()


async def _last_position(
    settings: KafkaSettings, consumer: AIOKafkaConsumer, through_open: float | None
) -> Position | None:
    partition = TopicPartition(settings.positions_topic, 0)
    consumer.assign([partition])
    beginning = (await consumer.beginning_offsets([partition]))[partition]
    stable_end = (await consumer.end_offsets([partition]))[partition]
    reach = LOOK_BACK
    while True:
        start = max(beginning, stable_end - reach)
        consumer.seek(partition, start)
        if through_open is None:
            found = await _last_value(consumer, partition, stable_end)
        else:
            found = await _last_value_of_all(consumer, partition, through_open)
        if found is not None:
            return Position.decode(found)
        if start == beginning:
            return None
        reach *= 10


async def _last_value(
    consumer: AIOKafkaConsumer, partition: TopicPartition, end: int
) -> bytes | None:
    """The last committed value from here to an offset that can be reached.

    Unlike the records that it returns, a consumer's position counts markers and aborted
    records.
    """
    found: bytes | None = None
    while await consumer.position(partition) < end:
        found = await _next_value(consumer, partition) or found
    return found


async def _last_value_of_all(
    consumer: AIOKafkaConsumer, partition: TopicPartition, patience: float
) -> bytes | None:
    """The last committed value from here to the end of the log."""
    found: bytes | None = None
    clock = asyncio.get_running_loop().time
    give_up_at = clock() + patience
    while True:
        found = await _next_value(consumer, partition) or found
        reached, end = await consumer.position(partition), consumer.highwater(partition)
        if end is not None and reached >= end:
            return found
        if clock() > give_up_at:
            raise TopicUnusable(
                f"the positions in {partition.topic!r} can be read up to offset {reached} of "
                f"{end} only: a transaction behind that has no end. Where delivery stands is "
                'not known for certain, so nothing is sent; see docs/delivery.md, "A '
                'transaction without an end"'
            )


async def _next_value(consumer: AIOKafkaConsumer, partition: TopicPartition) -> bytes | None:
    """The last value of what comes next, if anything comes soon."""
    records = (await consumer.getmany(partition, timeout_ms=_FETCH_WAIT_MS)).get(partition)
    value: bytes | None = records[-1].value if records else None
    return value
