"""What can be asked of jobs, over a real store."""

import asyncio
import itertools
import sqlite3
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from segexport.commands import Checked, Commands, advance, random_job_id
from segexport.errors import (
    IllegalTransition,
    InvalidEvent,
    InvalidRequest,
    JobNotFound,
    LeaseLost,
    Problem,
    RequestConflict,
    StoreUnavailable,
    TooLateToCancel,
)
from segexport.events.announcement import Voice
from segexport.jobs import job as steps
from segexport.jobs.job import MAX_JOB_ID, Fault, FaultKind, Job, Scope
from segexport.jobs.lifecycle import JobState
from segexport.jobs.publication import Counts, Publication, PublishedBatch
from segexport.jobs.reading import parse_request
from segexport.jobs.request import ExportRequest
from segexport.store.sqlite import SqliteStore
from segexport.store.store import Failure, FinishedPart, FinishedPiece, Lease

HERE = Scope("acme", "prod")
ELSEWHERE = Scope("other", "prod")
LEASE = timedelta(seconds=30)


def request(**changes: Any) -> ExportRequest:
    return parse_request(
        {
            "destination": {"datasetId": "d1"},
            "filter": {"segments": [{"segmentId": "gold"}]},
            **changes,
        }
    )


def only_gold(_: Scope, wanted: ExportRequest) -> Checked:
    problems = [
        Problem(f"filter.segments.{index}.segmentId", f"no segment {segment.segment_id!r}")
        for index, segment in enumerate(wanted.filter.segments)
        if segment.segment_id != "gold"
    ]
    return Checked(wanted.with_policy("latest", 3), problems)


@pytest.fixture
def commands(store: SqliteStore) -> Commands:
    ids = itertools.count(1)
    return Commands(
        store=store,
        voice=Voice.of(store.identity.id, store.identity.generation, dialect="xdm", form="uri"),
        check=only_gold,
        deadline=timedelta(hours=12),
        new_job_id=lambda: next(ids),
    )


async def statuses(store: SqliteStore, job_id: int) -> list[str]:
    rows = await store.rows_of_job(job_id, after=0, through=1_000_000)
    return [numbered.row.type.rsplit(".", 1)[1] for numbered in rows]


async def claimed(commands: Commands, job_id: int) -> Job:
    job = await commands.store.claim("worker", LEASE, limit=100)
    assert job is not None
    assert job.id == job_id
    return await advance(commands.store, commands.voice, job, steps.claim)


async def publishing(commands: Commands, job: Job) -> Job:
    outcome = Publication(
        batches=(PublishedBatch(id="b1", files=(), counts=Counts(total=2, realized=2, failed=0)),)
    )
    for step in (
        lambda job, now: steps.initialize(job, now, snapshot="s1"),
        lambda job, now: steps.start(job, now, pieces=1, estimate=2),
        lambda job, now: steps.publish(job, now, outcome),
    ):
        job = await advance(commands.store, commands.voice, job, step)
    return job


async def processing(commands: Commands) -> Job:
    """A new job whose pieces run, as "worker" in its first epoch."""
    job = await claimed(commands, (await commands.submit(HERE, request())).job.id)
    for step in (
        partial(steps.initialize, snapshot="s1"),
        partial(steps.start, pieces=2, estimate=10),
    ):
        job = await advance(commands.store, commands.voice, job, step)
    return job


def piece(index: int) -> FinishedPiece:
    """Five were selected: three exported to two batches, two discarded."""
    return FinishedPiece(
        index=index,
        epoch=1,
        parts=(
            FinishedPart(selected=2, discarded=0, data=None, namespaces={"ECID": 2, "Email": 1}),
            FinishedPart(selected=3, discarded=2, data=None, namespaces={"ECID": 1}),
        ),
    )


OUTCOME = Publication(
    batches=(
        PublishedBatch(
            id="b1",
            files=(),
            counts=Counts(total=7, realized=7, failed=0),
            namespaces={"ECID": 7},
        ),
    )
)


async def exported(commands: Commands, job_id: int) -> tuple[int, Mapping[str, int]]:
    status = await commands.status(HERE, job_id)
    return status.exported, status.namespaces


def test_random_job_ids_are_numbers_that_javascript_holds_exactly() -> None:
    ids = {random_job_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(0 < job_id <= MAX_JOB_ID for job_id in ids)


@pytest.mark.parametrize(("asked", "given"), [(1, 1), (11, 11), (13, 12)])
async def test_a_job_may_have_an_earlier_deadline_than_others_and_no_later_one(
    commands: Commands, asked: int, given: int
) -> None:
    submission = await commands.submit(HERE, request(), deadline=timedelta(hours=asked))
    job = submission.job
    assert job.deadline == job.created_at + timedelta(hours=given)


async def test_a_submitted_job_is_queued_and_has_a_deadline(
    commands: Commands, store: SqliteStore
) -> None:
    submission = await commands.submit(HERE, request())
    job = await store.get(HERE, submission.job.id)
    assert (submission.created, job.state) == (True, JobState.CREATED)
    assert job.deadline == job.created_at + timedelta(hours=12)
    assert await statuses(store, job.id) == ["queued"]


async def test_a_job_keeps_the_merge_policy_that_was_decided_when_it_was_submitted(
    commands: Commands, store: SqliteStore
) -> None:
    submission = await commands.submit(HERE, request(), request_id="r1")
    job = await store.get(HERE, submission.job.id)
    assert job.request == request().with_policy("latest", 3)
    later = replace(commands, check=lambda _, wanted: Checked(wanted.with_policy("latest", 4)))
    again = await later.submit(HERE, request(), request_id="r1")
    assert (again.created, again.job.id) == (False, job.id)


async def test_an_unknown_segment_is_refused_and_nothing_is_stored(
    commands: Commands, store: SqliteStore
) -> None:
    wanted = request(filter={"segments": [{"segmentId": "gold"}, {"segmentId": "lead"}]})
    with pytest.raises(InvalidRequest, match=r"segments\.1\.segmentId: no segment 'lead'"):
        await commands.submit(HERE, wanted)
    assert await commands.list(HERE) == []
    assert (await store.backlog()).last == 0


async def test_other_work_goes_on_while_a_request_is_held_against_the_profile_store(
    commands: Commands,
) -> None:
    read = threading.Event()

    def slow(scope: Scope, wanted: ExportRequest) -> Checked:
        assert read.wait(10), "nothing else went on"
        return only_gold(scope, wanted)

    submitting = asyncio.create_task(replace(commands, check=slow).submit(HERE, request()))
    others = [(await commands.submit(HERE, request())).job.id for _ in range(3)]
    assert [job.id for job in await commands.list(HERE)] == others[::-1]
    read.set()
    assert (await submitting).created


@pytest.mark.parametrize("request_id", ["", "x" * 129, "a\nb"])
async def test_a_request_id_out_of_bounds_is_refused(commands: Commands, request_id: str) -> None:
    with pytest.raises(InvalidRequest, match="requestId"):
        await commands.submit(HERE, request(), request_id=request_id)


async def test_the_same_request_submitted_at_once_by_many_becomes_one_job(
    commands: Commands, store: SqliteStore
) -> None:
    submissions = await asyncio.gather(
        *(commands.submit(HERE, request(), request_id="r1") for _ in range(20))
    )
    assert len({submission.job.id for submission in submissions}) == 1
    assert sum(submission.created for submission in submissions) == 1
    assert (await store.backlog()).last == 1


async def test_the_same_request_id_with_another_body_is_a_conflict(commands: Commands) -> None:
    await commands.submit(HERE, request(), request_id="r1")
    with pytest.raises(RequestConflict, match="'r1'"):
        await commands.submit(HERE, request(fields="person"), request_id="r1")
    elsewhere = await commands.submit(ELSEWHERE, request(fields="person"), request_id="r1")
    assert elsewhere.created


async def test_jobs_of_another_organization_are_not_there(commands: Commands) -> None:
    job = (await commands.submit(ELSEWHERE, request())).job
    for attempt in (commands.status, commands.cancel, commands.retry):
        with pytest.raises(JobNotFound):
            await attempt(HERE, job.id)
    assert await commands.list(HERE) == []


async def test_a_waiting_job_is_cancelled_at_once_and_says_finished(
    commands: Commands, store: SqliteStore
) -> None:
    job = (await commands.submit(HERE, request())).job
    cancelled = await commands.cancel(HERE, job.id, reason="wrong audience")
    assert cancelled.state is JobState.CANCELLED
    assert await statuses(store, job.id) == ["queued", "finished"]
    last = (await store.rows_of_job(job.id, after=0, through=10))[-1].row.value
    assert b"ERROR_EXPORTJOB_FAILED" in last
    assert b"wrong audience" in last


async def test_a_running_job_is_told_to_stop(commands: Commands, store: SqliteStore) -> None:
    job = (await commands.submit(HERE, request())).job
    await claimed(commands, job.id)
    assert (await commands.cancel(HERE, job.id)).state is JobState.CANCELLING
    assert (await commands.cancel(HERE, job.id)).state is JobState.CANCELLING
    assert await statuses(store, job.id) == ["queued"]


async def test_a_reason_of_bytes_that_are_no_text_is_stored_as_far_as_it_is(
    commands: Commands,
) -> None:
    job = (await commands.submit(HERE, request())).job
    from_a_terminal = b"caf\xe9".decode(errors="surrogateescape")
    await commands.cancel(HERE, job.id, reason=from_a_terminal)
    fault = (await commands.store.get(HERE, job.id)).fault
    assert fault == Fault(FaultKind.CANCELLED, "caf?")


async def test_cancel_during_publication_is_too_late(commands: Commands) -> None:
    job = (await commands.submit(HERE, request())).job
    await publishing(commands, await claimed(commands, job.id))
    with pytest.raises(TooLateToCancel):
        await commands.cancel(HERE, job.id)


async def test_cancel_of_a_job_that_has_ended_changes_nothing(
    commands: Commands, store: SqliteStore
) -> None:
    job = (await commands.submit(HERE, request())).job
    running = await publishing(commands, await claimed(commands, job.id))
    await advance(store, commands.voice, running, steps.complete)
    assert (await commands.cancel(HERE, job.id)).state is JobState.COMPLETED
    assert await statuses(store, job.id) == ["queued", "started", "finished"]


async def test_cancel_of_a_failing_job_says_so(commands: Commands, store: SqliteStore) -> None:
    job = await claimed(commands, (await commands.submit(HERE, request())).job.id)
    fault = Fault(FaultKind.FAILED, "disk full")
    await advance(store, commands.voice, job, lambda job, now: steps.fail(job, now, fault))
    with pytest.raises(IllegalTransition, match="FAILING cannot cancel"):
        await commands.cancel(HERE, job.id)


async def test_when_cancel_and_publication_race_one_wins_and_the_other_is_told(
    commands: Commands, store: SqliteStore
) -> None:
    outcome = Publication(
        batches=(PublishedBatch(id="b", files=(), counts=Counts(total=0, realized=0, failed=0)),)
    )
    for _ in range(20):
        job = await claimed(commands, (await commands.submit(HERE, request())).job.id)
        for step in (
            lambda job, now: steps.initialize(job, now, snapshot="s1"),
            lambda job, now: steps.start(job, now, pieces=1, estimate=0),
        ):
            job = await advance(store, commands.voice, job, step)
        running = job
        results = await asyncio.gather(
            commands.cancel(HERE, running.id),
            advance(
                store,
                commands.voice,
                running,
                lambda job, now: steps.publish(job, now, outcome),
            ),
            return_exceptions=True,
        )
        stands = (await store.get(HERE, running.id)).state
        if stands is JobState.CANCELLING:
            assert isinstance(results[1], LeaseLost)
        else:
            assert stands is JobState.COMPLETING
            assert isinstance(results[0], TooLateToCancel)


async def test_a_cancel_that_never_gets_through_gives_up(
    commands: Commands, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = (await commands.submit(HERE, request())).job

    async def always_late(*_: object) -> None:
        raise LeaseLost("moved on")

    monkeypatch.setattr(store, "commit", always_late)
    with pytest.raises(StoreUnavailable, match="kept changing"):
        await commands.cancel(HERE, job.id)


async def test_a_retry_is_a_new_job_that_names_the_old_one(
    commands: Commands, store: SqliteStore
) -> None:
    first = (await commands.submit(HERE, request())).job
    await commands.cancel(HERE, first.id)
    second = (await commands.retry(HERE, first.id)).job
    assert second.id != first.id
    assert (await store.get(HERE, second.id)).retry_of == first.id
    assert second.request == first.request


async def test_an_event_that_would_break_the_contract_stops_its_transition(
    commands: Commands, store: SqliteStore
) -> None:
    job = await claimed(commands, (await commands.submit(HERE, request())).job.id)
    job = await advance(
        store, commands.voice, job, lambda job, now: steps.initialize(job, now, snapshot="s1")
    )
    with pytest.raises(InvalidEvent, match="exportCountTotal"):
        await advance(
            store,
            commands.voice,
            job,
            lambda job, now: steps.start(job, now, pieces=1, estimate=-5),
        )
    assert (await store.get(HERE, job.id)).state is JobState.INITIALIZING
    assert await statuses(store, job.id) == ["queued"]


async def test_the_log_names_the_job_and_the_event_of_each_step(
    commands: Commands, store: SqliteStore
) -> None:
    with capture_logs() as logged:
        job = (await commands.submit(HERE, request(), request_id="r1")).job
        await commands.submit(HERE, request(), request_id="r1")
        await commands.cancel(HERE, job.id)
    events = [str(it.row.event_id) for it in await store.rows_of_job(job.id, after=0, through=9)]
    assert [(entry["event"], entry["job_id"], entry.get("event_id")) for entry in logged] == [
        ("job submitted", job.id, events[0]),
        ("job known by its request id", job.id, None),
        ("job advanced", job.id, events[1]),
    ]


async def test_status_tells_progress_and_pieces(commands: Commands, store: SqliteStore) -> None:
    job = (await commands.submit(HERE, request())).job
    status = await commands.status(HERE, job.id)
    assert (status.progress, status.pieces_done) == (0.0, 0)
    running = await publishing(commands, await claimed(commands, job.id))
    await advance(store, commands.voice, running, steps.complete)
    done = await commands.status(HERE, job.id)
    assert (done.progress, done.pieces_done, done.job.counts) == (
        1.0,
        1,
        Counts(total=2, realized=2, failed=0),
    )


async def test_what_is_exported_grows_while_a_job_runs_and_ends_as_what_was_published(
    commands: Commands, store: SqliteStore
) -> None:
    job = await processing(commands)
    seen = [await exported(commands, job.id)]
    for index in range(2):
        await store.save_piece(Lease(job.id, "worker", 1), piece(index))
        seen.append(await exported(commands, job.id))
    assert seen == [(0, {}), (3, {"ECID": 3, "Email": 1}), (6, {"ECID": 6, "Email": 2})]
    job = await advance(store, commands.voice, job, partial(steps.publish, publication=OUTCOME))
    assert await exported(commands, job.id) == (7, {"ECID": 7})
    await advance(store, commands.voice, job, steps.complete)
    assert await exported(commands, job.id) == (7, {"ECID": 7})


async def test_a_job_that_has_failed_has_exported_nothing_though_its_pieces_count(
    commands: Commands, store: SqliteStore
) -> None:
    job = await processing(commands)
    await store.save_piece(Lease(job.id, "worker", 1), piece(0))
    fault = Fault(FaultKind.FAILED, "disk full")
    for step in (partial(steps.fail, fault=fault), steps.clean_up):
        job = await advance(store, commands.voice, job, step)
    status = await commands.status(HERE, job.id)
    assert (status.exported, status.namespaces) == (0, {})
    assert (status.pieces_done, status.rows) == (1, 5)


async def test_a_page_says_of_each_job_what_its_status_says(
    commands: Commands, store: SqliteStore
) -> None:
    failure = Failure(piece=3, attempt=1, failed_at=await store.now(), message="it hurts")
    running = await processing(commands)
    lease = Lease(running.id, "worker", 1)
    await store.save_piece(lease, piece(0))
    await store.save_failure(lease, failure)
    await store.renew(lease, LEASE, progress=0.5)
    done = await processing(commands)
    for step in (partial(steps.publish, publication=OUTCOME), steps.complete):
        done = await advance(store, commands.voice, done, step)
    cancelled = (await commands.submit(HERE, request())).job
    await commands.cancel(HERE, cancelled.id)
    await commands.submit(ELSEWHERE, request())
    page = await commands.statuses(HERE)
    assert {status.job.id for status in page} == {running.id, done.id, cancelled.id}
    for status in page:
        alone = await commands.status(HERE, status.job.id)
        assert replace(status, rate=None, remaining=None) == replace(
            alone, rate=None, remaining=None
        )
        assert (status.rate is None) == (alone.rate is None)
    (told,) = await commands.statuses(HERE, segment="gold", started=True, states=[running.state])
    assert (told.job.id, told.failures, told.progress) == (running.id, [failure], 0.5)


async def test_a_page_is_read_in_as_many_statements_whatever_it_shows(
    commands: Commands, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, reads = store._readers.run, 0

    async def counted(function: Callable[[sqlite3.Connection], Any]) -> Any:
        nonlocal reads
        reads += 1
        return await read(function)

    monkeypatch.setattr(store._readers, "run", counted)
    costs = []
    for _ in range(3):
        await processing(commands)
        reads = 0
        page = await commands.statuses(HERE)
        costs.append((len(page), reads))
    assert costs == [(1, 3), (2, 3), (3, 3)]


async def test_stored_events_are_json_of_their_own_job(
    commands: Commands, store: SqliteStore
) -> None:
    job = (await commands.submit(HERE, request())).job
    (queued,) = await store.rows_of_job(job.id, after=0, through=10)
    assert str(job.id) in orjson.dumps(orjson.loads(queued.row.value)).decode()
