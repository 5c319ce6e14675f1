"""A job's next state together with its event rows, or neither."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from contract.store_contract.suite import (
    LEASE,
    Database,
    Suite,
    all_rows,
    claimed,
    unstorable,
)
from segexport.errors import (
    JobNotFound,
    LeaseLost,
    StoreError,
)
from segexport.events.outbox import OutboxRow
from segexport.jobs import job as steps
from segexport.jobs.job import Job, Transition
from segexport.jobs.lifecycle import JobState
from segexport.jobs.publication import DiscardFile
from segexport.store.store import Store
from support.job_stories import (
    CANCELLATION,
    FAULT,
    NOON,
    PUBLICATION,
    SCOPE,
    WAY_TO_FAILURE,
    WAY_TO_SUCCESS,
    advanced,
    announced,
    cancel,
    event_row,
    fail,
    new_job,
    submitted,
)


class TransitionContract(Suite):
    """A job's next state and its event rows: both or neither."""

    async def test_every_fact_of_a_successful_life_is_kept(self, store: Store) -> None:
        job = await submitted(store)
        for step in WAY_TO_SUCCESS:
            job = await advanced(store, job, step)
            assert await store.get(SCOPE, job.id) == job
        assert job.publication == PUBLICATION
        assert [numbered.row.sequence for numbered in await all_rows(store)] == [1, 2, 3]

    async def test_a_fault_is_kept(self, store: Store) -> None:
        job = await submitted(store)
        for step in WAY_TO_FAILURE:
            job = await advanced(store, job, step)
        assert (await store.get(SCOPE, job.id)).fault == FAULT

    async def test_a_stale_transition_is_refused_and_leaves_no_trace(self, store: Store) -> None:
        stale = await submitted(store)
        current = await advanced(store, stale, steps.claim)
        with pytest.raises(LeaseLost, match=r"PREPARING_FOR_INITIALIZATION.*CREATED"):
            await advanced(store, stale, cancel)
        assert await store.get(SCOPE, stale.id) == current
        assert len(await all_rows(store)) == 1

    @pytest.mark.parametrize("step", [steps.claim, cancel])
    async def test_a_worker_whose_job_was_taken_over_can_change_nothing(
        self, store: Store, database: Database, step: steps.Step
    ) -> None:
        await submitted(store)
        lost, _ = await claimed(store, "first")
        database.advance(LEASE)
        held, _ = await claimed(store, "second")
        with pytest.raises(LeaseLost, match="epoch 2"):
            await advanced(store, lost, step)
        assert await store.get(SCOPE, lost.id) == held
        assert len(await all_rows(store)) == 1
        await advanced(store, held, steps.claim)

    async def test_the_lease_of_the_job_is_not_changed_by_a_transition(self, store: Store) -> None:
        await submitted(store)
        held, _ = await claimed(store)
        meddled = replace(held, owner="somebody else", lease_until=None)
        job = await advanced(store, meddled, steps.claim)
        stored = await store.get(SCOPE, job.id)
        assert (stored.owner, stored.epoch, stored.lease_until) == (
            held.owner,
            held.epoch,
            held.lease_until,
        )

    async def test_a_transition_of_a_job_that_is_not_there_says_so(self, store: Store) -> None:
        transition, _ = new_job()
        with pytest.raises(JobNotFound, match=str(transition.after.id)):
            await advanced(store, transition.after, cancel)

    async def test_a_row_that_is_refused_leaves_the_job_and_the_other_rows_out(
        self, store: Store
    ) -> None:
        job = await submitted(store)
        transition, rows = announced(cancel(job, NOON), events=3)
        with pytest.raises(StoreError, match=str(rows[2].event_id)):
            await store.commit(transition, [*rows[:2], unstorable(rows[2])])
        assert await store.get(SCOPE, job.id) == job
        assert len(await all_rows(store)) == 1

    async def test_the_sequence_of_an_event_is_given_once(self, store: Store) -> None:
        job = await submitted(store)
        transition, rows = announced(cancel(replace(job, events=0), NOON))
        with pytest.raises(StoreError, match="number 1 of job"):
            await store.commit(transition, rows)
        assert await store.get(SCOPE, job.id) == job

    async def test_rows_that_the_transition_has_not_counted_are_refused(self, store: Store) -> None:
        job = await submitted(store)
        transition, rows = announced(cancel(job, NOON), events=2)
        other = (await submitted(store)), 2
        wrong: list[list[OutboxRow]] = [
            [],
            rows[:1],
            [*rows, event_row(job, 4)],
            [rows[1], rows[0]],
            [event_row(other[0], 2), rows[1]],
        ]
        for given in wrong:
            with pytest.raises(ValueError, match=str(job.id)):
                await store.commit(transition, given)
        assert await store.get(SCOPE, job.id) == job

    async def test_a_milestone_without_its_event_is_refused(self, store: Store) -> None:
        job = await submitted(store)
        silent = cancel(job, NOON)
        with pytest.raises(ValueError, match="finished"):
            await store.commit(silent, [])
        assert (await store.get(SCOPE, job.id)).state is JobState.CREATED

    async def test_a_file_of_discards_takes_as_many_sequence_numbers_as_it_has_rows(
        self, store: Store
    ) -> None:
        job = await submitted(store)
        file = DiscardFile(path="/d/1", sha256="0" * 64, rows=10)
        step = cancel(job, NOON)
        rows = [event_row(job, 2, discards=file), event_row(job, 12)]
        await store.commit(replace(step, after=replace(step.after, events=12)), rows)
        assert [numbered.row for numbered in await all_rows(store)][1:] == rows
        with pytest.raises(ValueError, match="12"):
            await store.commit(replace(step, after=replace(step.after, events=3)), rows)

    async def test_of_many_that_race_for_a_job_one_wins(
        self, store: Store, database: Database
    ) -> None:
        neighbour = await database.open()
        job = await submitted(store)

        async def attempt(which: Store, step: Callable[[Job], Transition]) -> bool:
            transition, rows = announced(step(job))
            try:
                await which.commit(transition, rows)
            except LeaseLost:
                return False
            return True

        outcomes = await asyncio.gather(
            *(
                attempt((store, neighbour)[turn % 2], step)
                for turn in range(10)
                for step in (lambda job: cancel(job, NOON), lambda job: fail(job, NOON))
            )
        )
        assert outcomes.count(True) == 1
        assert (await store.get(SCOPE, job.id)).fault in (FAULT, CANCELLATION)
