"""Clocks that jump, and parked events that heal by themselves, on a real Kafka."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from structlog.testing import capture_logs

from segexport.consume.consumer import EventReader
from segexport.kafka import client_arguments
from segexport.relay import relay as relays
from segexport.relay.relay import Relay
from segexport.relay.retries import Retries
from segexport.settings import KafkaSettings
from segexport.store.sqlite import SqliteStore
from support.deliveries import (
    complete,
    deliver_all,
    delivered,
    discard_file,
    large_request,
    relay_of,
    require_exactly_once,
    run_jobs,
    running,
    submit,
)
from support.kafka import Kafka
from support.waiting import until

DAYS = timedelta(days=2)


def eager() -> Retries:
    return Retries(first=timedelta(seconds=2), longest=timedelta(seconds=4))


async def parked(store: SqliteStore, count: int) -> bool:
    return len(await store.parked()) == count


async def timestamps(settings: KafkaSettings, count: int) -> list[datetime]:
    """The records' own timestamps."""
    async with AIOKafkaConsumer(
        settings.topic, **client_arguments(settings, role="test"), auto_offset_reset="earliest"
    ) as consumer:
        async with asyncio.timeout(20):
            records: list[Any] = [await consumer.getone() for _ in range(count)]
    return [datetime.fromtimestamp(record.timestamp / 1000, UTC) for record in records]


async def test_events_of_a_clock_that_was_ahead_are_delivered_and_dated_by_their_sending(
    kafka: Kafka, kafka_settings: KafkaSettings, store: SqliteStore, tmp_path: Path
) -> None:
    began = datetime.now(UTC).replace(microsecond=0)
    ahead = await submit(store, created_at=began + DAYS)
    past = await submit(store, created_at=began - DAYS)
    await complete(store, await submit(store), discard_file(tmp_path, 3))
    await deliver_all(store, kafka_settings)
    assert await store.parked() == []
    await require_exactly_once(kafka, kafka_settings, store)  # value, ce_time and all
    own = await timestamps(kafka_settings, 8)
    assert max(own) <= datetime.now(UTC)
    assert min(own) == began - DAYS
    async with EventReader(kafka_settings) as reader:
        told = {one.key: one.timestamp async for one in reader.so_far()}
    assert told[str(ahead.id)] == began + DAYS
    assert told[str(past.id)] == began - DAYS


class Clock:
    """A clock that can be wrong."""

    ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


async def test_while_the_relays_clock_is_ahead_of_the_brokers_nothing_is_parked(
    kafka: Kafka,
    kafka_settings: KafkaSettings,
    store: SqliteStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relays, "LONGEST_PAUSE", 0.2)
    clock = Clock()
    relay = relay_of(store, kafka_settings, clock=clock)
    async with running(relay):
        await run_jobs(store, 1)
        await delivered(store)
        clock.ahead = DAYS
        for _ in range(3):
            await submit(store, created_at=clock())
        await until(lambda: has_wrong_clock(relay), 20, "the relay says what is wrong")
        assert await store.parked() == []
        clock.ahead = timedelta(0)
        await delivered(store)
    assert await store.parked() == []
    await require_exactly_once(kafka, kafka_settings, store)


async def has_wrong_clock(relay: Relay) -> bool:
    error = str((await relay.health()).error)
    return "clock is ahead" in error and "message.timestamp.after.max.ms" in error


async def test_an_event_that_was_too_old_for_the_topic_goes_through_once_it_may(
    kafka: Kafka, kafka_settings: KafkaSettings, store: SqliteStore
) -> None:
    limit = "message.timestamp.before.max.ms"
    kafka.create_topic(
        kafka_settings.topic,
        partitions=kafka_settings.partitions,
        config={limit: str(86_400_000)},
    )
    for _ in range(2):
        job = await submit(store, created_at=datetime.now(UTC) - DAYS)
        await complete(store, job)
    await run_jobs(store, 1)
    with capture_logs() as logged:
        async with running(relay_of(store, kafka_settings, retries=eager())):
            await until(lambda: is_said(logged, "and is parked", 2), 20, "both are parked")
            await until(lambda: is_said(logged, "refused again", 2), 40, "they are tried again")
            kafka.alter_topic(kafka_settings.topic, limit, str(10 * 86_400_000))
            await until(lambda: parked(store, 0), 40, "they go through by themselves")
            await delivered(store)
    await require_exactly_once(kafka, kafka_settings, store)
    said = [entry for entry in logged if entry["event"].endswith("is parked")]
    assert len(said) == 2
    assert all("INVALID_TIMESTAMP" in entry["reason"] for entry in said)


async def is_said(logged: Any, words: str, times: int) -> bool:
    return sum(words in entry["event"] for entry in logged) >= times


async def test_an_event_that_was_too_large_goes_through_once_the_topic_takes_it(
    kafka: Kafka, kafka_settings: KafkaSettings, store: SqliteStore
) -> None:
    kafka.create_topic(
        kafka_settings.topic,
        partitions=kafka_settings.partitions,
        config={"max.message.bytes": "8000"},
    )
    await complete(store, await submit(store, large_request(60_000)))
    await run_jobs(store, 1)
    async with running(relay_of(store, kafka_settings, retries=eager())):
        await until(lambda: parked(store, 1), 20, "the fat event is parked")
        kafka.alter_topic(kafka_settings.topic, "max.message.bytes", "1000000")
        await until(lambda: parked(store, 0), 20, "it goes through by itself")
        await delivered(store)
    await require_exactly_once(kafka, kafka_settings, store)


async def test_a_discard_file_that_was_away_is_sent_once_it_is_back(
    kafka: Kafka, kafka_settings: KafkaSettings, store: SqliteStore, tmp_path: Path
) -> None:
    discards = discard_file(tmp_path, 20)
    file = Path(discards.path)
    file.rename(file.with_suffix(".away"))
    await complete(store, await submit(store), discards)
    async with running(relay_of(store, kafka_settings, retries=eager())):
        await until(lambda: parked(store, 1), 20, "the job is parked")
        file.with_suffix(".away").rename(file)
        await until(lambda: parked(store, 0), 20, "it goes through by itself")
        await delivered(store)
    await require_exactly_once(kafka, kafka_settings, store)
