"""The life of an export job, as data.

States carry Amazon Pinpoint's names, the finest-grained public vocabulary. What the
Experience Platform API and the Pinpoint API show are projections of the same table, and
so are the diagram in the documentation and the tests: nothing else in the code lists
states.

The straight way runs CREATED → PREPARING_FOR_INITIALIZATION → INITIALIZING → PROCESSING →
COMPLETING → COMPLETED. COMPLETING is the point of no return: from there a job only rolls
forward. A lost lease changes the owner and the epoch of a job, never its state.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from segexport.errors import IllegalTransition, TooLateToCancel


class JobState(StrEnum):
    """Where a job is in its life."""

    CREATED = "CREATED"  # accepted and durable
    PENDING_JOB = "PENDING_JOB"  # waits for capacity, or for another attempt
    PREPARING_FOR_INITIALIZATION = "PREPARING_FOR_INITIALIZATION"  # a worker has claimed it
    INITIALIZING = "INITIALIZING"  # snapshot pinned, segments resolved, pieces cut
    PROCESSING = "PROCESSING"  # pieces run
    COMPLETING = "COMPLETING"  # the batch is being published; no way back
    COMPLETED = "COMPLETED"
    FAILING = "FAILING"  # what was staged is being swept
    FAILED = "FAILED"
    CANCELLING = "CANCELLING"  # as FAILING, because somebody asked
    CANCELLED = "CANCELLED"


class Trigger(StrEnum):
    """What moves a job from one state to the next."""

    SUBMIT = "submit"
    CLAIM = "claim"
    WAIT = "wait for capacity"
    INITIALIZE = "initialize"
    START = "start"
    PUBLISH = "publish"
    COMPLETE = "complete"
    POSTPONE = "postpone"
    FAIL = "fail"
    CLEAN_UP_FAILED = "clean up failed"
    CANCEL = "cancel"
    CLEAN_UP_CANCELLED = "clean up cancelled"


class Milestone(StrEnum):
    """The three statuses of a `segmentExportJob` service event.

    There is none for failure or cancellation: both are `finished`, told apart by
    eventType and eventCode, because dashboards measure a job from its one `queued` row to
    its one `finished` row.
    """

    QUEUED = "queued"
    STARTED = "started"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class StateFacts:
    """How a state is shown by each public vocabulary, and what entering it announces.

    `experience_platform` is what the job shows before it has started; a job that waits or
    is claimed again after it had started shows PROCESSING (see `platform_status`).
    """

    experience_platform: str
    pinpoint: str
    announces: Milestone | None = None
    terminal: bool = False


_S, _T = JobState, Trigger

STATES: Mapping[JobState, StateFacts] = MappingProxyType(
    {
        _S.CREATED: StateFacts("NEW", "CREATED", Milestone.QUEUED),
        _S.PENDING_JOB: StateFacts("NEW", "PENDING_JOB"),
        _S.PREPARING_FOR_INITIALIZATION: StateFacts("NEW", "PREPARING_FOR_INITIALIZATION"),
        _S.INITIALIZING: StateFacts("PROCESSING", "INITIALIZING"),
        _S.PROCESSING: StateFacts("PROCESSING", "PROCESSING", Milestone.STARTED),
        _S.COMPLETING: StateFacts("PROCESSING", "COMPLETING"),
        _S.COMPLETED: StateFacts("SUCCEEDED", "COMPLETED", Milestone.FINISHED, terminal=True),
        _S.FAILING: StateFacts("PROCESSING", "FAILING"),
        _S.FAILED: StateFacts("FAILED", "FAILED", Milestone.FINISHED, terminal=True),
        _S.CANCELLING: StateFacts("PROCESSING", "FAILING"),
        _S.CANCELLED: StateFacts("FAILED", "FAILED", Milestone.FINISHED, terminal=True),
    }
)

_BEFORE_PUBLICATION = (
    _S.CREATED,
    _S.PENDING_JOB,
    _S.PREPARING_FOR_INITIALIZATION,
    _S.INITIALIZING,
    _S.PROCESSING,
)

EDGES: Mapping[tuple[JobState, Trigger], JobState] = MappingProxyType(
    {
        (_S.CREATED, _T.CLAIM): _S.PREPARING_FOR_INITIALIZATION,
        (_S.PENDING_JOB, _T.CLAIM): _S.PREPARING_FOR_INITIALIZATION,
        # Its organization runs as many jobs as it may.
        (_S.CREATED, _T.WAIT): _S.PENDING_JOB,
        (_S.PREPARING_FOR_INITIALIZATION, _T.INITIALIZE): _S.INITIALIZING,
        (_S.INITIALIZING, _T.START): _S.PROCESSING,
        (_S.PROCESSING, _T.PUBLISH): _S.COMPLETING,
        (_S.COMPLETING, _T.COMPLETE): _S.COMPLETED,
        # A fault that may pass: try again later, with what is finished kept.
        (_S.PREPARING_FOR_INITIALIZATION, _T.POSTPONE): _S.PENDING_JOB,
        (_S.INITIALIZING, _T.POSTPONE): _S.PENDING_JOB,
        (_S.PROCESSING, _T.POSTPONE): _S.PENDING_JOB,
        # A fault that stays.
        **{(state, _T.FAIL): _S.FAILING for state in _BEFORE_PUBLICATION},
        (_S.FAILING, _T.CLEAN_UP_FAILED): _S.FAILED,
        # Nobody works on a waiting job; what an earlier attempt staged is swept later.
        (_S.CREATED, _T.CANCEL): _S.CANCELLED,
        (_S.PENDING_JOB, _T.CANCEL): _S.CANCELLED,
        (_S.PREPARING_FOR_INITIALIZATION, _T.CANCEL): _S.CANCELLING,
        (_S.INITIALIZING, _T.CANCEL): _S.CANCELLING,
        (_S.PROCESSING, _T.CANCEL): _S.CANCELLING,
        (_S.CANCELLING, _T.CLEAN_UP_CANCELLED): _S.CANCELLED,
    }
)


def next_state(state: JobState, trigger: Trigger) -> JobState:
    """The state that `trigger` leads to.

    Raises `TooLateToCancel` for a cancel during publication and `IllegalTransition` for
    every other pair that the table does not hold.
    """
    target = EDGES.get((state, trigger))
    if target is not None:
        return target
    if trigger is Trigger.CANCEL and state is JobState.COMPLETING:
        raise TooLateToCancel(
            "the job is being published and can no longer be cancelled; "
            "delete its batch from the dataset instead"
        )
    raise IllegalTransition(f"a job in state {state} cannot {trigger}")


def platform_status(state: JobState, *, started: bool) -> str:
    """The Experience Platform status: NEW, PROCESSING, SUCCEEDED or FAILED."""
    status = STATES[state].experience_platform
    return "PROCESSING" if started and status == "NEW" else status


def is_terminal(state: JobState) -> bool:
    """Whether the state never changes again."""
    return STATES[state].terminal


def states_named(name: str) -> frozenset[JobState]:
    """The states that a word means, in any case: a state's own name, or a platform status.

    FAILED, which is both, means the status: failed and cancelled jobs. None for other words.
    """
    word = name.upper()
    return frozenset(
        state for state, facts in STATES.items() if word in (state.value, facts.experience_platform)
    )
