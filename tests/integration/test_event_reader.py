"""Reading events where only a real Kafka will do: transactions, groups, outages, permissions."""

import asyncio
from datetime import timedelta

from aiokafka import AIOKafkaProducer

from segexport.consume.consumer import EventReader
from segexport.kafka import client_arguments, ensure_topics
from segexport.settings import KafkaSettings
from support.kafka import ClusterFactory, Kafka
from support.waiting import until

AT_ONCE = timedelta(seconds=0.5)


async def write_transactions(settings: KafkaSettings, *transactions: tuple[str, bool]) -> None:
    """One record for each (key, whether it is committed)."""
    async with AIOKafkaProducer(
        **client_arguments(settings, role="test"), transactional_id=f"{settings.topic}-test"
    ) as producer:
        for key, committed in transactions:
            await producer.begin_transaction()
            await producer.send_and_wait(settings.topic, b"{}", key=key.encode(), partition=0)
            await (producer.commit_transaction() if committed else producer.abort_transaction())


async def keys_so_far(settings: KafkaSettings) -> list[str | None]:
    async with EventReader(settings) as reader, asyncio.timeout(20):
        return [one.key async for one in reader.so_far()]


async def test_only_what_was_committed_is_received(kafka_settings: KafkaSettings) -> None:
    await ensure_topics(kafka_settings)
    await write_transactions(
        kafka_settings, ("1", True), ("2", False), ("3", True), ("4", False), ("5", False)
    )
    assert await keys_so_far(kafka_settings) == ["1", "3"]


async def test_so_far_does_not_wait_for_a_transaction_that_is_still_open(
    kafka_settings: KafkaSettings,
) -> None:
    await ensure_topics(kafka_settings)
    await write_transactions(kafka_settings, ("1", True))
    async with AIOKafkaProducer(
        **client_arguments(kafka_settings, role="test"), transactional_id="open"
    ) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(kafka_settings.topic, b"{}", key=b"2", partition=0)
        assert await keys_so_far(kafka_settings) == ["1"]
        await producer.commit_transaction()
    assert await keys_so_far(kafka_settings) == ["1", "2"]


async def test_members_of_a_group_share_the_records(
    kafka: Kafka, kafka_settings: KafkaSettings
) -> None:
    await ensure_topics(kafka_settings)
    received: dict[int, list[str | None]] = {0: [], 1: []}

    async def member(number: int) -> None:
        async with EventReader(kafka_settings, group="shared") as reader:
            async for one in reader.follow():
                received[number].append(one.key)

    members = [asyncio.create_task(member(number)) for number in received]
    sent = 0

    async def both_have_some() -> bool:
        nonlocal sent
        sent += 10
        kafka.produce(
            kafka_settings.topic, [(b"%d" % key, b"{}") for key in range(sent - 10, sent)]
        )
        return all(received.values())

    async def all_is_there() -> bool:
        return len(set(received[0]) | set(received[1])) == sent

    await until(both_have_some, 40, "both members receive records")
    await until(all_is_there, 20, "together they receive all of them")
    for task in members:
        task.cancel()
    await asyncio.gather(*members, return_exceptions=True)


async def test_a_record_that_its_reader_left_half_done_comes_again(
    kafka: Kafka, kafka_settings: KafkaSettings
) -> None:
    await ensure_topics(kafka_settings)
    kafka.produce(kafka_settings.topic, [(b"1", b"{}")])
    for _ in range(2):
        async with EventReader(kafka_settings, group="g") as reader, asyncio.timeout(30):
            async for one in reader.follow():
                assert one.key == "1"
                break
    async with EventReader(kafka_settings, group="g") as reader:
        assert [one.key async for one in reader.follow(until=lambda _: True)] == ["1"]
    async with EventReader(kafka_settings, group="g") as reader:
        within = timedelta(seconds=2)
        assert [one.key async for one in reader.follow(within=within)] == []


async def test_an_outage_only_delays_what_is_followed(kafka_cluster: ClusterFactory) -> None:
    kafka = kafka_cluster()
    settings = KafkaSettings(
        bootstrap_servers=kafka.bootstrap_servers, partitions=1, replication_factor=1
    )
    await ensure_topics(settings)
    kafka.produce(settings.topic, [(b"before", b"{}")])
    keys: list[str | None] = []

    async def follow() -> None:
        async with EventReader(settings) as reader:
            async for one in reader.follow(until=lambda one: one.key == "after"):
                keys.append(one.key)  # noqa: PERF401  (the test looks at them meanwhile)

    following = asyncio.create_task(follow())

    async def has_begun() -> bool:
        return keys == ["before"]

    await until(has_begun, 20, "the reader follows")
    await asyncio.to_thread(kafka.kill)
    await asyncio.to_thread(kafka.start)
    await asyncio.to_thread(kafka.produce, settings.topic, [(b"after", b"{}")])
    await asyncio.wait_for(following, 30)
    assert keys == ["before", "after"]


async def test_a_reader_leaves_in_time_though_the_broker_hangs(
    kafka_cluster: ClusterFactory,
) -> None:
    kafka = kafka_cluster()
    settings = KafkaSettings(
        bootstrap_servers=kafka.bootstrap_servers, partitions=1, replication_factor=1
    )
    await ensure_topics(settings)
    kafka.produce(settings.topic, [(b"1", b"{}"), (b"2", b"{}")])
    async with asyncio.timeout(15):
        async with EventReader(settings) as reader:
            async for _ in reader.follow():
                kafka.pause()
                break
    kafka.resume()
