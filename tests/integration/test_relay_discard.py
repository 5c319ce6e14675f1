"""A producer that is thrown away leaves nothing behind, whatever state it is in."""

import asyncio
import gc
import time

import pytest
from aiokafka import AIOKafkaProducer

from segexport.kafka import client_arguments, ensure_topics
from segexport.relay.discard import PATIENCE, discard, take_note
from segexport.settings import KafkaSettings
from support.kafka import Cluster, ClusterFactory


@pytest.fixture
async def cluster(kafka_cluster: ClusterFactory) -> Cluster:
    return kafka_cluster()


async def producer_in_transaction(kafka: Cluster) -> AIOKafkaProducer:
    settings = KafkaSettings(
        bootstrap_servers=kafka.bootstrap_servers, partitions=3, replication_factor=1
    )
    await ensure_topics(settings)
    producer = AIOKafkaProducer(
        **client_arguments(settings, role="test"), transactional_id="a", linger_ms=0
    )
    await producer.start()
    await producer.begin_transaction()
    for partition in range(3):
        await send(producer, settings.topic, partition)
    return producer


async def send(producer: AIOKafkaProducer, topic: str, partition: int) -> None:
    batch = producer.create_batch()
    batch.append(timestamp=None, key=b"k", value=b"v" * 100_000)
    sending = await producer.send_batch(batch, topic, partition=partition)
    sending.add_done_callback(take_note)


@pytest.mark.parametrize("state", ["sound", "sending", "unanswered", "committing", "fenced"])
async def test_no_task_no_connection_and_no_complaint_is_left(
    cluster: Cluster, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = asyncio.all_tasks()
    producer = await producer_in_transaction(cluster)
    if state in {"sound", "fenced"}:
        await producer.commit_transaction()
    if state == "fenced":
        heir = await producer_in_transaction(cluster)
        await producer.begin_transaction()
        await send(producer, KafkaSettings().topic, 0)
        await asyncio.sleep(0.5)
        await discard(heir)
    if state in {"unanswered", "committing"}:
        cluster.pause()
        await asyncio.sleep(0.2)
    committing = None
    if state == "committing":
        committing = asyncio.ensure_future(producer.commit_transaction())
        await asyncio.sleep(0.2)
        committing.cancel()
        await asyncio.wait({committing})
    began = time.monotonic()
    await discard(producer)
    assert time.monotonic() - began < 2 * PATIENCE
    cluster.resume()
    await asyncio.sleep(0.1)
    assert asyncio.all_tasks() == before
    del producer, committing
    gc.collect()  # what was left open would warn now, and a warning fails the test
    assert [each.message for each in caplog.records if each.name == "asyncio"] == []
