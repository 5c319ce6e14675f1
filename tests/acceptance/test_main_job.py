"""The main job on a real Kafka: exports run, and readers that are not ours receive their events."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest
from structlog.testing import capture_logs

from segexport.events.contract import Contract, Verdict, judge
from segexport.events.service_event import STATUS
from segexport.events.vocabulary import SEGMENT_EXPORT_JOB
from segexport.exports.dataset import Datasets
from segexport.jobs.job import Job, Scope
from segexport.jobs.lifecycle import JobState
from segexport.jobs.reading import parse_request
from segexport.service import Parts, commands_of, running
from segexport.settings import KafkaSettings, Settings
from support.deliveries import delivered, require_same, sent_by
from support.kafka import ClusterFactory, Kafka
from support.waiting import until

SCOPE = Scope("local", "prod")
PLAIN = {
    "fields": "person.name,personalEmail.address",
    "filter": {"segments": [{"segmentId": "loyalty-gold"}]},
    "destination": {"datasetId": "gold"},
}
JOURNEY = {
    "filter": {"segments": [{"segmentId": "loyalty-gold"}, {"segmentId": "newsletter-gold"}]},
    "destination": {"datasetId": "spring"},
    "journey": {"versionId": "v3", "namespace": "Email", "testMode": True},
}


@pytest.fixture
def settings(tmp_path: Path, sample: Path, kafka_settings: KafkaSettings) -> Settings:
    return Settings(data=tmp_path / "data", profiles=sample, kafka=kafka_settings)


async def ended(parts: Parts, *jobs: Job) -> list[Job]:
    """The jobs once all have ended."""

    async def all_have() -> bool:
        return all([(await parts.store.get(SCOPE, job.id)).is_terminal for job in jobs])

    await until(all_have, 60, "all jobs have ended")
    return [await parts.store.get(SCOPE, job.id) for job in jobs]


async def run(parts: Parts, settings: Settings, *requests: dict[str, Any]) -> list[Job]:
    """Submit all, and wait for all to end."""
    commands = commands_of(settings, parts.store)
    jobs = [(await commands.submit(SCOPE, parse_request(each))).job for each in requests]
    return await ended(parts, *jobs)


async def test_foreign_readers_receive_the_events_of_real_exports(
    settings: Settings, kafka: Kafka
) -> None:
    occupied = settings.datasets_folder / "local" / "prod" / "occupied"
    occupied.parent.mkdir(parents=True)
    occupied.touch()
    async with running(settings) as parts:
        exported, journey, failed = await run(
            parts, settings, PLAIN, JOURNEY, {"destination": {"datasetId": "occupied"}}
        )
        await delivered(parts.store)
        expected = await sent_by(parts.store)

    assert [job.state for job in (exported, journey, failed)] == [
        JobState.COMPLETED,
        JobState.COMPLETED,
        JobState.FAILED,
    ]
    assert journey.counts is not None
    assert journey.counts.failed > 100
    assert set(expected) == {str(job.id).encode() for job in (exported, journey, failed)}

    topic, count = settings.kafka.topic, sum(map(len, expected.values()))
    received = await asyncio.to_thread(kafka.read, topic, at_least=count)
    require_same(expected, received)
    printed = await asyncio.to_thread(kafka.console_consume, topic, count=count)
    require_same(expected, printed)

    told: dict[bytes | None, list[str | None]] = {}
    for record in received:
        document = orjson.loads(record.value or b"")
        assert judge(document, Contract.EMITTED).verdict is Verdict.VALID
        told.setdefault(record.key, []).append(document[SEGMENT_EXPORT_JOB].get(STATUS))
    assert told[str(exported.id).encode()] == ["queued", "started", "finished"]
    assert told[str(failed.id).encode()] == ["queued", "finished"]
    first, second, *discards, last = told[str(journey.id).encode()]
    assert (first, second, last) == ("queued", "started", "finished")
    assert discards == [None] * journey.counts.failed


async def test_counts_in_store_dataset_and_events_are_the_same(settings: Settings) -> None:
    async with running(settings) as parts:
        (job,) = await run(parts, settings, JOURNEY)
        expected = await sent_by(parts.store)
    assert job.publication is not None
    assert job.counts is not None
    dataset = Datasets(settings.datasets_folder).dataset(SCOPE, "spring")
    batch = dataset.batch(job.publication.batches[0].id)
    batch.verify()
    with duckdb.connect() as database:
        ((rows,),) = database.execute(f"SELECT count(*) FROM {batch.relation}").fetchall()
    records = expected[str(job.id).encode()]
    finished = orjson.loads(records[-1].value)[SEGMENT_EXPORT_JOB]
    told = [value for key, value in sorted(finished.items()) if "exportCount" in key]
    assert rows == job.counts.realized
    assert told == [job.counts.failed, job.counts.realized, job.counts.total]
    assert len(records) == job.events == job.counts.failed + 3


async def test_while_kafka_is_away_jobs_go_on_and_their_events_follow(
    tmp_path: Path,
    sample: Path,
    kafka_cluster: ClusterFactory,
    topic: str,
) -> None:
    cluster = kafka_cluster()
    kafka = KafkaSettings(
        bootstrap_servers=cluster.bootstrap_servers,
        topic=topic,
        partitions=2,
        replication_factor=1,
    )
    settings = Settings(data=tmp_path / "data", profiles=sample, kafka=kafka)
    cluster.stop()
    with capture_logs() as logged:
        async with running(settings) as parts:
            (job,) = await run(parts, settings, PLAIN)
            assert job.state is JobState.COMPLETED
            assert (await parts.store.backlog()).delivered == 0
            await asyncio.to_thread(cluster.start)
            await delivered(parts.store, patience=40)
            expected = await sent_by(parts.store)
    require_same(expected, await asyncio.to_thread(cluster.read, topic, at_least=3))
    said = [entry["event"] for entry in logged]
    assert said.count("events wait") == 1
    assert "events are delivered again" in said


async def test_after_a_stop_in_mid_work_another_service_finishes_the_job(
    settings: Settings, kafka: Kafka
) -> None:
    async with running(settings) as parts:
        commands = commands_of(settings, parts.store)
        job = (await commands.submit(SCOPE, parse_request(JOURNEY))).job
        seen = 0
        while (await parts.store.get(SCOPE, job.id)).state is JobState.CREATED:
            seen = await parts.store.wait_for_change(seen, timedelta(seconds=5))
    async with running(settings) as parts:
        (job,) = await ended(parts, job)
        await delivered(parts.store)
        expected = await sent_by(parts.store)
    assert job.state is JobState.COMPLETED
    received = await asyncio.to_thread(kafka.read, settings.kafka.topic, at_least=job.events)
    require_same(expected, received)
