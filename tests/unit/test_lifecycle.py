"""The life of a job: the table, and what random histories may never break."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from segexport.errors import IllegalTransition, TooLateToCancel
from segexport.jobs import job as steps
from segexport.jobs.job import Fault, FaultKind, Job, Scope, Step, Transition
from segexport.jobs.lifecycle import (
    EDGES,
    STATES,
    JobState,
    Milestone,
    Trigger,
    is_terminal,
    next_state,
    platform_status,
)
from segexport.jobs.publication import MAX_COUNT, Counts, Publication, PublishedBatch
from segexport.jobs.request import Destination, ExportRequest
from support.examples import examples

START = datetime(2026, 1, 1, tzinfo=UTC)
REQUEST = ExportRequest(destination=Destination(dataset_id="d1"))
ALL_STATES = st.sampled_from(list(JobState))


def test_every_state_has_its_facts() -> None:
    assert set(STATES) == set(JobState)


def test_every_state_but_the_first_can_be_reached() -> None:
    assert set(EDGES.values()) == set(JobState) - {JobState.CREATED}


def test_terminal_states_have_no_way_out_and_all_others_do() -> None:
    with_exit = {state for state, _ in EDGES}
    assert {state for state in JobState if is_terminal(state)} == set(JobState) - with_exit


def test_only_terminal_states_announce_finished() -> None:
    finished = {state for state, facts in STATES.items() if facts.announces is Milestone.FINISHED}
    assert finished == {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}


def test_completing_only_rolls_forward() -> None:
    assert [trigger for state, trigger in EDGES if state is JobState.COMPLETING] == [
        Trigger.COMPLETE
    ]


@pytest.mark.parametrize(
    "state",
    [
        JobState.PREPARING_FOR_INITIALIZATION,
        JobState.INITIALIZING,
        JobState.PROCESSING,
    ],
)
def test_a_claimed_job_before_publication_can_be_cancelled_failed_and_postponed(
    state: JobState,
) -> None:
    assert next_state(state, Trigger.CANCEL) is JobState.CANCELLING
    assert next_state(state, Trigger.FAIL) is JobState.FAILING
    assert next_state(state, Trigger.POSTPONE) is JobState.PENDING_JOB


@pytest.mark.parametrize("state", [JobState.CREATED, JobState.PENDING_JOB])
def test_a_waiting_job_is_cancelled_at_once(state: JobState) -> None:
    assert next_state(state, Trigger.CANCEL) is JobState.CANCELLED


def test_cancel_during_publication_comes_too_late_and_says_so() -> None:
    with pytest.raises(TooLateToCancel, match="being published"):
        next_state(JobState.COMPLETING, Trigger.CANCEL)


def test_the_message_of_a_failed_job_loses_places_and_the_reason_of_a_cancel_stays() -> None:
    words = "/srv/data/persons.parquet is gone"
    job = steps.submit(REQUEST, job_id=1, scope=Scope("o", "s"), request_id="r", now=START).after
    failed = steps.fail(job, START, Fault(FaultKind.FAILED, words, words))
    assert failed.after.fault == Fault(FaultKind.FAILED, "(left out) is gone", words)
    failed = steps.fail(job, START, Fault(FaultKind.FAILED, words))
    assert failed.after.fault == Fault(FaultKind.FAILED, "(left out) is gone", words)
    failed = steps.fail(job, START, Fault(FaultKind.FAILED, "it is gone"))
    assert failed.after.fault == Fault(FaultKind.FAILED, "it is gone")
    cancelled = steps.cancel(job, START, Fault(FaultKind.CANCELLED, words))
    assert cancelled.after.fault == Fault(FaultKind.CANCELLED, words)


def test_a_step_that_the_table_does_not_hold_names_state_and_trigger() -> None:
    with pytest.raises(IllegalTransition, match="COMPLETED cannot start"):
        next_state(JobState.COMPLETED, Trigger.START)


@pytest.mark.parametrize(
    ("state", "started", "shown"),
    [
        (JobState.CREATED, False, "NEW"),
        (JobState.PENDING_JOB, False, "NEW"),
        (JobState.PENDING_JOB, True, "PROCESSING"),
        (JobState.PREPARING_FOR_INITIALIZATION, True, "PROCESSING"),
        (JobState.COMPLETED, True, "SUCCEEDED"),
        (JobState.CANCELLED, True, "FAILED"),
        (JobState.FAILED, False, "FAILED"),
    ],
)
def test_the_platform_shows(state: JobState, started: bool, shown: str) -> None:
    assert platform_status(state, started=started) == shown


def test_an_unknown_job_id_range_is_refused() -> None:
    with pytest.raises(ValueError, match="between 1 and"):
        steps.submit(REQUEST, job_id=2**53, scope=Scope("o", "s"), request_id="r", now=START)


@pytest.mark.parametrize(
    ("total", "realized", "failed"),
    [(-1, -1, 0), (3, 1, 1), (MAX_COUNT + 1, MAX_COUNT + 1, 0), (0, -1, 1)],
)
def test_counts_out_of_range_or_not_adding_up_are_refused(
    total: int, realized: int, failed: int
) -> None:
    with pytest.raises(ValueError, match=r"count|total"):
        Counts(total=total, realized=realized, failed=failed)


class LifeOfAJob(RuleBasedStateMachine):
    """Random triggers, clocks that jump; every promise is checked after each of them."""

    job: Job
    told: list[Milestone]

    @initialize()
    def submitted(self) -> None:
        self.clock = START
        self.told = []
        self._take(
            steps.submit(REQUEST, job_id=7, scope=Scope("o", "s"), request_id="r", now=self.clock)
        )

    @rule(seconds=st.integers(-3600, 3600))
    def clock_jumps(self, seconds: int) -> None:
        self.clock += timedelta(seconds=seconds)

    @rule()
    def claimed(self) -> None:
        self._try(steps.claim)

    @rule()
    def initialized(self) -> None:
        self._try(lambda job, now: steps.initialize(job, now, snapshot="s1"))

    @rule(estimate=st.integers(0, 1000))
    def started(self, estimate: int) -> None:
        self._try(lambda job, now: steps.start(job, now, pieces=4, estimate=estimate))

    @rule(realized=st.integers(0, 500), failed=st.integers(0, 500))
    def published(self, realized: int, failed: int) -> None:
        counts = Counts(total=realized + failed, realized=realized, failed=failed)
        outcome = Publication(batches=(PublishedBatch(id="b", files=(), counts=counts),))
        self._try(lambda job, now: steps.publish(job, now, outcome))

    @rule()
    def completed(self) -> None:
        self._try(steps.complete)

    @rule()
    def postponed(self) -> None:
        self._try(lambda job, now: steps.postpone(job, now, until=now + timedelta(seconds=1)))

    @rule(kind=st.sampled_from([FaultKind.FAILED, FaultKind.UNREACHABLE, FaultKind.DEADLINE]))
    def failed(self, kind: FaultKind) -> None:
        self._try(lambda job, now: steps.fail(job, now, Fault(kind, "reason")))

    @rule()
    def cancelled(self) -> None:
        fault = Fault(FaultKind.CANCELLED, "reason")
        self._try(lambda job, now: steps.cancel(job, now, fault))

    @rule()
    def cleaned_up(self) -> None:
        self._try(steps.clean_up)

    @invariant()
    def statuses_appear_in_order_and_once(self) -> None:
        assert self.told in (
            [Milestone.QUEUED],
            [Milestone.QUEUED, Milestone.STARTED],
            [Milestone.QUEUED, Milestone.FINISHED],
            [Milestone.QUEUED, Milestone.STARTED, Milestone.FINISHED],
        )

    @invariant()
    def finished_is_told_exactly_when_the_job_has_ended(self) -> None:
        assert (Milestone.FINISHED in self.told) == self.job.is_terminal
        assert (self.job.finished_at is not None) == self.job.is_terminal

    @invariant()
    def counts_are_there_at_the_end_and_add_up(self) -> None:
        counts = self.job.counts
        assert (counts is not None) == self.job.is_terminal
        if counts is not None:
            assert counts.total == counts.realized + counts.failed
            if self.job.state is not JobState.COMPLETED:
                assert counts.realized == 0

    @precondition(lambda self: self.job.is_terminal)
    @invariant()
    def terminal_stays_terminal(self) -> None:
        for trigger in Trigger:
            with pytest.raises(IllegalTransition):
                next_state(self.job.state, trigger)

    def _try(self, step: Step) -> None:
        try:
            transition = step(self.job, self.clock)
        except IllegalTransition:
            return
        self._take(transition)

    def _take(self, transition: Transition) -> None:
        before, after = transition.before, transition.after
        if before is not None:
            assert after.updated_at >= before.updated_at
            assert EDGES[before.state, transition.trigger] is after.state
        self.job = after
        if transition.milestone is not None:
            self.told.append(transition.milestone)


TestLifeOfAJob = LifeOfAJob.TestCase
TestLifeOfAJob.settings = settings(
    max_examples=examples(300), stateful_step_count=30, deadline=None
)
