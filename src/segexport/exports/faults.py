"""What follows from a fault: another attempt later, or the end of the job. Pure."""

from datetime import datetime, timedelta
from functools import partial
from typing import Final

from segexport.disclosure import has_own_words, public_words
from segexport.errors import (
    DatasetUnreachable,
    DependencyFailed,
    EngineError,
    InvalidRequest,
    ProfileStoreCorrupt,
    ProfileStoreError,
    SegexportError,
    SystemRefused,
)
from segexport.faults import translated
from segexport.jobs import job as steps
from segexport.jobs.job import Fault, FaultKind, Job, Step, Transition
from segexport.jobs.lifecycle import JobState
from segexport.settings import ExportSettings

LONGEST_DELAY: Final = timedelta(minutes=10)
"""Delays double with every attempt up to this, the rhythm in which the Experience Platform
tries again."""

_PASSING: Final = (
    ProfileStoreError,
    EngineError,
    DatasetUnreachable,
    SystemRefused,
    DependencyFailed,
)
_INITIALIZATION: Final = (JobState.PREPARING_FOR_INITIALIZATION, JobState.INITIALIZING)


def after_fault(error: Exception, job: Job, settings: ExportSettings) -> Step:
    """The step that a job takes after `error` has come up in its present state.

    A profile store or an object store that does not answer and a query that fails may do
    better later, as long as attempts are left. A request that no longer fits the snapshot,
    damaged files and a dataset that cannot be written stay what they are. What the system or a
    client library says without anybody nearer having explained it may do better later as well.
    """
    error = translated(error) or error
    if _may_pass(error) and job.attempts < settings.attempts:
        return partial(_postpone, delay=_delay(job, settings))
    return partial(steps.fail, fault=_fault(error, job))


def _may_pass(error: Exception) -> bool:
    if isinstance(error, ProfileStoreCorrupt):
        return False
    return isinstance(error, _PASSING)


def _kind(error: Exception, job: Job) -> FaultKind:
    at_start = job.state in _INITIALIZATION
    if at_start and isinstance(error, _PASSING):
        return FaultKind.UNREACHABLE
    return FaultKind.FAILED


def _fault(error: Exception, job: Job) -> Fault:
    """The end of the job, in words for everybody and in those for whoever runs the service."""
    kind = _kind(error, job)
    if isinstance(error, InvalidRequest):
        return Fault(kind, f"the request no longer fits snapshot {job.snapshot}: {error}")
    last = f" (attempt {job.attempts}, the last)" if _may_pass(error) else ""
    if has_own_words(error):
        return Fault(kind, f"{error}{last}")
    words, told = public_words(error), str(error)
    if not isinstance(error, SegexportError):
        told = f"an unexpected error: {type(error).__name__}: {error}"
    return Fault(kind, f"{words}{last}; {seek_cause(job)}", detail=f"{told}{last}")


def seek_cause(job: Job) -> str:
    """What everybody is told instead of a cause that names places of the service."""
    return f"whoever runs the service finds the cause in its log, under job {job.id}"


def _delay(job: Job, settings: ExportSettings) -> timedelta:
    doubled = settings.retry_delay * (1 << min(max(job.attempts - 1, 0), 16))
    return max(settings.retry_delay, min(doubled, LONGEST_DELAY))


def _postpone(job: Job, now: datetime, *, delay: timedelta) -> Transition:
    until = now + delay
    return steps.postpone(job, now, until=min(until, job.deadline) if job.deadline else until)
