"""What goes wrong between a relay and a real Kafka, and what becomes of it."""

import asyncio
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import Producer
from structlog.testing import capture_logs

from segexport.errors import PositionMismatch
from segexport.kafka import client_arguments
from segexport.relay.relay import Relay
from segexport.relay.schedule import Bounds
from segexport.relay.sending import REFUSALS
from segexport.relay.transactional import TransactionalPublisher
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
from support.kafka import ClusterFactory, Kafka
from support.relay_process import Order, start_process
from support.waiting import until

IMPATIENT: Final = timedelta(seconds=4)
"""A transaction timeout for tests: the relay gives up after half of it."""

OLD: Final = datetime(2020, 2, 2, tzinfo=UTC)


@pytest.fixture
def impatient(kafka_settings: KafkaSettings) -> KafkaSettings:
    return kafka_settings.model_copy(update={"transaction_timeout": IMPATIENT})


def settings_for(kafka: Kafka, topic: str) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=kafka.bootstrap_servers,
        topic=topic,
        partitions=2,
        replication_factor=1,
        transaction_timeout=IMPATIENT,
    )


async def parked(store: SqliteStore, count: int) -> bool:
    return len(await store.parked()) == count


# Records that the broker refuses


async def test_a_record_that_the_broker_refuses_is_not_lost_and_holds_up_only_its_job(
    kafka: Kafka, kafka_settings: KafkaSettings, store: SqliteStore
) -> None:
    settings = kafka_settings
    kafka.create_topic(
        settings.topic, partitions=settings.partitions, config={"max.message.bytes": "8000"}
    )
    others = await run_jobs(store, 3)
    fat = await complete(store, await submit(store, large_request(60_000)))
    others += await run_jobs(store, 3)
    async with running(relay_of(store, settings)):
        await until(lambda: parked(store, 1), 20, "the fat event is parked")
        await delivered(store)
        [refused] = await store.parked()
        assert refused.job_id == fat.id
        assert "MESSAGE_SIZE_TOO_LARGE" in refused.reason
        arrived = await asyncio.to_thread(kafka.read, settings.topic, at_least=3 * len(others))
        assert {record.key for record in arrived} == {b"%d" % each.id for each in others}

        kafka.alter_topic(settings.topic, "max.message.bytes", "1000000")
        await store.request_replay(fat.id)
        await until(lambda: parked(store, 0), 20, "the replay is answered")
        await require_exactly_once(kafka, settings, store)


async def test_a_limit_that_is_lowered_while_the_relay_runs_parks_only_what_is_too_large(
    kafka: Kafka, kafka_settings: KafkaSettings, store: SqliteStore, tmp_path: Path
) -> None:
    settings = kafka_settings.model_copy(update={"compression": "none"})
    async with running(relay_of(store, settings)):
        await run_jobs(store, 1)
        await delivered(store)
        kafka.alter_topic(settings.topic, "max.message.bytes", "8000")
        fat = await submit(store, large_request(20_000))
        await complete(store, await submit(store), discard_file(tmp_path, 200))
        await run_jobs(store, 20)
        await until(lambda: parked(store, 1), 20, "the fat event is parked")
        await delivered(store)
        assert [each.job_id for each in await store.parked()] == [fat.id]
        kafka.alter_topic(settings.topic, "max.message.bytes", "1000000")
        await store.request_replay(fat.id)
        await until(lambda: parked(store, 0), 20, "the replay is answered")
        await require_exactly_once(kafka, settings, store)


async def test_an_event_that_the_broker_finds_invalid_is_searched_for_and_parked(
    kafka: Kafka, kafka_settings: KafkaSettings, store: SqliteStore
) -> None:
    # The topic takes no records from a year ago; the batch as a whole says INVALID_TIMESTAMP.
    kafka.create_topic(
        kafka_settings.topic,
        partitions=kafka_settings.partitions,
        config={"message.timestamp.before.max.ms": str(365 * 86_400_000)},
    )
    good = await run_jobs(store, 10)
    old = await submit(store, created_at=OLD)
    good += await run_jobs(store, 10)
    async with running(relay_of(store, kafka_settings)):
        await until(lambda: parked(store, 1), 20, "the old event is parked")
        await delivered(store)
    [refused] = await store.parked()
    assert refused.job_id == old.id
    arrived = await asyncio.to_thread(kafka.read, kafka_settings.topic, at_least=3 * len(good))
    assert {record.key for record in arrived} == {b"%d" % each.id for each in good}


async def test_a_verdict_that_aiokafka_does_not_know_is_understood(
    kafka: Kafka, kafka_settings: KafkaSettings
) -> None:
    # A compacted topic has no use for a record without a key: INVALID_RECORD.
    kafka.create_topic(kafka_settings.topic, config={"cleanup.policy": "compact"})
    arguments = client_arguments(kafka_settings, role="test")
    async with AIOKafkaProducer(**arguments, enable_idempotence=True) as producer:
        with pytest.raises(REFUSALS) as refusal:
            await producer.send_and_wait(kafka_settings.topic, b"value")
    assert refusal.value.message == "INVALID_RECORD"


# Outcomes that nobody learns of


class Deaf(AIOKafkaProducer):  # type: ignore[misc]  # aiokafka is untyped
    """Its nth commit is never heard of again: the request was lost, or its answer was."""

    commits = 0

    def __init__(self, lost: Literal["request", "answer"], nth: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._lost, self._nth = lost, nth

    async def commit_transaction(self) -> None:
        Deaf.commits += 1
        if Deaf.commits != self._nth:
            await super().commit_transaction()
            return
        if self._lost == "answer":
            await super().commit_transaction()
        await asyncio.Event().wait()


@pytest.mark.parametrize("lost", ["request", "answer"])
async def test_a_commit_whose_outcome_is_unknown_neither_loses_nor_repeats(
    kafka: Kafka,
    impatient: KafkaSettings,
    store: SqliteStore,
    tmp_path: Path,
    lost: Literal["request", "answer"],
) -> None:
    Deaf.commits, nth = 0, 2
    await complete(store, await submit(store), discard_file(tmp_path, 500))
    await run_jobs(store, 3)
    publishers = partial(TransactionalPublisher, impatient, producer=partial(Deaf, lost, nth))
    await deliver_all(store, impatient, publishers=publishers, bounds=Bounds(size=200_000))
    assert Deaf.commits > nth
    await require_exactly_once(kafka, impatient, store)


async def test_a_broker_that_hangs_in_the_middle_is_left_and_delivery_resumes_by_itself(
    kafka_cluster: ClusterFactory, store: SqliteStore, tmp_path: Path
) -> None:
    kafka = kafka_cluster()
    settings = settings_for(kafka, "events")
    await complete(store, await submit(store), discard_file(tmp_path, 3_000))
    relay = relay_of(store, settings, bounds=Bounds(size=100_000))
    async with running(relay):
        await until(lambda: some_delivered(relay), 20, "delivery has begun")
        kafka.pause()
        await run_jobs(store, 2)
        await until(lambda: in_trouble(relay), 20, "the relay has noticed")
        kafka.resume()
        await delivered(store, patience=40)
        assert (await relay.health()).error is None
        await require_exactly_once(kafka, settings, store)


async def some_delivered(relay: Relay) -> bool:
    health = await relay.health()
    return health.transactions > 1


async def in_trouble(relay: Relay) -> bool:
    return (await relay.health()).error is not None


# Outages


async def test_while_the_broker_is_away_jobs_go_on_and_the_log_says_so_once(
    kafka_cluster: ClusterFactory, store: SqliteStore
) -> None:
    kafka = kafka_cluster()
    settings = settings_for(kafka, "events")
    relay = relay_of(store, settings)
    with capture_logs() as logged:
        async with running(relay):
            await run_jobs(store, 2)
            await delivered(store)
            # A single broker of Kafka 4.3 that dies before it has written a transaction's markers
            # never writes them (docs/delivery.md, "A transaction without an end").
            await require_exactly_once(kafka, settings, store)
            kafka.kill()
            await run_jobs(store, 2)
            await until(lambda: in_trouble(relay), 20, "the relay has noticed")
            await asyncio.sleep(2)  # several attempts
            health = await relay.health()
            assert health.waiting == 6
            assert health.error is not None
            assert kafka.bootstrap_servers in health.error
            await asyncio.to_thread(kafka.start)
            await delivered(store, patience=40)
            assert (await relay.health()).error is None
            await require_exactly_once(kafka, settings, store)
    said = [entry["event"] for entry in logged]
    assert said.count("events wait") == 1
    assert said.count("events are delivered again") == 1


async def test_a_broker_that_is_away_at_the_start_is_waited_for(
    kafka_cluster: ClusterFactory, store: SqliteStore
) -> None:
    kafka = kafka_cluster()
    settings = settings_for(kafka, "events")
    await asyncio.to_thread(kafka.stop)
    await run_jobs(store, 2)
    relay = relay_of(store, settings)
    async with running(relay):
        await until(lambda: in_trouble(relay), 20, "the relay has noticed")
        await asyncio.to_thread(kafka.start)
        await delivered(store, patience=40)
        await require_exactly_once(kafka, settings, store)


async def test_certificates_that_cannot_be_read_meanwhile_are_waited_for(
    kafka: Kafka, kafka_settings: KafkaSettings, store: SqliteStore, tmp_path: Path
) -> None:
    lost = kafka_settings.model_copy(
        update={"security_protocol": "SSL", "ssl_cafile": tmp_path / "being-renewed.pem"}
    )
    inner = iter([TransactionalPublisher(lost), TransactionalPublisher(lost)])
    await run_jobs(store, 1)
    relay = relay_of(
        store,
        kafka_settings,
        publishers=lambda: next(inner, None) or TransactionalPublisher(kafka_settings),
    )
    with capture_logs() as logged:
        async with running(relay):
            await delivered(store)
    assert any("kafka.ssl_cafile" in str(entry.get("reason")) for entry in logged)
    await require_exactly_once(kafka, kafka_settings, store)


async def test_a_transactional_id_that_the_broker_has_forgotten_is_no_error_for_anybody(
    kafka_cluster: ClusterFactory, store: SqliteStore
) -> None:
    kafka = kafka_cluster(
        properties={
            "transactional.id.expiration.ms": "1000",
            "transaction.remove.expired.transaction.cleanup.interval.ms": "300",
            "producer.id.expiration.ms": "1000",
            "producer.id.expiration.check.interval.ms": "300",
        }
    )
    settings = settings_for(kafka, "events")
    async with running(relay_of(store, settings)):
        await run_jobs(store, 2)
        await delivered(store)
        await asyncio.sleep(3)  # a week, for this broker
        await run_jobs(store, 2)
        await delivered(store)
        await require_exactly_once(kafka, settings, store)


async def test_brokers_that_die_in_turn_while_jobs_go_on_lose_and_repeat_nothing(
    kafka_cluster: ClusterFactory, store: SqliteStore
) -> None:
    kafka = kafka_cluster(nodes=3)
    settings = settings_for(kafka, "events").model_copy(
        update={"replication_factor": 3, "transaction_timeout": timedelta(seconds=12)}
    )
    async with running(relay_of(store, settings)):
        await run_jobs(store, 1)
        for node in (1, 2, 3):
            load = asyncio.create_task(run_jobs(store, 30))
            await asyncio.sleep(0.2)
            kafka.kill(node)
            await load
            await run_jobs(store, 1)
            await delivered(store, patience=60)
            await asyncio.to_thread(kafka.start, node)
        await require_exactly_once(kafka, settings, store)


# Other relays


async def test_a_standby_takes_over_when_the_leader_is_killed(
    kafka: Kafka, kafka_settings: KafkaSettings, store: SqliteStore, tmp_path: Path
) -> None:
    await run_jobs(store, 2)
    leader = await start_process(
        Order(
            store=str(tmp_path / "jobs.sqlite"),
            kafka=kafka_settings.model_dump(mode="json", exclude_none=True),
            owner="leader",
            lease=2.0,
            forever=True,
        )
    )
    await delivered(store)
    standby = relay_of(store, kafka_settings, owner="standby", lease=timedelta(seconds=2))
    async with running(standby):
        await run_jobs(store, 2)
        await delivered(store)
        assert not (await standby.health()).leads
        leader.kill()
        await leader.wait()
        await run_jobs(store, 2)
        await delivered(store)
        assert (await standby.health()).leads
    await require_exactly_once(kafka, kafka_settings, store)


async def test_a_relay_that_wakes_up_after_its_lease_has_passed_changes_nothing(
    kafka: Kafka, kafka_settings: KafkaSettings, store: SqliteStore, tmp_path: Path
) -> None:
    await complete(store, await submit(store), discard_file(tmp_path, 20_000))
    zombie = await start_process(
        Order(
            store=str(tmp_path / "jobs.sqlite"),
            kafka=kafka_settings.model_dump(mode="json", exclude_none=True),
            owner="zombie",
            lease=1.0,
            transaction_size=100_000,
            forever=True,
        )
    )
    await until(lambda: marked(store), 20, "delivery has begun")
    zombie.send_signal(signal.SIGSTOP)
    heir = relay_of(store, kafka_settings, owner="heir", lease=timedelta(seconds=1))
    async with running(heir):
        await delivered(store, patience=60)
        zombie.send_signal(signal.SIGCONT)
        for _ in range(5):
            await run_jobs(store, 2)
            await delivered(store)
            await asyncio.sleep(0.3)
        zombie.kill()
        await zombie.wait()
        await run_jobs(store, 2)
        await delivered(store)
    await require_exactly_once(kafka, kafka_settings, store)


async def marked(store: SqliteStore) -> bool:
    return (await store.backlog()).delivered > 0


# Positions that must not be trusted


async def test_the_position_of_another_store_stops_the_relay(
    kafka_settings: KafkaSettings, store: SqliteStore, tmp_path: Path
) -> None:
    other = await SqliteStore.open(tmp_path / "other.sqlite")
    await run_jobs(other, 1)
    await deliver_all(other, kafka_settings)
    await other.close()
    await run_jobs(store, 1)
    with pytest.raises(PositionMismatch, match=rf"{other.identity.id}.*{store.identity.id}"):
        await relay_of(store, kafka_settings).run()


async def test_the_position_of_another_life_of_the_store_stops_the_relay(
    kafka_settings: KafkaSettings, store: SqliteStore
) -> None:
    await run_jobs(store, 1)
    await deliver_all(store, kafka_settings)
    await store.raise_generation()
    with pytest.raises(PositionMismatch, match="generation"):
        await relay_of(store, kafka_settings).run()


async def test_a_topic_without_position_is_not_sent_everything_again(
    kafka_settings: KafkaSettings, store: SqliteStore
) -> None:
    await run_jobs(store, 1)
    await deliver_all(store, kafka_settings)
    elsewhere = kafka_settings.model_copy(update={"topic": kafka_settings.topic + "-new"})
    with pytest.raises(PositionMismatch, match="no position"):
        await relay_of(store, elsewhere).run()


async def test_a_position_hidden_behind_an_open_transaction_is_waited_for(
    kafka: Kafka, impatient: KafkaSettings, store: SqliteStore
) -> None:
    await run_jobs(store, 1)
    await deliver_all(store, impatient)
    stranger = Producer(
        {"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": "stranger"}
    )
    stranger.init_transactions(10)
    stranger.begin_transaction()
    stranger.produce(impatient.positions_topic, key=b"x", value=b"not a position")
    stranger.flush(10)
    await run_jobs(store, 1)
    relay = relay_of(store, impatient)
    async with running(relay):
        await until(lambda: in_trouble(relay), 20, "the relay waits")
        assert "a transaction behind that has no end" in str((await relay.health()).error)
        stranger.abort_transaction(10)
        await delivered(store)
    await require_exactly_once(kafka, impatient, store)


# Python without assertions


def test_the_relay_refuses_to_run_where_assertions_are_off() -> None:
    program = (
        "import asyncio\n"
        "from segexport.relay.relay import Relay\n"
        "async def main(): Relay(None, None, source='', owner='')\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-O", "-c", program],
        env={**os.environ, "PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "start Python without -O" in done.stderr
