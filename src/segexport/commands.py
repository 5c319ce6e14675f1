"""What can be asked of segexport: submit, cancel, retry, status, list.

The command line, the HTTP interfaces and Python callers all come through here; workers use
`advance`, which is the one way for a job to change.
"""

import asyncio
import hashlib
import secrets
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import orjson
import structlog

from segexport.errors import (
    InvalidRequest,
    JobNotFound,
    LeaseLost,
    Problem,
    SegexportError,
    StoreUnavailable,
)
from segexport.events.announcement import Voice, announce
from segexport.events.outbox import OutboxRow
from segexport.events.record import milliseconds
from segexport.jobs import job as steps
from segexport.jobs.job import MAX_JOB_ID, Fault, FaultKind, Job, Scope, Step
from segexport.jobs.lifecycle import JobState
from segexport.jobs.reading import beyond
from segexport.jobs.request import ExportRequest
from segexport.jobs.values import MAX_NAME, unfit
from segexport.store.rows import from_micros
from segexport.store.store import Failure, FinishedPiece, JobStore, Submission, Work

log: Final = structlog.stdlib.get_logger(__name__)

_LAST_MILLISECOND: Final = milliseconds(datetime.max.replace(tzinfo=UTC))
MAX_REASON: Final = 1_000
"""Characters of the reason for a cancel."""
CANCEL_ATTEMPTS: Final = 10
"""A cancel that keeps meeting other changes of the job gives up after so many."""


async def advance(store: JobStore, voice: Voice, job: Job, step: Step) -> Job:
    """Take one step of a job's life and store it together with the events that it causes.

    Raises `IllegalTransition` if the job's state does not allow the step, `InvalidEvent` if
    an event of it would break the contract, and `LeaseLost` if the stored job is no longer
    the one given; in each case nothing is stored.
    """
    transition, rows = announce(step(job, await store.now()), voice)
    await store.commit(transition, rows)
    log.info("job advanced", job_id=job.id, state=transition.after.state.value, **_told(rows))
    return transition.after


def _told(rows: Sequence[OutboxRow]) -> dict[str, str]:
    """The id of the event that a step has caused, for the log; that of the last, if several."""
    return {"event_id": str(rows[-1].event_id)} if rows else {}


def random_job_id() -> int:
    """A job id that says nothing about how many jobs there are: 1 … 2^53 - 1."""
    return 1 + secrets.randbelow(MAX_JOB_ID)


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job, and how far it is: 0 to 1, with its finished pieces and their rows.

    `rate` is in rows a second since its pieces began to run, `remaining` the seconds until
    they have run at that rate; both None while there is nothing to tell them from. Rows are
    selected profiles. `failures` are the first that its pieces have met. `exported` are the
    profiles that finished pieces have written, without discards, and `namespaces` counts
    those that hold an identity in each namespace; in the end they are what was published,
    nothing where a job has failed or was cancelled. `failed_pieces` have failed, and were not
    finished since. `endpoints` are the endpoint definitions that a Pinpoint job has written.
    """

    job: Job
    progress: float
    pieces_done: int
    rows: int = 0
    rate: float | None = None
    remaining: float | None = None
    failures: Sequence[Failure] = ()
    exported: int = 0
    namespaces: Mapping[str, int] = field(default_factory=dict)
    failed_pieces: int = 0
    endpoints: int = 0


@dataclass(frozen=True, slots=True)
class Checked:
    """A request with what it leaves open decided, or what is wrong with it.

    Only a request without problems is decided: its merge policy is named with its version,
    so that the job means the same whatever is defined later.
    """

    request: ExportRequest
    problems: Sequence[Problem] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """The commands over one store.

    `check` holds a request against the profile store (segments, fields, merge policies), in
    a thread, for it may read files;
    `deadline` is the time that a job may take from its creation to its end.
    """

    store: JobStore
    voice: Voice
    check: Callable[[Scope, ExportRequest], Checked]
    deadline: timedelta
    new_job_id: Callable[[], int] = random_job_id

    async def submit(
        self,
        scope: Scope,
        request: ExportRequest,
        *,
        request_id: str | None = None,
        retry_of: int | None = None,
        deadline: timedelta | None = None,
        problems: Sequence[Problem] = (),
    ) -> Submission:
        """Accept an export request as a job in state CREATED, announced as `queued`.

        `deadline` is the time that this job may take, at most that of all. `problems` are
        known already: of such a request only what it names is looked up, so that all that is
        wrong with it is told at once.
        The same `request_id` within 24 hours answers with the job of the first time, also
        where what it names is gone or out of reach by now.
        Raises `InvalidRequest` with every problem, or `RequestConflict` where the request
        id came with another body before.
        """
        mark, wrong = fingerprint(request), [*problems, *request_id_problems(request_id)]
        try:
            checked = await asyncio.to_thread(self.check, scope, request)
            if found := [*wrong, *beyond(wrong, checked.problems)]:
                raise InvalidRequest(found)
        except SegexportError as error:
            if wrong and not isinstance(error, InvalidRequest):
                raise InvalidRequest(wrong) from error
            if request_id is None or wrong:
                raise
            first = await self.store.known(scope, request_id, fingerprint=mark)
            if first is None:
                raise
            log.info("job known by its request id", job_id=first.id)
            return Submission(first, created=False)
        # Without what is finer than a millisecond: cursors of Experience Platform name a job by
        # that and its id, and are to have the order of lists.
        now = from_micros(1000 * milliseconds(await self.store.now()))
        transition, rows = announce(
            steps.submit(
                checked.request,
                job_id=self.new_job_id(),
                scope=scope,
                request_id=request_id or secrets.token_hex(16),
                now=now,
                deadline=now + min(self.deadline, deadline or self.deadline),
                retry_of=retry_of,
            ),
            self.voice,
        )
        submission = await self.store.submit(transition, rows, fingerprint=mark)
        if submission.created:
            log.info("job submitted", job_id=submission.job.id, **_told(rows))
        else:
            log.info("job known by its request id", job_id=submission.job.id)
        return submission

    async def cancel(
        self, scope: Scope, job_id: int, *, reason: str = "cancelled on request"
    ) -> Job:
        """Ask a job to stop; returns it as it then stands.

        A job that has ended already is left as it is. Raises `TooLateToCancel` while it is
        being published, `IllegalTransition` while it is failing, `JobNotFound`, and
        `InvalidRequest` for a reason of more than `MAX_REASON` characters, or that holds what
        does not show.
        """
        if problems := reason_problems(reason):
            raise InvalidRequest(problems)
        fault = Fault(FaultKind.CANCELLED, reason)

        def step(job: Job, now: datetime) -> steps.Transition:
            return steps.cancel(job, now, fault)

        for _ in range(CANCEL_ATTEMPTS):
            job = await self.store.get(scope, job_id)
            if job.is_terminal or job.state is JobState.CANCELLING:
                return job
            try:
                return await advance(self.store, self.voice, job, step)
            except LeaseLost:
                continue
        raise StoreUnavailable(
            f"job {job_id} kept changing while it was to be cancelled; try again"
        )

    async def retry(
        self, scope: Scope, job_id: int, *, request_id: str | None = None
    ) -> Submission:
        """Submit the request of an earlier job again, as a new job that names the old one."""
        job = await self.store.get(scope, job_id)
        return await self.submit(scope, job.request, request_id=request_id, retry_of=job.id)

    async def status(self, scope: Scope, job_id: int) -> JobStatus:
        """A job and how far it is. Raises `JobNotFound`."""
        job, work, failures = await self.store.status(scope, job_id)
        return _status(job, work, failures, await self.store.now())

    async def answered(self, submission: Submission) -> JobStatus:
        """The job that answers a submission, and how far it is."""
        job = submission.job
        return (
            JobStatus(job, 0.0, 0) if submission.created else await self.status(job.scope, job.id)
        )

    async def statuses(
        self,
        scope: Scope,
        *,
        states: Collection[JobState] | None = None,
        started: bool | None = None,
        segment: str | None = None,
        before: tuple[datetime, int] | None = None,
        limit: int = 100,
    ) -> Sequence[JobStatus]:
        """Jobs and how far they are, newest first; which ones, see `JobStore.jobs`."""
        jobs = await self.store.jobs(
            scope, states=states, started=started, segment=segment, before=before, limit=limit
        )
        failures = await self.store.failures([job.id for job in jobs])
        # What a job has published says all about its pieces.
        running = [job.id for job in jobs if job.state is not JobState.COMPLETED]
        work = await self.store.work(running) if running else {}
        now = await self.store.now()
        return [
            _status(job, work.get(job.id, Work()), failures.get(job.id, ()), now) for job in jobs
        ]

    async def before(self, scope: Scope, created_ms: int, job_id: int) -> tuple[datetime, int]:
        """The place in a list behind the job that a cursor names, for `before` of lists.

        `created_ms`: milliseconds since 1970. Where this scope has no such job, the place
        behind which the jobs of that millisecond, and all older ones, stand.
        """
        try:
            job = await self.store.get(scope, job_id)
        except JobNotFound:
            pass
        else:
            # Jobs of older stores were created at finer times.
            if milliseconds(job.created_at) == created_ms:
                return job.created_at, job.id
        return _after_millisecond(created_ms), 0

    async def list(
        self,
        scope: Scope,
        *,
        states: Collection[JobState] | None = None,
        before: tuple[datetime, int] | None = None,
        limit: int = 100,
    ) -> Sequence[Job]:
        """Jobs, newest first; `before` is (created_at, id) of the last job already seen."""
        return await self.store.jobs(scope, states=states, before=before, limit=limit)


def _after_millisecond(number: int) -> datetime:
    """When a millisecond since 1970 is over; bounded by what a time can be."""
    return from_micros(1000 * min(max(number, 0) + 1, _LAST_MILLISECOND))


def _status(job: Job, work: Work, failures: Sequence[Failure], now: datetime) -> JobStatus:
    outcome = job.publication
    if outcome is not None:
        return JobStatus(
            job,
            1.0 if job.is_terminal else work.progress,
            job.pieces or 0,
            outcome.counts.total,
            failures=failures,
            exported=outcome.counts.realized,
            namespaces=outcome.namespaces,
            endpoints=sum(file.rows for file in outcome.endpoints),
        )
    rate, remaining = _pace(job, work.pieces, now)
    parts = [] if job.is_terminal else [part for piece in work.pieces for part in piece.parts]
    namespaces: Counter[str] = Counter()
    for part in parts:
        namespaces.update(part.namespaces)
    return JobStatus(
        job,
        work.progress,
        len(work.pieces),
        sum(piece.selected for piece in work.pieces),
        rate,
        remaining,
        failures,
        exported=sum(part.exported for part in parts),
        namespaces=dict(sorted(namespaces.items())),
        endpoints=sum(part.endpoints.rows for part in parts if part.endpoints),
        failed_pieces=len(
            {failure.piece for failure in failures} - {piece.index for piece in work.pieces}
        ),
    )


def _pace(
    job: Job, pieces: Sequence[FinishedPiece], now: datetime
) -> tuple[float | None, float | None]:
    """Rows a second of the pieces that were finished since they run, and the seconds left."""
    if job.state is not JobState.PROCESSING:
        return None, None
    since = job.updated_at
    here = sum(piece.selected for piece in pieces if piece.saved_at and piece.saved_at >= since)
    seconds = (now - since).total_seconds()
    if not here or seconds <= 0:
        return None, None
    rate = here / seconds
    rows = sum(piece.selected for piece in pieces)
    return rate, max(0, (job.estimate or 0) - rows) / rate


def fingerprint(request: ExportRequest) -> str:
    """Equal for requests that mean the same; hex SHA-256 of the canonical document."""
    canonical = orjson.dumps(request.document(), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(canonical).hexdigest()


def request_id_problems(request_id: str | None) -> Sequence[Problem]:
    """What is wrong with a request id that a caller has given."""
    if request_id is None:
        return ()
    if not (0 < len(request_id) <= MAX_NAME and request_id.isprintable()):
        hidden = unfit(request_id)
        words = f"must be 1 to {MAX_NAME} printable characters"
        return (Problem("requestId", f"{words}; {hidden}" if hidden else words),)
    return ()


def reason_problems(reason: str) -> Sequence[Problem]:
    """What is wrong with the reason for a cancel."""
    if len(reason) > MAX_REASON:
        return (Problem("reason", f"must be at most {MAX_REASON} characters"),)
    # Bytes of a terminal that are no text become question marks, see `Fault`.
    hidden = unfit(reason.encode(errors="replace").decode(), lines=True)
    return () if hidden is None else (Problem("reason", hidden),)
