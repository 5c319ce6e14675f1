"""An export job, and the pure steps from one of its states to the next."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from segexport.disclosure import without_places
from segexport.jobs.lifecycle import (
    STATES,
    JobState,
    Milestone,
    Trigger,
    is_terminal,
    next_state,
    platform_status,
)
from segexport.jobs.publication import Counts, Publication
from segexport.jobs.request import ExportRequest

MAX_JOB_ID: Final = 2**53 - 1
"""Job ids are JSON numbers to Experience Platform clients: doubles must hold them exactly."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose jobs: an organization and one of its sandboxes. Nothing is visible across."""

    organization: str
    sandbox: str


class FaultKind(StrEnum):
    """Why a job ended without publishing anything."""

    FAILED = "failed"  # the export itself could not be done
    UNREACHABLE = "unreachable"  # engine or profile store not there at initialization
    DEADLINE = "deadline"  # ran out of time
    CANCELLED = "cancelled"  # somebody asked


@dataclass(frozen=True, slots=True)
class Fault:
    """A reason in words, with the kind that decides the event's code.

    `message` is for everybody: the job's owner, and each reader of the topic. `detail` is only
    for whoever runs the service: it names files and addresses. Without one, there is no more to
    tell.

    Words that come from a file's name or a terminal may hold bytes that are no text (lone
    surrogates, to Python); they become question marks, so that a reason can be stored.
    """

    kind: FaultKind
    message: str
    detail: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", _writable(self.message))
        object.__setattr__(self, "detail", self.detail and _writable(self.detail))


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One export job as it stands. Times are UTC and never go backwards within a job.

    `estimate` is the upper bound of profiles known since initialization; `publication`
    the exact outcome, set from COMPLETING on. `owner`, `epoch` and `lease_until` belong
    to the worker that holds the job; the epoch grows with each change of owner.
    """

    id: int
    scope: Scope
    request: ExportRequest
    request_id: str
    state: JobState
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    deadline: datetime | None = None
    not_before: datetime | None = None  # PENDING_JOB waits until then
    retry_of: int | None = None
    attempts: int = 0  # claims so far
    events: int = 0  # event rows so far: the last sequence number given
    owner: str | None = None
    epoch: int = 0
    lease_until: datetime | None = None
    snapshot: str | None = None
    pieces: int | None = None
    estimate: int | None = None
    publication: Publication | None = None
    fault: Fault | None = None

    @property
    def platform_status(self) -> str:
        """NEW, PROCESSING, SUCCEEDED or FAILED."""
        return platform_status(self.state, started=self.started_at is not None)

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended."""
        return is_terminal(self.state)

    @property
    def counts(self) -> Counts | None:
        """The final counts; None until the job has ended.

        A job that failed or was cancelled has published nothing: everything that it had
        selected, as far as that was known, counts as failed.
        """
        if self.state is JobState.COMPLETED and self.publication is not None:
            return self.publication.counts
        if self.is_terminal:
            total = self.estimate or 0
            return Counts(total=total, realized=0, failed=total)
        return None


@dataclass(frozen=True, slots=True)
class Transition:
    """A step that is decided but not yet stored: from `before` (None: new) to `after`."""

    before: Job | None
    after: Job
    trigger: Trigger
    milestone: Milestone | None


def submit(
    request: ExportRequest,
    *,
    job_id: int,
    scope: Scope,
    request_id: str,
    now: datetime,
    deadline: datetime | None = None,
    retry_of: int | None = None,
) -> Transition:
    """The first step of every job: into CREATED, announced as `queued`."""
    if not 0 < job_id <= MAX_JOB_ID:
        raise ValueError(f"a job id lies between 1 and {MAX_JOB_ID}, not {job_id}")
    job = Job(
        id=job_id,
        scope=scope,
        request=request,
        request_id=request_id,
        state=JobState.CREATED,
        created_at=now,
        updated_at=now,
        deadline=deadline,
        retry_of=retry_of,
    )
    return Transition(None, job, Trigger.SUBMIT, STATES[JobState.CREATED].announces)


def claim(job: Job, now: datetime) -> Transition:
    """A worker begins an attempt."""
    return _step(job, Trigger.CLAIM, now, attempts=job.attempts + 1, not_before=None)


def wait(job: Job, now: datetime) -> Transition:
    """The organization runs as many jobs as it may: this one waits until it is its turn."""
    return _step(job, Trigger.WAIT, now)


def initialize(job: Job, now: datetime, *, snapshot: str) -> Transition:
    """The attempt works on this snapshot of the profile store from now on."""
    return _step(job, Trigger.INITIALIZE, now, snapshot=snapshot)


def start(job: Job, now: datetime, *, pieces: int, estimate: int) -> Transition:
    """The pieces run. Announced as `started` the first time only, with the upper bound."""
    return _step(job, Trigger.START, now, pieces=pieces, estimate=estimate)


def publish(job: Job, now: datetime, publication: Publication) -> Transition:
    """The point of no return: the outcome is fixed, its publication begins."""
    return _step(job, Trigger.PUBLISH, now, publication=publication)


def complete(job: Job, now: datetime) -> Transition:
    """The batch is visible: the job has succeeded."""
    return _step(job, Trigger.COMPLETE, now)


def postpone(job: Job, now: datetime, *, until: datetime) -> Transition:
    """A fault that may pass: wait, then try again. Finished pieces are kept."""
    return _step(job, Trigger.POSTPONE, now, not_before=until)


def fail(job: Job, now: datetime, fault: Fault) -> Transition:
    """A fault that stays; cleaning up begins.

    Its message loses what looks like a place of the service, whoever has worded it. Names of an
    organization's own may look so too (`homeAddress.zip`): the whole message stays as the detail.
    """
    told = without_places(fault.message)
    if told != fault.message:
        fault = replace(fault, message=told, detail=fault.detail or fault.message)
    return _step(job, Trigger.FAIL, now, fault=fault)


def cancel(job: Job, now: datetime, fault: Fault) -> Transition:
    """Somebody asked for it to stop, and why in words of his own, which stay as they are."""
    return _step(job, Trigger.CANCEL, now, fault=fault)


def clean_up(job: Job, now: datetime) -> Transition:
    """What was staged is swept: FAILING ends as FAILED, CANCELLING as CANCELLED."""
    trigger = (
        Trigger.CLEAN_UP_CANCELLED if job.state is JobState.CANCELLING else Trigger.CLEAN_UP_FAILED
    )
    return _step(job, trigger, now)


def _writable(words: str) -> str:
    return words.encode(errors="replace").decode()


def _step(job: Job, trigger: Trigger, now: datetime, **facts: Any) -> Transition:
    state = next_state(job.state, trigger)
    now = max(now, job.updated_at)
    milestone = STATES[state].announces
    if state is JobState.PROCESSING:
        if job.started_at is None:
            facts["started_at"] = now
        else:
            milestone = None
    if is_terminal(state):
        facts["finished_at"] = now
    return Transition(job, replace(job, state=state, updated_at=now, **facts), trigger, milestone)


Step = Callable[[Job, datetime], Transition]
"""Any of the functions above with its facts bound: what a caller hands to the store's side."""
