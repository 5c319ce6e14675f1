"""Reading events does the same on Apache Kafka and on the broker for trying things."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest
from aiokafka import AIOKafkaProducer

from segexport.consume.consumer import EventReader, Start
from segexport.consume.received import Received
from segexport.errors import BrokerUnreachable, TopicUnusable
from segexport.events.contract import Verdict
from segexport.events.vocabulary import SEGMENT_EXPORT_JOB, SERVICE_EVENTS
from segexport.kafka import client_arguments, ensure_topics
from segexport.relay.embedded import EmbeddedBroker
from segexport.settings import KafkaSettings
from support.kafka.cluster import free_ports

HALF_A_SECOND = timedelta(seconds=0.5)
FOR_EVER = timedelta(seconds=60)
HAPPENED = datetime(2026, 3, 1, 12, 30, 15, 250_000, UTC)


@pytest.fixture(params=[pytest.param("kafka", marks=pytest.mark.kafka), "embedded"])
async def settings(request: pytest.FixtureRequest, topic: str) -> AsyncIterator[KafkaSettings]:
    """A topic that is there, on either broker."""
    if request.param == "kafka":
        settings: KafkaSettings = request.getfixturevalue("kafka_settings")
        await ensure_topics(settings)
        yield settings
    else:
        async with EmbeddedBroker() as broker:
            settings = KafkaSettings(bootstrap_servers=broker.bootstrap_servers, topic=topic)
            async with AIOKafkaProducer(**client_arguments(settings, role="test")) as producer:
                await producer.partitions_for(topic)
            yield settings


def event(job: str, status: str) -> bytes:
    said = {"ID": job, "status": status, "eventType": "info"}
    return json.dumps(
        {SEGMENT_EXPORT_JOB: {SERVICE_EVENTS + k: v for k, v in said.items()}}
    ).encode()


async def write(settings: KafkaSettings, *events: tuple[str, bytes | None]) -> None:
    arguments = client_arguments(settings, role="test")
    async with AIOKafkaProducer(**arguments, enable_idempotence=True) as producer:
        for job, value in events:
            await producer.send_and_wait(
                settings.topic,
                value,
                key=job.encode(),
                timestamp_ms=int(HAPPENED.timestamp() * 1000),
                headers=[("ce_subject", job.encode()), ("ce_type", "größer".encode())],
            )


async def read(
    settings: KafkaSettings,
    until: Callable[[Received], bool] | None = None,
    idle: timedelta = FOR_EVER,
    **options: object,
) -> list[Received]:
    async with EventReader(settings, **options) as reader, asyncio.timeout(30):  # type: ignore[arg-type]
        return [one async for one in reader.follow(until=until, idle=idle)]


def is_last(received: Received) -> bool:
    return received.key == "last"


LAST = ("last", event("9", "queued"))


async def test_a_record_arrives_with_everything_that_was_sent(settings: KafkaSettings) -> None:
    await write(settings, ("7", event("7", "started")))
    (one,) = await read(settings, until=lambda _: True)
    assert one.topic == settings.topic
    assert one.key == "7"
    assert one.value == event("7", "started")
    assert one.document == json.loads(event("7", "started"))
    assert one.headers == {"ce_subject": "7", "ce_type": "größer"}
    assert one.timestamp == HAPPENED
    assert one.judgement.verdict is Verdict.VALID


async def test_what_a_job_says_arrives_in_order(settings: KafkaSettings) -> None:
    said = [(str(job), event(str(job), f"{n}")) for n in range(20) for job in range(5)]
    await write(settings, *said)
    async with EventReader(settings) as reader:
        received = [one async for one in reader.so_far()]
    assert len(received) == len(said)
    for job in range(5):
        mine = [(one.key, one.value) for one in received if one.key == str(job)]
        assert mine == [each for each in said if each[0] == str(job)]


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (event("1", "queued"), Verdict.VALID),
        (event("1", "queued").replace(b'"1"', b"1"), Verdict.INVALID),
        (b"{}", Verdict.SAYS_NOTHING),
        (b"not json", Verdict.INVALID),
        (b"\xff\xfe", Verdict.INVALID),
        (b"", Verdict.INVALID),
        (None, Verdict.SAYS_NOTHING),
    ],
)  # fmt: skip
async def test_whatever_lies_in_the_topic_is_judged_and_shown(
    settings: KafkaSettings, value: bytes | None, verdict: Verdict
) -> None:
    await write(settings, ("1", value))
    (one,) = await read(settings, until=lambda _: True)
    assert one.judgement.verdict is verdict
    assert one.judgement.findings or verdict is Verdict.VALID
    assert (one.value or None) == (value or None)


async def test_from_now_on_leaves_out_what_was_there(settings: KafkaSettings) -> None:
    await write(settings, ("old", event("1", "queued")))
    async with EventReader(settings, start=Start.NOW) as reader:
        # Written after entering and before the first fetch: now is when the reader came.
        await write(settings, ("new", event("2", "queued")), LAST)
        async with asyncio.timeout(30):
            keys = {one.key async for one in reader.follow(idle=timedelta(seconds=2))}
    assert keys == {"new", "last"}


async def test_it_ends_when_nothing_comes_any_more(settings: KafkaSettings) -> None:
    await write(settings, LAST)
    assert [one.key for one in await read(settings, idle=HALF_A_SECOND)] == ["last"]


async def test_it_ends_in_time_even_while_records_come(settings: KafkaSettings) -> None:
    ended = asyncio.Event()

    async def keep_writing() -> None:
        while not ended.is_set():
            await write(settings, LAST)

    await write(settings, LAST)
    writing = asyncio.create_task(keep_writing())
    try:
        async with EventReader(settings) as reader, asyncio.timeout(20):
            assert [one async for one in reader.follow(within=timedelta(seconds=1.5))]
    finally:
        ended.set()
        await writing


async def test_so_far_ends_at_the_end_even_of_an_empty_topic(settings: KafkaSettings) -> None:
    async with EventReader(settings) as reader, asyncio.timeout(20):
        assert [one async for one in reader.so_far()] == []
        await write(settings, LAST)
        assert [one.key async for one in reader.so_far()] == ["last"]
        assert [one async for one in reader.so_far()] == []


async def test_a_group_goes_on_where_it_stopped(settings: KafkaSettings) -> None:
    await write(settings, ("1", event("1", "queued")), ("1", event("1", "started")))
    first = await read(settings, until=lambda _: True, group="g")
    assert [one.value for one in first] == [event("1", "queued")]
    second = await read(settings, until=lambda _: True, group="g")
    assert [one.value for one in second] == [event("1", "started")]


async def test_a_topic_that_appears_late_is_waited_for(settings: KafkaSettings) -> None:
    late = settings.model_copy(update={"topic": f"{settings.topic}-late"})
    reading = asyncio.create_task(read(late, until=is_last))
    await asyncio.wait({reading}, timeout=0.3)
    assert not reading.done()
    if settings.replication_factor == 1:
        await ensure_topics(late)
    await write(late, LAST)
    assert [one.key for one in await reading] == ["last"]


async def test_a_topic_that_never_appears_is_said_and_not_made(settings: KafkaSettings) -> None:
    missing = settings.model_copy(update={"topic": f"{settings.topic}-missing"})
    for _ in range(2):
        with pytest.raises(TopicUnusable, match=r"-missing'.*kafka\.topic"):
            await read(missing, patience=HALF_A_SECOND)


async def test_no_broker_is_said() -> None:
    (port,) = free_ports(1)
    with pytest.raises(BrokerUnreachable, match=str(port)):
        await read(KafkaSettings(bootstrap_servers=f"127.0.0.1:{port}"))
