"""A relay that sleeps while it takes over, and wakes up to find that another one has delivered."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from structlog.testing import capture_logs

from segexport.errors import PositionMismatch, RelayFenced
from segexport.relay import resume
from segexport.relay.position import Position, missing
from segexport.relay.relay import Relay
from segexport.relay.resume import set_position
from segexport.relay.transactional import TransactionalPublisher
from segexport.settings import KafkaSettings
from segexport.store.sqlite import SqliteStore
from support.deliveries import delivered, relay_of, require_exactly_once, run_jobs, running
from support.kafka import Kafka
from support.waiting import until

SHORT: Final = timedelta(seconds=1)


class SleepyStore(SqliteStore):
    """A store that its relay does not reach for its lease while it sleeps."""

    awake: asyncio.Event

    async def lead(self, owner: str, duration: timedelta) -> int | None:
        await self.awake.wait()
        return await super().lead(owner, duration)


class SleepyPublisher(TransactionalPublisher):
    """Falls asleep once it has read the position."""

    def __init__(
        self,
        settings: KafkaSettings,
        awake: asyncio.Event,
        then: Callable[[Position | None], Position | None],
    ) -> None:
        super().__init__(settings)
        self._awake = awake
        self._then = then
        self.asleep = asyncio.Event()

    async def start(self, check: Callable[[Position], None] | None = None) -> Position | None:
        position = await super().start(check)
        self._awake.clear()
        self.asleep.set()
        await self._awake.wait()
        return self._then(position)


@pytest.fixture
async def sleepy(store: SqliteStore, tmp_path: Path) -> AsyncIterator[SleepyStore]:
    """Another way into the same store."""
    opened = await SleepyStore.open(tmp_path / "jobs.sqlite")
    assert opened.identity == store.identity
    opened.awake = asyncio.Event()
    opened.awake.set()
    yield opened
    await opened.close()


def goes_on(position: Position | None) -> Position | None:
    return position


def contradicts(position: Position | None) -> Position | None:
    assert position is None
    raise missing(delivered=3)


@pytest.mark.parametrize("then", [goes_on, contradicts])
async def test_a_relay_that_oversleeps_its_take_over_of_a_new_topic_stands_by(
    kafka: Kafka,
    kafka_settings: KafkaSettings,
    store: SqliteStore,
    sleepy: SleepyStore,
    then: Callable[[Position | None], Position | None],
) -> None:
    first = SleepyPublisher(kafka_settings, sleepy.awake, then)
    publishers = iter([first])
    oversleeping = relay_of(
        sleepy,
        kafka_settings,
        owner="oversleeping",
        lease=SHORT,
        publishers=lambda: next(publishers, None) or TransactionalPublisher(kafka_settings),
    )
    await run_jobs(store, 1)
    heir = relay_of(store, kafka_settings, owner="heir", lease=SHORT)
    with capture_logs() as logged:
        async with running(oversleeping):
            await asyncio.wait_for(first.asleep.wait(), 20)
            async with running(heir):
                await delivered(store)
                sleepy.awake.set()
                await until(lambda: stands_by(logged), 20, "the first relay has noticed")
                await run_jobs(store, 1)
                await delivered(store)
            await run_jobs(store, 1)
            await delivered(store)
            assert await leads(oversleeping)
    await require_exactly_once(kafka, kafka_settings, store)


async def stands_by(logged: Sequence[Mapping[str, object]]) -> bool:
    return any(entry["event"] == "this relay stands by" for entry in logged)


async def leads(relay: Relay) -> bool:
    return (await relay.health()).leads


async def test_a_mark_without_a_position_stops_the_relay_that_still_leads(
    kafka_settings: KafkaSettings, store: SqliteStore
) -> None:
    await run_jobs(store, 1)
    epoch = await store.lead("before", SHORT)
    assert epoch is not None
    await store.mark_delivered("before", epoch, 3)
    await store.resign("before")
    with pytest.raises(PositionMismatch, match="no position"):
        await relay_of(store, kafka_settings).run()


async def test_a_position_that_is_set_too_late_is_not_set(
    kafka: Kafka,
    kafka_settings: KafkaSettings,
    store: SqliteStore,
    sleepy: SleepyStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resume, "_LEASE", SHORT)
    await run_jobs(store, 1)
    person = SleepyPublisher(kafka_settings, sleepy.awake, goes_on)
    setting = asyncio.create_task(set_position(sleepy, person, owner="person", number=2))
    await asyncio.wait_for(person.asleep.wait(), 20)
    async with running(relay_of(store, kafka_settings)):
        await delivered(store)
        sleepy.awake.set()
        with pytest.raises(RelayFenced, match="took over before the position was set"):
            await setting
        await run_jobs(store, 1)
        await delivered(store)
    await require_exactly_once(kafka, kafka_settings, store)
