"""Delivery to the broker for trying things, which forgets."""

import asyncio
from pathlib import Path

from aiokafka import AIOKafkaConsumer
from structlog.testing import capture_logs

from segexport.kafka import client_arguments
from segexport.relay.embedded import EmbeddedBroker
from segexport.relay.idempotent import EmbeddedPublishers
from segexport.settings import KafkaSettings
from segexport.store.sqlite import SqliteStore
from support.deliveries import (
    complete,
    delivered,
    discard_file,
    relay_of,
    run_jobs,
    running,
    sent_by,
    submit,
)


async def received(settings: KafkaSettings, count: int) -> dict[bytes, list[bytes]]:
    """The values of the topic by key, in order; at least `count` of them."""
    values: dict[bytes, list[bytes]] = {}
    async with AIOKafkaConsumer(
        settings.topic,
        **client_arguments(settings, role="test"),
        auto_offset_reset="earliest",
    ) as consumer:
        async with asyncio.timeout(20):
            for _ in range(count):
                record = await consumer.getone()
                values.setdefault(record.key, []).append(record.value)
    return values


async def test_a_broker_that_begins_anew_is_sent_everything_that_the_store_has(
    store: SqliteStore, tmp_path: Path
) -> None:
    await complete(store, await submit(store), discard_file(tmp_path, 10))
    for _ in range(2):
        await run_jobs(store, 2)
        expected = {
            key: [record.value for record in records]
            for key, records in (await sent_by(store)).items()
        }
        with capture_logs() as logged:
            async with EmbeddedBroker() as broker:
                settings = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
                publishers = EmbeddedPublishers(settings, store.identity)
                async with running(relay_of(store, settings, publishers=publishers)):
                    count = sum(map(len, expected.values()))
                    assert await received(settings, count) == expected
                    await run_jobs(store, 1)
                    await delivered(store)
        assert any("remembers nothing" in entry["event"] for entry in logged)


async def test_a_relay_that_is_replaced_goes_on_while_the_broker_lives(
    store: SqliteStore,
) -> None:
    async with EmbeddedBroker() as broker:
        settings = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
        publishers = EmbeddedPublishers(settings, store.identity)
        for _ in range(2):
            await run_jobs(store, 2)
            async with running(relay_of(store, settings, publishers=publishers)):
                await delivered(store)
        expected = await sent_by(store)
        found = await received(settings, sum(map(len, expected.values())))
        assert found == {key: [each.value for each in made] for key, made in expected.items()}
