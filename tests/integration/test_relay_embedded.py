"""Delivery to the broker for trying things, which forgets."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from structlog.testing import capture_logs

from segexport.consume.consumer import EventReader
from segexport.errors import BrokerUnreachable
from segexport.kafka import client_arguments
from segexport.relay import embedded
from segexport.relay import relay as relays
from segexport.relay.embedded import EmbeddedBroker
from segexport.relay.idempotent import EmbeddedPublishers
from segexport.relay.relay import Relay
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
from support.waiting import until


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


@asynccontextmanager
async def mortal(store: SqliteStore) -> AsyncIterator[tuple[EmbeddedBroker, list[str], Relay]]:
    """A broker that may be killed, the addresses that were told, and a relay at work."""
    told: list[str] = []
    async with EmbeddedBroker() as broker:
        settings = KafkaSettings().embedded(broker.bootstrap_servers)
        publishers = EmbeddedPublishers(
            settings,
            store.identity,
            broker,
            lambda moved: told.append(str(moved.bootstrap_servers)),
        )
        async with running(relay_of(store, settings, publishers=publishers)) as relay:
            yield broker, told, relay


def kill(broker: EmbeddedBroker) -> None:
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGKILL)


async def test_a_broker_that_was_killed_gets_an_heir_that_is_sent_everything(
    store: SqliteStore,
) -> None:
    async with mortal(store) as (broker, told, relay):
        for life in (1, 2):
            await run_jobs(store, 2)
            await delivered(store)
            with capture_logs() as logged:
                kill(broker)  # while the relay has nothing to do
                await until(partial(has_moved, told, life), 20, "another broker is there")
            [ended] = [entry for entry in logged if "has ended" in entry["event"]]
            assert (ended["log_level"], ended["exit_status"]) == ("warning", -signal.SIGKILL)
            expected = await sent_by(store)
            found = await received(
                KafkaSettings().embedded(told[-1]), sum(map(len, expected.values()))
            )
            assert found == {key: [each.value for each in made] for key, made in expected.items()}
            await until(lambda: is_well(relay), 20, "the relay says that all is well")


async def has_moved(told: list[str], times: int) -> bool:
    return len(told) == times


async def is_well(relay: Relay) -> bool:
    return (await relay.health()).error is None


async def test_a_broker_that_cannot_be_started_again_is_tried_with_pauses(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "LONGEST_PAUSE", 0.5)
    works = embedded._PROGRAM
    async with mortal(store) as (broker, told, relay):
        await run_jobs(store, 1)
        await delivered(store)
        monkeypatch.setattr(embedded, "_PROGRAM", "raise SystemExit(3)")
        with capture_logs() as logged:
            kill(broker)
            await until(lambda: is_waiting(relay), 20, "the relay waits")
            health = await relay.health()
            monkeypatch.setattr(embedded, "_PROGRAM", works)
            await until(lambda: has_moved(told, 1), 20, "another broker is there")
        assert "kafka." not in str(health.error)
        assert health.error_code == BrokerUnreachable.code
        assert [entry["event"] for entry in logged].count("events wait") == 1
        await until(lambda: is_well(relay), 20, "the relay says that all is well")


async def is_waiting(relay: Relay) -> bool:
    return "no other one can be started" in str((await relay.health()).error)


async def test_a_reader_of_a_broker_that_is_gone_is_not_sent_to_settings_that_nobody_set() -> None:
    async with EmbeddedBroker() as broker:
        settings = KafkaSettings(security_protocol="SSL").embedded(broker.bootstrap_servers)
    with pytest.raises(BrokerUnreachable, match="segexport serve") as told:
        async with EventReader(settings):
            pass
    assert "kafka." not in str(told.value)
