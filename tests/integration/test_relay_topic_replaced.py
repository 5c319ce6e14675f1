"""An events topic that is not the one that events were delivered to stops the relay."""

import asyncio
from datetime import timedelta
from typing import Any

import orjson
import pytest
from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import AdminClient

from segexport.errors import PositionMismatch
from segexport.kafka import cluster, ensure_topics
from segexport.relay.parcel import partition_of
from segexport.relay.position import Position
from segexport.relay.position_log import last_position
from segexport.relay.relay import Relay
from segexport.relay.resume import set_position
from segexport.relay.transactional import TransactionalPublisher
from segexport.settings import KafkaSettings
from segexport.store.sqlite import SqliteStore
from support.deliveries import (
    deliver_all,
    delivered,
    large_request,
    relay_of,
    require_exactly_once,
    run_jobs,
    submit,
)
from support.kafka import Kafka


async def require_stopped(relay: Relay) -> None:
    async with asyncio.timeout(60):
        with pytest.raises(PositionMismatch, match=r"made anew.*set-position"):
            await relay.run()


def make_anew(kafka: Kafka, settings: KafkaSettings) -> None:
    kafka.delete_topic(settings.topic)
    kafka.create_topic(settings.topic, partitions=settings.partitions)


async def say(store: SqliteStore, settings: KafkaSettings, number: int) -> None:
    await set_position(store, TransactionalPublisher(settings), owner="person", number=number)


@pytest.mark.parametrize("made_by", ["somebody", "the relay"])
async def test_a_topic_that_was_made_anew_while_the_service_was_stopped_stops_the_relay(
    kafka: Kafka, kafka_settings: KafkaSettings, store: SqliteStore, made_by: str
) -> None:
    await run_jobs(store, 2)
    await deliver_all(store, kafka_settings)
    kafka.delete_topic(kafka_settings.topic)
    if made_by == "somebody":
        kafka.create_topic(kafka_settings.topic, partitions=kafka_settings.partitions)
    await run_jobs(store, 1)
    await require_stopped(relay_of(store, kafka_settings))
    assert kafka.read(kafka_settings.topic) == []

    await say(store, kafka_settings, 0)
    await deliver_all(store, kafka_settings)
    await require_exactly_once(kafka, kafka_settings, store)


async def test_a_topic_that_was_made_anew_and_filled_by_others_stops_the_relay(
    kafka: Kafka, kafka_settings: KafkaSettings, store: SqliteStore
) -> None:
    await run_jobs(store, 1)
    await deliver_all(store, kafka_settings)
    make_anew(kafka, kafka_settings)
    kafka.produce(kafka_settings.topic, [(b"%d" % key, b"{}") for key in range(50)])
    await require_stopped(relay_of(store, kafka_settings))


async def test_a_topic_that_was_made_anew_while_the_relay_runs_stops_it_before_it_commits(
    kafka: Kafka, kafka_settings: KafkaSettings, store: SqliteStore
) -> None:
    relay = relay_of(store, kafka_settings)
    working = asyncio.create_task(relay.run())
    await run_jobs(store, 5)
    await delivered(store)
    make_anew(kafka, kafka_settings)
    await run_jobs(store, 5)
    with pytest.raises(PositionMismatch, match="made anew"):
        await asyncio.wait_for(working, 60)
    assert kafka.read(kafka_settings.topic) == []


async def test_a_record_at_the_beginning_of_a_partition_is_believed_if_the_topic_is_the_same(
    kafka: Kafka, kafka_settings: KafkaSettings, store: SqliteStore
) -> None:
    """Partitions are begun one after the other, and a topic made anew is noticed by any."""
    first = await submit(store)
    begun = partition_of(b"%d" % first.id, kafka_settings.partitions)
    working = asyncio.create_task(relay_of(store, kafka_settings).run())
    await delivered(store)
    second = await submit(store)
    while partition_of(b"%d" % second.id, kafka_settings.partitions) == begun:
        second = await submit(store)
    await delivered(store)
    await require_exactly_once(kafka, kafka_settings, store)
    used = {begun, partition_of(b"%d" % second.id, kafka_settings.partitions)}
    make_anew(kafka, kafka_settings)
    while partition_of(b"%d" % (await submit(store)).id, kafka_settings.partitions) in used:
        pass
    with pytest.raises(PositionMismatch, match="made anew"):
        await asyncio.wait_for(working, 60)


async def test_a_topic_that_is_deleted_while_the_relay_runs_stops_it(
    kafka: Kafka, kafka_settings: KafkaSettings, store: SqliteStore
) -> None:
    settings = kafka_settings.model_copy(update={"transaction_timeout": timedelta(seconds=4)})
    working = asyncio.create_task(relay_of(store, settings).run())
    await run_jobs(store, 1)
    await delivered(store)
    kafka.delete_topic(settings.topic)
    await run_jobs(store, 1)
    with pytest.raises(PositionMismatch, match="made anew"):
        await asyncio.wait_for(working, 60)


async def test_a_topic_that_retention_has_emptied_is_the_same(
    kafka: Kafka, kafka_settings: KafkaSettings, store: SqliteStore
) -> None:
    await run_jobs(store, 1)
    await deliver_all(store, kafka_settings)
    admin = AdminClient({"bootstrap.servers": kafka.admin_servers})
    ends = [
        TopicPartition(kafka_settings.topic, number, OFFSET_END)
        for number in range(kafka_settings.partitions)
    ]
    for future in admin.delete_records(ends).values():
        future.result(10)
    assert kafka.read(kafka_settings.topic) == []
    job = await submit(store)
    await deliver_all(store, kafka_settings)
    (record,) = kafka.read(kafka_settings.topic, at_least=1)
    assert record.key == b"%d" % job.id


async def test_a_topic_that_was_never_sent_anything_may_be_made_anew(
    kafka: Kafka, kafka_settings: KafkaSettings, store: SqliteStore
) -> None:
    kafka.create_topic(
        kafka_settings.topic,
        partitions=kafka_settings.partitions,
        config={"max.message.bytes": "8000"},
    )
    await submit(store, large_request(60_000))
    await deliver_all(store, kafka_settings)
    assert len(await store.parked()) == 1
    make_anew(kafka, kafka_settings)
    job = await submit(store)
    await deliver_all(store, kafka_settings)
    (record,) = kafka.read(kafka_settings.topic, at_least=1)
    assert record.key == b"%d" % job.id


@pytest.mark.parametrize("ids", [True, False])
async def test_a_position_that_was_set_on_a_new_topic_is_gone_on_from(
    kafka: Kafka,
    kafka_settings: KafkaSettings,
    store: SqliteStore,
    monkeypatch: pytest.MonkeyPatch,
    ids: bool,
) -> None:
    if not ids:
        without_ids(monkeypatch)
    await run_jobs(store, 1)
    await say(store, kafka_settings, 3)
    await deliver_all(store, kafka_settings)
    assert kafka.read(kafka_settings.topic) == []
    job = await submit(store)
    await deliver_all(store, kafka_settings)
    (record,) = kafka.read(kafka_settings.topic, at_least=1)
    assert record.key == b"%d" % job.id


def without_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with brokers before Kafka 2.8."""

    def prepare(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(cluster._TopicIds, "prepare", prepare)


async def test_without_ids_an_empty_topic_is_noticed(
    kafka: Kafka,
    kafka_settings: KafkaSettings,
    store: SqliteStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_ids(monkeypatch)
    assert (await ensure_topics(kafka_settings)).id is None
    await run_jobs(store, 1)
    await deliver_all(store, kafka_settings)
    await deliver_all(store, kafka_settings)
    make_anew(kafka, kafka_settings)
    await require_stopped(relay_of(store, kafka_settings))


class OfBefore(Position):
    """A position as versions wrote it that knew nothing of topics."""

    def encode(self) -> bytes:
        document: dict[str, Any] = orjson.loads(super().encode())
        del document["topic"], document["sent"]
        return orjson.dumps(document)


async def test_a_position_of_a_version_without_topics_is_gone_on_from_and_completed(
    kafka: Kafka, kafka_settings: KafkaSettings, store: SqliteStore
) -> None:
    await run_jobs(store, 1)
    await deliver_all(store, kafka_settings)
    await write(kafka_settings, OfBefore(store=store.identity, number=3))
    assert await last_position(kafka_settings) == Position(
        store=store.identity, number=3, sent=True
    )
    await run_jobs(store, 1)
    await deliver_all(store, kafka_settings)
    await require_exactly_once(kafka, kafka_settings, store)
    position = await last_position(kafka_settings)
    assert position is not None
    assert position.topic == (await ensure_topics(kafka_settings)).id

    await write(kafka_settings, OfBefore(store=store.identity, number=6))
    make_anew(kafka, kafka_settings)
    await require_stopped(relay_of(store, kafka_settings))


async def write(settings: KafkaSettings, position: Position) -> None:
    publisher = TransactionalPublisher(settings)
    await publisher.start()
    await publisher.publish(publisher.parcel(), position)
    await publisher.close()
