"""What follows from a fault: a later attempt, or the end of the job."""

from dataclasses import replace
from datetime import timedelta

import pytest

from segexport.disclosure import LEFT_OUT
from segexport.errors import (
    DatasetError,
    EngineError,
    InvalidRequest,
    Problem,
    ProfileStoreCorrupt,
    ProfileStoreMissing,
    UnknownPolicy,
)
from segexport.exports.faults import LONGEST_DELAY, after_fault
from segexport.jobs.job import FaultKind, Job
from segexport.jobs.lifecycle import JobState
from segexport.settings import ExportSettings
from support.job_stories import NOON, new_job

SETTINGS = ExportSettings(attempts=5, retry_delay=timedelta(seconds=10))
PREPARING, PROCESSING = JobState.PREPARING_FOR_INITIALIZATION, JobState.PROCESSING


def job_in(state: JobState, attempts: int) -> Job:
    return replace(new_job()[0].after, state=state, attempts=attempts, snapshot="s1")


def outcome(error: Exception, job: Job) -> Job:
    return after_fault(error, job, SETTINGS)(job, NOON).after


@pytest.mark.parametrize("state", [PREPARING, PROCESSING])
@pytest.mark.parametrize("error", [ProfileStoreMissing("x"), EngineError("x"), OSError(5, "x")])
def test_what_may_pass_is_tried_again_while_attempts_are_left(
    error: Exception, state: JobState
) -> None:
    after = outcome(error, job_in(state, attempts=4))
    assert after.state is JobState.PENDING_JOB
    assert after.fault is None


@pytest.mark.parametrize(
    ("state", "kind"), [(PREPARING, FaultKind.UNREACHABLE), (PROCESSING, FaultKind.FAILED)]
)
def test_the_last_attempt_decides_how_the_job_ends(state: JobState, kind: FaultKind) -> None:
    after = outcome(ProfileStoreMissing("the disk is away"), job_in(state, attempts=5))
    assert after.state is JobState.FAILING
    assert after.fault is not None
    assert after.fault.kind is kind
    assert after.fault.message == (
        "the profiles that the export is to read are missing (attempt 5, the last); "
        f"whoever runs the service finds the cause in its log, under job {after.id}"
    )
    assert after.fault.detail == "the disk is away (attempt 5, the last)"


@pytest.mark.parametrize(
    ("error", "state", "kind"),
    [
        (DatasetError("full"), PROCESSING, FaultKind.FAILED),
        (DatasetError("full"), JobState.INITIALIZING, FaultKind.FAILED),
        (ProfileStoreCorrupt("bent"), PREPARING, FaultKind.UNREACHABLE),
        (ProfileStoreCorrupt("bent"), PROCESSING, FaultKind.FAILED),
        (InvalidRequest([Problem("fields", "gone")]), JobState.INITIALIZING, FaultKind.FAILED),
        (ZeroDivisionError("oops"), PROCESSING, FaultKind.FAILED),
    ],
)
def test_what_stays_as_it_is_ends_the_job_at_once(
    error: Exception, state: JobState, kind: FaultKind
) -> None:
    after = outcome(error, job_in(state, attempts=1))
    assert after.state is JobState.FAILING
    assert after.fault is not None
    assert after.fault.kind is kind
    assert str(error) in (after.fault.detail or after.fault.message)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (InvalidRequest([Problem("fields", "no attribute 'homeAddress.zip'")]), "homeAddress.zip"),
        (UnknownPolicy("there is no merge policy 'spring/eu/v3'"), "spring/eu/v3"),
    ],
)
def test_a_name_in_the_request_that_looks_like_a_place_is_told_to_the_operator(
    error: Exception, words: str
) -> None:
    fault = outcome(error, job_in(PREPARING, attempts=5)).fault
    assert fault is not None
    assert words not in fault.message
    assert fault.message == (fault.detail or "").replace(words, LEFT_OUT)


def test_the_delay_doubles_up_to_a_limit() -> None:
    settings = SETTINGS.model_copy(update={"attempts": 100})
    delays = []
    for attempts in range(1, 12):
        job = job_in(PREPARING, attempts)
        until = after_fault(EngineError("x"), job, settings)(job, NOON).after.not_before
        assert until is not None
        delays.append(until - NOON)
    assert delays[:4] == [timedelta(seconds=s) for s in (10, 20, 40, 80)]
    assert delays[-1] == LONGEST_DELAY


def test_a_job_does_not_wait_beyond_its_deadline() -> None:
    job = replace(job_in(PREPARING, 1), deadline=NOON + timedelta(seconds=3))
    assert outcome(EngineError("x"), job).not_before == job.deadline
