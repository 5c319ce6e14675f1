"""What the relay brings to a real Kafka."""

import asyncio
import json
from pathlib import Path
from typing import get_args

import pytest

from segexport.consume.consumer import EventReader
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

COMPRESSIONS = get_args(KafkaSettings.model_fields["compression"].annotation)
"""All that the setting offers."""


async def bytes_on_disk(kafka: Kafka, topic: str) -> int:
    """What the broker keeps for a topic, by its own account."""
    printed = await asyncio.to_thread(
        kafka.run_tool,
        "org.apache.kafka.tools.LogDirsCommand",
        *("--bootstrap-server", kafka.admin_servers, "--describe", "--topic-list", topic),
    )
    told = json.loads(next(line for line in printed.splitlines() if line.startswith("{")))
    folders = [folder for broker in told["brokers"] for folder in broker["logDirs"]]
    return sum(each["size"] for folder in folders for each in folder["partitions"])


@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_foreign_readers_receive_what_is_stored_byte_for_byte_and_in_order(
    kafka: Kafka,
    kafka_settings: KafkaSettings,
    store: SqliteStore,
    tmp_path: Path,
    compression: str,
) -> None:
    """librdkafka, Kafka's own console consumer, and aiokafka; in each compression."""
    settings = kafka_settings.model_copy(update={"compression": compression})
    await run_jobs(store, 5)
    await complete(store, await submit(store), discard_file(tmp_path, 300))
    await deliver_all(store, settings)
    await require_exactly_once(kafka, settings, store)
    expected = await sent_by(store)
    count = sum(map(len, expected.values()))
    require_same(expected, kafka.console_consume(settings.topic, count=count))
    async with EventReader(settings) as reader:
        found = sorted([received.value or b"" async for received in reader.so_far()])
    values = sorted(each.value for sent in expected.values() for each in sent)
    assert found == values
    is_small = await bytes_on_disk(kafka, settings.topic) < sum(map(len, values)) / 2
    assert is_small is (compression != "none")


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
