"""A worker carries jobs to their end: what is in the dataset, the store and the events."""

import asyncio
import itertools
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import duckdb
import pytest

from segexport.clerk import JobDocument
from segexport.cli.present import print_status
from segexport.commands import Checked, advance
from segexport.errors import EngineError, StoreUnavailable, TooLateToCancel
from segexport.events.service_event import STEP_EVENTS, STEP_PROCESSING_TIME
from segexport.events.vocabulary import OWN
from segexport.exports.publishing import DiscardFolder
from segexport.exports.workbench import Workbench
from segexport.exports.worker import Worker
from segexport.jobs import job as steps
from segexport.jobs.job import FaultKind, Job, Scope
from segexport.jobs.lifecycle import JobState
from segexport.jobs.publication import Counts
from segexport.profiles.snapshots import ProfileStore
from segexport.settings import Settings
from segexport.store.discards import DiscardReader
from segexport.store.store import JobStore
from support.people import Person, write_crowd, write_snapshot
from support.stuck import Blind, Failing, Gate, Through, gated, is_reached
from support.waiting import until, wait_until
from support.workplace import DATASET, GOLD, JOURNEY, PEOPLE, SCOPE, Workplace, request_for

ELSEWHERE = Scope("elsewhere", "prod")
NEVER = datetime.max.replace(tzinfo=UTC)
NEWER = "00000002-20260301T130000Z"
WHOLE_LIFE = ["queued", "started", "finished"]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Workplace]:
    place = await Workplace.open(tmp_path)
    write_snapshot(place.settings.profiles_folder, PEOPLE, buckets=4)
    yield place
    await place.store.close()


def query(sql: str) -> list[Any]:
    with duckdb.connect() as database:
        return database.execute(sql).fetchall()


def with_exports(place: Workplace, **changes: Any) -> Settings:
    """The settings of the place with other ones for exports."""
    exports = place.settings.exports.model_copy(update=changes)
    return place.settings.model_copy(update={"exports": exports})


async def assert_published_once(place: Workplace, job: Job) -> None:
    """The job's 20 members of the gold segment are in one batch, and nothing is left over."""
    job = await place.job(job)
    assert job.state is JobState.COMPLETED
    assert job.counts == Counts(total=20, realized=20, failed=0)
    (batch,) = place.dataset.batches()
    batch.verify()
    found = query(f"SELECT person.name.lastName FROM {batch.relation} ORDER BY 1")
    assert found == sorted((f"n{number}",) for number in range(1, 41, 2))
    assert await place.told(job) == WHOLE_LIFE
    assert not place.left_behind()


async def assert_ended_without_a_trace(place: Workplace, job: Job, kind: FaultKind) -> Job:
    """The job has told why it ended, and has published nothing."""
    job = await place.job(job)
    assert job.fault is not None
    assert job.fault.kind is kind
    assert job.counts is not None
    assert job.counts.realized == 0
    assert not place.dataset.batches()
    assert not place.left_behind()
    told = await place.told(job)
    assert told in (WHOLE_LIFE, ["queued", "finished"])
    return job


# What comes out


async def test_an_export_ends_as_a_batch_with_exact_counts(place: Workplace) -> None:
    async with place.working():
        job = await place.ended(await place.submit(request_for(GOLD)))
    await assert_published_once(place, job)
    manifest = place.dataset.batches()[0].manifest
    assert manifest.job == job.id
    assert manifest.counts.namespaces == {"Email": 16}
    assert [column.name for column in manifest.columns] == [
        "person_id",
        "consents",
        "homeAddress",
        "loyalty",
        "person",
        "personalEmail",
        "tags",
        "identityMap",
    ]


async def test_the_end_of_a_job_tells_what_lies_in_the_dataset(place: Workplace) -> None:
    blue = ("ups", "blue")
    people = [*PEOPLE, Person(41, memberships={GOLD: "realized", blue: "realized"})]
    write_snapshot(place.settings.profiles_folder, people, buckets=4, snapshot_id=NEWER)
    asked = request_for(blue, GOLD)
    per_batch = asked.destination.model_copy(update={"segment_per_batch": True})
    started = datetime.now(UTC)
    async with place.working():
        job = await place.submit(asked.model_copy(update={"destination": per_batch}))
        job = await place.ended(job)
    took = datetime.now(UTC) - started
    batches = {batch.manifest.batch: batch for batch in place.dataset.batches()}
    told = await place.last_event(job)
    assert told[OWN + "dataset"] == DATASET
    first, second = (batches[name] for name in told[OWN + "batches"])
    segments = [batch.manifest.segment or {} for batch in (first, second)]
    assert [segment["segmentId"] for segment in segments] == ["blue", "gold"]
    files = [file for batch in (first, second) for file in batch.manifest.files]
    assert told[OWN + "rows"] == sum(file.rows for file in files) == 1 + 21
    on_disk = [path.stat().st_size for path in place.settings.datasets_folder.glob("**/*.parquet")]
    assert told[OWN + "bytes"] == sum(on_disk)
    assert told[OWN + "attempt"] == 1
    processing = told[STEP_EVENTS][STEP_PROCESSING_TIME]
    assert 0 <= processing <= told[OWN + "duration"] <= took / timedelta(milliseconds=1) + 1


async def test_a_journey_leaves_a_discard_for_each_profile_that_it_cannot_take(
    place: Workplace,
) -> None:
    async with place.working():
        job = await place.ended(await place.submit(request_for(GOLD, journey=JOURNEY)))
    assert job.state is JobState.COMPLETED
    assert job.publication is not None
    assert job.publication.discards is not None
    with DiscardReader(job.publication.discards) as reader:
        discards = reader.read(100)
    assert job.counts == Counts(total=20, realized=20 - len(discards), failed=len(discards))
    assert [row[2] for row in discards] == sorted(
        (row[2] for row in discards), key=lambda person: (person % 4, person)
    )
    assert {row[3] for row in discards} == {
        "ERROR_INSTANCE_NO_IDENTITY_MAP",
        "ERROR_INSTANCE_DUPLICATION",
    }
    assert await place.told(job) == ["queued", "started", "discards", "finished"]
    assert not place.left_behind()


async def test_an_export_of_nobody_is_a_batch_with_columns_and_no_rows(place: Workplace) -> None:
    async with place.working():
        job = await place.ended(await place.submit(request_for(GOLD, status=["exited"])))
    assert job.counts == Counts(total=0, realized=0, failed=0)
    (batch,) = place.dataset.batches()
    batch.verify()
    assert query(f"SELECT count(*), any_value(person) FROM {batch.relation}") == [(0, None)]


async def test_several_jobs_run_at_once_and_each_has_its_batch(place: Workplace) -> None:
    async with place.working():
        submitted = [await place.submit(request_for(GOLD)) for _ in range(6)]
        ended = [await place.ended(job) for job in submitted]
    assert {job.state for job in ended} == {JobState.COMPLETED}
    batches = place.dataset.batches()
    assert sorted(batch.manifest.job for batch in batches) == sorted(job.id for job in ended)
    for batch in batches:
        batch.verify()


async def test_a_job_keeps_its_snapshot_when_a_newer_one_appears(place: Workplace) -> None:
    gate = Gate("run_piece", nth=2)
    async with place.working(place.new_worker(change=gated(gate))):
        job = await place.submit(request_for(GOLD))
        await is_reached(gate)
    write_snapshot(place.settings.profiles_folder, [Person(1)], snapshot_id=NEWER)
    async with place.working(place.new_worker("two")):
        job = await place.ended(job)
    await assert_published_once(place, job)


# Cancelling

PHASES = ["reach", "prepare", "run_piece", "join_discards"]


@pytest.mark.parametrize("phase", PHASES)
async def test_a_cancel_is_honoured_within_a_second(place: Workplace, phase: str) -> None:
    gate = Gate(phase, nth=3 if phase == "run_piece" else 1)
    async with place.working(place.new_worker(change=gated(gate))):
        job = await place.submit(request_for(GOLD, journey=JOURNEY))
        await is_reached(gate)
        asked = time.monotonic()
        await place.commands.cancel(SCOPE, job.id)
        job = await place.reached(job, JobState.CANCELLED)
        assert time.monotonic() - asked < 1
    job = await assert_ended_without_a_trace(place, job, FaultKind.CANCELLED)
    announced = 0 if phase == "reach" else 20  # nothing is known before it has started
    assert job.counts == Counts(total=announced, realized=0, failed=announced)


@pytest.mark.parametrize("place_of_call", ["processing", "publishing"])
async def test_a_cancel_does_not_wait_for_the_checksum_of_a_large_file(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, place_of_call: str
) -> None:
    reached = threading.Event()

    def endless(_file: Path, go_on: Callable[[], None]) -> str:
        reached.set()
        while True:
            go_on()
            time.sleep(0.01)

    monkeypatch.setattr(f"segexport.exports.{place_of_call}.fingerprint", endless)
    async with place.working():
        job = await place.submit(request_for(GOLD, journey=JOURNEY))
        assert await asyncio.to_thread(reached.wait, 20)
        asked = time.monotonic()
        await place.commands.cancel(SCOPE, job.id)
        job = await place.reached(job, JobState.CANCELLED)
        assert time.monotonic() - asked < 1
    await assert_ended_without_a_trace(place, job, FaultKind.CANCELLED)


async def test_a_cancel_does_not_wait_for_a_profile_store_that_hangs(place: Workplace) -> None:
    gate = Gate("latest")

    def change(bench: Workbench) -> Workbench:
        through = cast("ProfileStore", Through(bench.profiles, gate.passing))
        return replace(bench, profiles=through)

    async with place.working(place.new_worker(change=change)):
        job = await place.submit(request_for(GOLD))
        await is_reached(gate)
        asked = time.monotonic()
        await place.commands.cancel(SCOPE, job.id)
        await place.reached(job, JobState.CANCELLED)
        assert time.monotonic() - asked < 1
        gate.opened.set()
    await assert_ended_without_a_trace(place, job, FaultKind.CANCELLED)


async def test_a_running_query_is_cancelled_within_a_second(place: Workplace) -> None:
    write_crowd(place.settings.profiles_folder, count=3_000_000, snapshot_id=NEWER)
    async with place.working() as worker:
        job = await place.submit(request_for())

        async def is_running() -> bool:
            return any(attempt._progress() > 0 for attempt in worker._running.values())

        await until(is_running, 30, "a query makes progress")
        asked = time.monotonic()
        await place.commands.cancel(SCOPE, job.id)
        await place.reached(job, JobState.CANCELLED)
        assert time.monotonic() - asked < 1
    await assert_ended_without_a_trace(place, job, FaultKind.CANCELLED)


async def test_progress_is_told_while_a_job_runs(place: Workplace) -> None:
    place = replace(place, settings=with_exports(place, pieces_in_flight=1))
    gate = Gate("run_piece", nth=4)
    async with place.working(place.new_worker(change=gated(gate))):
        job = await place.submit(request_for(GOLD))

        async def is_told() -> bool:
            return (await place.store.work([job.id]))[job.id].progress == 3 / 4

        await until(is_told, 10, "three of four pieces are noted")
        gate.opened.set()
        await place.ended(job)


async def test_a_cancel_during_publication_comes_too_late(place: Workplace) -> None:
    gate = Gate("sweep")  # the last step of a publication

    def change(bench: Workbench) -> Workbench:
        through = cast("DiscardFolder", Through(bench.discards, gate.passing))
        return replace(bench, discards=through)

    async with place.working(place.new_worker(change=change)):
        job = await place.submit(request_for(GOLD))
        await is_reached(gate)
        with pytest.raises(TooLateToCancel):
            await place.commands.cancel(SCOPE, job.id)
        gate.opened.set()
        job = await place.ended(job)
    await assert_published_once(place, job)


async def test_a_cancel_that_races_the_end_has_one_winner(place: Workplace) -> None:
    async with place.working():
        for pause in range(12):
            job = await place.submit(request_for(GOLD))
            await asyncio.sleep(pause * 0.02)
            try:
                await place.commands.cancel(SCOPE, job.id)
            except TooLateToCancel:
                assert (await place.ended(job)).state is JobState.COMPLETED
            job = await place.ended(job)
            assert (await place.told(job)).count("finished") == 1
            published = [b for b in place.dataset.batches() if b.manifest.job == job.id]
            assert len(published) == (job.state is JobState.COMPLETED)


# Faults


async def test_a_profile_store_that_is_not_there_fails_the_job_after_its_attempts(
    tmp_path: Path,
) -> None:
    place = await Workplace.open(tmp_path)
    place = replace(
        place, commands=replace(place.commands, check=lambda _, request: Checked(request))
    )
    async with place.working():
        job = await place.ended(await place.submit(request_for(GOLD)))
    job = await assert_ended_without_a_trace(place, job, FaultKind.UNREACHABLE)
    assert job.attempts == 2
    told = await place.last_event(job)
    assert (told[OWN + "attempt"], told[OWN + "fault"]) == (2, "unreachable")
    assert job.fault is not None
    assert "profiles that the export is to read are missing" in job.fault.message
    assert job.fault.detail is not None
    assert "segexport profiles load" in job.fault.detail
    await place.store.close()


async def test_a_profile_store_that_comes_back_lets_the_job_succeed(place: Workplace) -> None:
    profiles = place.settings.profiles_folder
    job = await place.submit(request_for(GOLD))
    profiles.rename(profiles.with_name("away"))
    async with place.working():
        job = await place.reached(job, JobState.PENDING_JOB)
        profiles.with_name("away").rename(profiles)
        job = await place.ended(job)
    assert job.attempts == 2
    await assert_published_once(place, job)


async def test_a_corrupt_profile_store_fails_the_job_at_once(place: Workplace) -> None:
    job = await place.submit(request_for(GOLD))
    for manifest in place.settings.profiles_folder.glob("*/snapshot.json"):
        manifest.write_bytes(b"{")
    async with place.working():
        job = await place.ended(job)
    job = await assert_ended_without_a_trace(place, job, FaultKind.UNREACHABLE)
    assert job.attempts == 1


async def test_a_segment_that_vanished_fails_the_job(place: Workplace) -> None:
    job = await place.submit(request_for(GOLD))
    write_snapshot(place.settings.profiles_folder, [Person(1)], snapshot_id=NEWER)
    async with place.working():
        job = await place.ended(job)
    job = await assert_ended_without_a_trace(place, job, FaultKind.FAILED)
    assert job.fault is not None
    assert "no longer fits snapshot 00000002" in job.fault.message
    assert "'gold'" in job.fault.message


async def test_a_dataset_that_cannot_be_written_fails_the_job_at_once(place: Workplace) -> None:
    place.dataset.folder.replace(b"a file where the folder should be")
    async with place.working():
        job = await place.ended(await place.submit(request_for(GOLD)))
    job = await assert_ended_without_a_trace(place, job, FaultKind.FAILED)
    assert job.attempts == 1
    assert job.fault is not None
    assert "cannot be written" in job.fault.message
    assert job.fault.detail is not None
    assert "cannot be written" in job.fault.detail
    assert "permissions" in job.fault.detail


async def test_a_piece_that_fails_for_a_moment_is_run_again(place: Workplace) -> None:
    failing = Failing("run_piece", EngineError("a hiccup"), times=2)
    async with place.working(place.new_worker(change=failing.engine)):
        job = await place.ended(await place.submit(request_for(GOLD)))
    assert job.attempts == 1
    await assert_published_once(place, job)


async def test_a_piece_that_fails_now_and_then_is_run_again(place: Workplace) -> None:
    place = replace(place, settings=with_exports(place, pieces_in_flight=1))
    failing = Failing("run_piece", EngineError("a longer hiccup"), times=4, after=2)
    async with place.working(place.new_worker(change=failing.engine)):
        job = await place.ended(await place.submit(request_for(GOLD)))
    assert job.attempts == 1
    await assert_published_once(place, job)
    assert failing.calls == 2 + 4 + 2
    failures = (await place.store.failures([job.id]))[job.id]
    assert [(each.piece, each.attempt) for each in failures] == [
        (2, 1),
        (2, 2),
        (2, 3),
        (2, 4),
    ]


async def test_a_piece_out_of_tries_fails_its_job_with_the_reason(
    place: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = Failing("run_piece", EngineError("it hurts"), times=1000)
    place = replace(place, settings=with_exports(place, pieces_in_flight=1, piece_tries=3))
    async with place.working(place.new_worker(change=failing.engine)):
        job = await place.ended(await place.submit(request_for(GOLD)))
    job = await assert_ended_without_a_trace(place, job, FaultKind.FAILED)
    assert job.fault is not None
    assert job.fault.detail == "piece 0 has failed 3 times, at last because: it hurts"
    public = "a query of the export went wrong"
    assert job.fault.message.startswith(f"piece 0 has failed 3 times, at last because: {public};")
    assert job.attempts == 1
    status = await place.commands.status(SCOPE, job.id)
    document = JobDocument.of(status)
    assert [failure.message for failure in status.failures] == [public] * 3
    print_status(document, job.fault.detail)
    shown = capsys.readouterr().out
    assert f"try 3: {public}" in shown
    assert "at last because: it hurts" in shown
    ended, *met = document.document()["errors"]
    assert ended == {"code": "failed", "message": job.fault.message}
    assert [(one["code"], one["piece"], one["attempt"]) for one in met] == [
        ("piece", 0, tried) for tried in (1, 2, 3)
    ]


@pytest.mark.parametrize("jitter", [0.0, 1.0])
async def test_tries_of_a_piece_are_further_and_further_apart(
    place: Workplace, jitter: float
) -> None:
    delay = timedelta(milliseconds=100)
    place = replace(place, settings=with_exports(place, piece_delay=delay, piece_tries=4))
    failing = Failing("run_piece", EngineError("it hurts"), times=3)
    place = replace(place, settings=with_exports(place, pieces_in_flight=1))

    def steady(bench: Workbench) -> Workbench:
        return replace(failing.engine(bench), jitter=lambda: jitter)

    async with place.working(place.new_worker(change=steady)):
        job = await place.ended(await place.submit(request_for(GOLD)))
    moments = [each.failed_at for each in (await place.store.failures([job.id]))[job.id]]
    first, second = (later - earlier for earlier, later in itertools.pairwise(moments))
    longer = delay * (1 + jitter / 2)
    assert longer <= first
    assert 2 * longer <= second


async def test_an_organization_runs_no_more_jobs_than_it_may_and_the_rest_waits(
    place: Workplace,
) -> None:
    place = replace(place, settings=with_exports(place, jobs_per_organization=2))
    gate = Gate("run_piece")
    async with place.working(place.new_worker(change=gated(gate))):
        jobs = [await place.submit(request_for(GOLD)) for _ in range(4)]
        await is_reached(gate)
        for job in jobs[2:]:
            await place.reached(job, JobState.PENDING_JOB)
        foreign = (await place.commands.submit(ELSEWHERE, request_for(GOLD))).job

        async def has_begun() -> bool:
            return (await place.store.get(ELSEWHERE, foreign.id)).attempts == 1

        await until(has_begun, 10, "the other organization's job runs beside them")
        waiting = [(await place.job(job)).state for job in jobs[2:]]
        assert waiting == [JobState.PENDING_JOB] * 2
        gate.opened.set()
        for job in jobs:
            ended = await place.ended(job)
            assert ended.state is JobState.COMPLETED
            assert await place.told(job) == WHOLE_LIFE


async def test_a_job_that_waits_for_its_turn_beyond_its_deadline_ends(place: Workplace) -> None:
    place = replace(place, settings=with_exports(place, jobs_per_organization=1))
    gate = Gate("run_piece")
    async with place.working(place.new_worker(change=gated(gate))):
        await place.submit(request_for(GOLD))
        await is_reached(gate)
        submission = await place.commands.submit(
            SCOPE, request_for(GOLD), deadline=timedelta(milliseconds=500)
        )
        job = await place.ended(submission.job, patience=10)
        assert job.fault is not None
        assert job.fault.kind is FaultKind.DEADLINE
        assert await place.told(job) == ["queued", "finished"]
        gate.opened.set()


async def test_jobs_take_turns_with_their_pieces(place: Workplace) -> None:
    place = replace(place, settings=with_exports(place, pieces_in_flight=1))
    gate = Gate("run_piece")
    async with place.working(place.new_worker(change=gated(gate))):
        first = await place.submit(request_for(GOLD))
        await is_reached(gate)
        second = await place.submit(request_for(GOLD))
        await place.reached(second, JobState.PROCESSING)
        gate.opened.set()
        for job in (first, second):
            await place.ended(job)
    turns = [
        (piece.saved_at or NEVER, job.id)
        for job in (first, second)
        for piece in await place.store.pieces(job.id)
    ]
    order = [job_id for _, job_id in sorted(turns)]
    assert order.index(second.id) < len(order) - 1 - order[::-1].index(first.id)


async def test_status_tells_rows_pace_and_what_is_left(place: Workplace) -> None:
    place = replace(place, settings=with_exports(place, pieces_in_flight=1))
    gate = Gate("run_piece", nth=3)
    async with place.working(place.new_worker(change=gated(gate))):
        job = await place.submit(request_for(GOLD))
        await is_reached(gate)

        async def two_are_saved() -> bool:
            return len(await place.store.pieces(job.id)) == 2

        await until(two_are_saved, 10, "two pieces are saved")
        status = await place.commands.status(SCOPE, job.id)
        rows = sum(piece.selected for piece in await place.store.pieces(job.id))
        assert (status.pieces_done, status.rows) == (2, rows)
        assert rows > 0
        assert status.exported == rows
        assert set(status.namespaces.values()) <= set(range(1, rows + 1))
        assert status.namespaces
        assert status.rate is not None
        assert status.remaining is not None
        estimate = status.job.estimate or 0
        assert status.remaining == pytest.approx((estimate - rows) / status.rate)
        gate.opened.set()
        await place.ended(job)
    status = await place.commands.status(SCOPE, job.id)
    assert (status.rate, status.remaining, status.progress) == (None, None, 1.0)
    publication = status.job.publication
    assert publication is not None
    assert (status.exported, status.namespaces) == (
        publication.counts.realized,
        publication.namespaces,
    )


async def test_a_job_that_takes_too_long_ends_at_its_deadline(place: Workplace) -> None:
    gate = Gate("run_piece")
    place = replace(place, commands=replace(place.commands, deadline=timedelta(seconds=1)))
    async with place.working(place.new_worker(change=gated(gate))):
        job = await place.ended(await place.submit(request_for(GOLD)), patience=5)
    job = await assert_ended_without_a_trace(place, job, FaultKind.DEADLINE)
    assert await place.told(job) == WHOLE_LIFE


async def test_a_job_whose_deadline_passed_while_it_waited_never_starts(place: Workplace) -> None:
    place = replace(place, commands=replace(place.commands, deadline=timedelta(milliseconds=1)))
    job = await place.submit(request_for(GOLD))
    await asyncio.sleep(0.01)
    async with place.working():
        job = await place.ended(job)
    job = await assert_ended_without_a_trace(place, job, FaultKind.DEADLINE)
    assert await place.told(job) == ["queued", "finished"]


# Stopping, and taking over


async def test_a_stopped_worker_hands_its_job_back_and_the_next_one_goes_on(
    place: Workplace,
) -> None:
    place = replace(place, settings=with_exports(place, pieces_in_flight=1))
    gate = Gate("run_piece", nth=3)
    async with place.working(place.new_worker(change=gated(gate))):
        job = await place.submit(request_for(GOLD))
        await is_reached(gate)
    handed_back = await place.job(job)
    assert (handed_back.state, handed_back.owner) == (JobState.PROCESSING, None)
    assert len(await place.store.pieces(job.id)) == 2
    async with place.working(place.new_worker("two")):
        job = await place.ended(job)
    assert [piece.epoch for piece in await place.store.pieces(job.id)] == [1, 1, 2, 2]
    await assert_published_once(place, job)


async def test_pieces_that_run_may_end_within_the_grace_of_a_stop(place: Workplace) -> None:
    place = replace(place, settings=with_exports(place, pieces_in_flight=1))
    gate = Gate("run_piece")
    worker = place.new_worker(change=gated(gate))
    running = asyncio.create_task(worker.run())
    job = await place.submit(request_for(GOLD))
    await is_reached(gate)
    worker.stop(timedelta(seconds=20))
    await asyncio.sleep(0.05)
    gate.opened.set()
    await asyncio.wait_for(running, 10)
    assert len(await place.store.pieces(job.id)) == 1
    assert (await place.job(job)).owner is None


async def test_a_cancelled_worker_hands_its_job_back_too(place: Workplace) -> None:
    gate = Gate("run_piece")
    running = asyncio.create_task(place.new_worker(change=gated(gate)).run())
    job = await place.submit(request_for(GOLD))
    await is_reached(gate)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await place.job(job)).owner is None


def blind(bench: Workbench) -> Workbench:
    return replace(bench, store=cast("JobStore", Blind(bench.store)))


@pytest.mark.parametrize("awakes", ["in the middle", "too late"])
async def test_a_worker_that_has_lost_its_lease_writes_nothing_more(
    place: Workplace, awakes: str
) -> None:
    """A worker stands still until its lease has run out, goes on, and is refused."""
    place = replace(place, settings=with_exports(place, pieces_in_flight=1, jobs_in_flight=1))
    frozen_gate, lively_gate = Gate("run_piece"), Gate("run_piece", nth=2)
    frozen = place.new_worker("frozen", lambda bench: blind(gated(frozen_gate)(bench)))
    lively = place.new_worker("lively", gated(lively_gate))
    async with place.working(frozen):
        job = await place.submit(request_for(GOLD))
        await is_reached(frozen_gate)
        async with place.working(lively):
            await is_reached(lively_gate)
            if awakes == "in the middle":
                frozen_gate.opened.set()
                await until(nothing_runs(frozen), 10, "the frozen worker gives up")
            lively_gate.opened.set()
            job = await place.ended(job)
            frozen_gate.opened.set()
            await until(nothing_runs(frozen), 10, "the frozen worker gives up")
    assert job.epoch == 2
    await assert_published_once(place, job)


def nothing_runs(worker: Worker) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        return not worker._running

    return holds


async def test_a_worker_that_notices_its_lost_lease_stops_at_once(place: Workplace) -> None:
    gate = Gate("run_piece")
    worker = place.new_worker(change=gated(gate))
    async with place.working(worker):
        job = await place.submit(request_for(GOLD))
        await is_reached(gate)
        with sqlite3.connect(place.settings.store_file) as database:
            database.execute("UPDATE jobs SET epoch = epoch + 1, owner = 'a thief'")
        await until(nothing_runs(worker), 5, "the worker lets the job go")
    assert (await place.job(job)).owner == "a thief"


async def test_a_piece_whose_files_have_vanished_is_run_again(place: Workplace) -> None:
    place = replace(place, settings=with_exports(place, pieces_in_flight=1))
    gate = Gate("run_piece", nth=4)
    async with place.working(place.new_worker(change=gated(gate))):
        job = await place.submit(request_for(GOLD))
        await is_reached(gate)
    staging = place.dataset.staging(job.id)
    (staging / next(name for name in staging.sizes() if name.startswith("part-00001-"))).unlink()
    async with place.working(place.new_worker("two")):
        job = await place.ended(job)
    assert [piece.epoch for piece in await place.store.pieces(job.id)] == [1, 2, 1, 2]
    await assert_published_once(place, job)


async def test_a_job_that_brings_its_workers_down_is_given_up(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segexport.exports.attempt.TAKEOVERS", 2)
    job = await place.submit(request_for(GOLD))
    for number in range(3):
        claimed = await place.store.claim(f"victim {number}", timedelta(microseconds=1), limit=100)
        assert claimed is not None
        if number == 0:
            await advance(place.store, place.voice, claimed, steps.claim)
    async with place.working():
        job = await place.ended(job)
    job = await assert_ended_without_a_trace(place, job, FaultKind.FAILED)
    assert job.fault is not None
    assert "2 workers" in job.fault.message


async def test_what_a_cancelled_job_has_left_in_staging_is_swept(place: Workplace) -> None:
    job = await place.submit(request_for(GOLD))
    other = await place.submit(request_for(GOLD))
    await place.commands.cancel(SCOPE, job.id)
    (place.dataset.staging(job.id) / "part-00000-e1.parquet").replace(b"left")
    unknown = place.dataset.staging(99)
    unknown.open("begun")
    async with place.working():
        await place.ended(other)
        await asyncio.to_thread(
            wait_until, lambda: not place.dataset.staging(job.id).exists(), 10, "it is swept"
        )
    assert unknown.exists()  # it may be another store's


async def test_a_store_that_is_away_for_a_moment_does_not_end_the_worker(
    place: Workplace,
) -> None:
    away = Failing("claim", StoreUnavailable("away"), times=2)
    async with place.working(place.new_worker(change=away.store)):
        job = await place.ended(await place.submit(request_for(GOLD)))
    await assert_published_once(place, job)
