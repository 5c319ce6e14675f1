"""What the relay brings to a real Kafka."""

import asyncio
from pathlib import Path

from segexport.settings import KafkaSettings
from segexport.store.sqlite import SqliteStore
from support.deliveries import (
    complete,
    deliver_all,
    delivered,
    discard_file,
    relay_of,
    require_exactly_once,
    require_same,
    run_jobs,
    running,
    sent_by,
    submit,
)
from support.kafka import Kafka


async def test_foreign_readers_receive_what_is_stored_byte_for_byte_and_in_order(
    kafka: Kafka, kafka_settings: KafkaSettings, store: SqliteStore, tmp_path: Path
) -> None:
    await run_jobs(store, 5)
    await complete(store, await submit(store), discard_file(tmp_path, 7))
    await deliver_all(store, kafka_settings)
    await require_exactly_once(kafka, kafka_settings, store)
    expected = await sent_by(store)
    count = sum(map(len, expected.values()))
    require_same(expected, kafka.console_consume(kafka_settings.topic, count=count))


async def test_events_are_delivered_as_they_are_committed(
    kafka: Kafka, kafka_settings: KafkaSettings, store: SqliteStore
) -> None:
    async with running(relay_of(store, kafka_settings)):
        for _ in range(3):
            await run_jobs(store, 2)
            await delivered(store)
    await require_exactly_once(kafka, kafka_settings, store)


async def test_a_relay_that_starts_again_goes_on_where_the_last_one_stopped(
    kafka: Kafka, kafka_settings: KafkaSettings, store: SqliteStore
) -> None:
    for _ in range(3):
        await run_jobs(store, 2)
        await deliver_all(store, kafka_settings)
    await require_exactly_once(kafka, kafka_settings, store)


async def test_many_writers_through_two_stores_on_one_file_lose_nothing(
    kafka: Kafka, kafka_settings: KafkaSettings, store: SqliteStore, tmp_path: Path
) -> None:
    other = await SqliteStore.open(tmp_path / "jobs.sqlite")
    async with running(relay_of(store, kafka_settings)):
        await asyncio.gather(*(run_jobs(each, 50) for each in (store, other, store, other)))
        await delivered(store)
    await other.close()
    await require_exactly_once(kafka, kafka_settings, store)
