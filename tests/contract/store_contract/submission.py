"""New jobs and their request ids; one job, and lists of them."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from contract.store_contract.suite import (
    SECOND,
    Database,
    Suite,
    all_rows,
    unstorable,
)
from segexport.errors import (
    JobNotFound,
    RequestConflict,
    StoreError,
)
from segexport.jobs import job as steps
from segexport.jobs.job import Job, Scope, Step
from segexport.jobs.lifecycle import JobState
from segexport.store.store import Store
from support.job_stories import (
    NOON,
    SCOPE,
    WAY_TO_FAILURE,
    advanced,
    cancel,
    initialize,
    naming,
    new_job,
    postpone,
    start,
    submitted,
)


class SubmissionContract(Suite):
    """New jobs, and request ids."""

    async def test_a_new_job_is_stored_as_it_was_submitted(self, store: Store) -> None:
        transition, rows = new_job(deadline=NOON + timedelta(hours=12), retry_of=4711)
        submission = await store.submit(transition, rows, fingerprint="f")
        assert submission.created
        assert submission.job == transition.after
        assert await store.get(SCOPE, transition.after.id) == transition.after
        assert [numbered.row for numbered in await all_rows(store)] == rows

    async def test_the_largest_job_id_is_kept_exactly(self, store: Store) -> None:
        job = await submitted(store, job_id=2**53 - 1)
        assert (await store.get(SCOPE, job.id)).id == 2**53 - 1

    async def test_a_request_id_that_comes_again_gives_the_first_job_as_it_now_stands(
        self, store: Store
    ) -> None:
        first = await submitted(store, request_id="r")
        advanced_job = await advanced(store, first, steps.claim)
        again, rows = new_job(request_id="r")
        submission = await store.submit(again, rows, fingerprint="f")
        assert not submission.created
        assert submission.job == advanced_job
        assert len(await all_rows(store)) == 1
        with pytest.raises(JobNotFound):
            await store.get(SCOPE, again.after.id)

    async def test_a_request_id_with_another_body_is_a_conflict(self, store: Store) -> None:
        first = await submitted(store, request_id="r")
        other, rows = new_job(request_id="r")
        with pytest.raises(RequestConflict, match=f"'r'.*{first.id}"):
            await store.submit(other, rows, fingerprint="g")
        assert [job.id for job in await store.jobs(SCOPE)] == [first.id]

    async def test_a_request_id_says_which_job_it_has_made(
        self, store: Store, database: Database
    ) -> None:
        first = await advanced(store, await submitted(store, request_id="r"), steps.claim)
        assert await store.known(SCOPE, "r", fingerprint="f") == first
        assert await store.known(SCOPE, "q", fingerprint="f") is None
        assert await store.known(Scope("zenith", "prod"), "r", fingerprint="f") is None
        with pytest.raises(RequestConflict, match=f"'r'.*{first.id}"):
            await store.known(SCOPE, "r", fingerprint="g")
        database.advance(timedelta(hours=24) + SECOND)
        assert await store.known(SCOPE, "r", fingerprint="f") is None

    async def test_scopes_do_not_share_request_ids(self, store: Store) -> None:
        for scope in (SCOPE, Scope("acme", "stage"), Scope("zenith", "prod")):
            transition, rows = new_job(scope=scope, request_id="r")
            assert (await store.submit(transition, rows, fingerprint=str(scope))).created

    async def test_a_request_id_is_kept_for_24_hours_and_then_makes_a_new_job(
        self, store: Store, database: Database
    ) -> None:
        first = await submitted(store, request_id="r")
        database.advance(timedelta(hours=24) - SECOND)
        assert (await submitted(store, request_id="r")).id == first.id
        database.advance(2 * SECOND)
        second = await submitted(store, request_id="r")
        assert second.id != first.id
        assert (await submitted(store, request_id="r")).id == second.id
        assert (await store.get(SCOPE, first.id)).request_id == "r"

    async def test_one_request_id_submitted_by_many_at_once_makes_one_job(
        self, store: Store, database: Database
    ) -> None:
        neighbour = await database.open()
        transitions = [new_job(request_id="r") for _ in range(20)]
        submissions = await asyncio.gather(
            *(
                (store, neighbour)[turn % 2].submit(transition, rows, fingerprint="f")
                for turn, (transition, rows) in enumerate(transitions)
            )
        )
        assert len({submission.job.id for submission in submissions}) == 1
        assert sum(submission.created for submission in submissions) == 1
        assert len(await all_rows(store)) == 1

    async def test_a_submission_whose_row_is_refused_stores_nothing(self, store: Store) -> None:
        transition, rows = new_job(request_id="r")
        with pytest.raises(StoreError, match=str(rows[0].event_id)):
            await store.submit(transition, [unstorable(rows[0])], fingerprint="f")
        with pytest.raises(JobNotFound):
            await store.get(SCOPE, transition.after.id)
        assert (await store.submit(transition, rows, fingerprint="another body")).created

    async def test_a_job_id_is_given_once(self, store: Store) -> None:
        job = await submitted(store)
        with pytest.raises(StoreError):
            await submitted(store, job_id=job.id)
        assert len(await all_rows(store)) == 1


class ReadingContract(Suite):
    """One job, and lists of them."""

    @pytest.mark.parametrize("scope", [Scope("acme", "stage"), Scope("zenith", "prod")])
    async def test_a_job_of_another_scope_is_not_found(self, store: Store, scope: Scope) -> None:
        job = await submitted(store)
        with pytest.raises(JobNotFound, match=str(job.id)):
            await store.get(scope, job.id)
        assert await store.jobs(scope) == []

    @pytest.mark.parametrize("number", [0, -1, 2**63, 10**40])
    async def test_no_job_is_found_by_a_number_that_no_job_can_have(
        self, store: Store, number: int
    ) -> None:
        await submitted(store)
        with pytest.raises(JobNotFound, match=str(number)):
            await store.get(SCOPE, number)
        assert await store.work([number]) == {}
        assert await store.failures([number]) == {}
        with pytest.raises(JobNotFound, match=str(number)):
            await store.request_replay(number)

    async def test_jobs_are_listed_newest_first(self, store: Store) -> None:
        ages = (3, 1, 2)
        jobs = {age: await submitted(store, now=NOON - age * SECOND) for age in ages}
        assert await store.jobs(SCOPE) == [jobs[1], jobs[2], jobs[3]]

    async def test_jobs_of_the_same_moment_are_listed_by_id(self, store: Store) -> None:
        for job_id in (50, 70, 60):
            await submitted(store, job_id=job_id)
        assert [job.id for job in await store.jobs(SCOPE)] == [70, 60, 50]

    async def test_pages_neither_repeat_nor_skip_a_job_when_new_ones_arrive(
        self, store: Store
    ) -> None:
        # Two jobs a moment, so that page borders fall between equal times as well.
        old = [await submitted(store, now=NOON + (n // 2) * SECOND) for n in range(9)]
        seen: list[Job] = []
        before = None
        while page := await store.jobs(SCOPE, before=before, limit=2):
            seen += page
            before = (page[-1].created_at, page[-1].id)
            await submitted(store, now=NOON + timedelta(hours=1))
        assert [job.id for job in seen] == [job.id for job in reversed(old)]

    async def test_jobs_can_be_listed_by_state(self, store: Store) -> None:
        waiting = await submitted(store)
        running = await advanced(store, await submitted(store), steps.claim)
        await advanced(store, await submitted(store), cancel)
        both = {JobState.CREATED, JobState.PREPARING_FOR_INITIALIZATION}
        assert {job.id for job in await store.jobs(SCOPE, states=both)} == {waiting.id, running.id}
        assert await store.jobs(SCOPE, states={JobState.FAILED}) == []
        assert await store.jobs(SCOPE, states=()) == []

    async def test_jobs_of_several_states_come_in_one_order(self, store: Store) -> None:
        lives: Sequence[Sequence[Step]] = ([], [cancel], WAY_TO_FAILURE, [steps.claim])
        wanted = list[int]()
        for n in range(12):
            job = await submitted(store, now=NOON + (n // 2) * SECOND)
            for step in lives[n % 4]:
                job = await advanced(store, job, step)
            if job.state is not JobState.PREPARING_FOR_INITIALIZATION:
                wanted.append(job.id)
        states = [JobState.FAILED, JobState.CREATED, JobState.CANCELLED, JobState.FAILED]
        assert await self.walked(store, states=states, limit=4) == wanted[::-1]

    async def test_jobs_can_be_listed_by_whether_they_have_started(self, store: Store) -> None:
        waiting = await submitted(store)
        claimed_again = await submitted(store)
        for step in (steps.claim, initialize, start, postpone, steps.claim):
            claimed_again = await advanced(store, claimed_again, step)
        claimed_once = await advanced(store, await submitted(store), steps.claim)
        states = {JobState.CREATED, JobState.PREPARING_FOR_INITIALIZATION}
        new = await store.jobs(SCOPE, states=states, started=False)
        assert {job.id for job in new} == {waiting.id, claimed_once.id}
        assert await store.jobs(SCOPE, states=states, started=True) == [claimed_again]
        assert await store.jobs(SCOPE, started=True) == [claimed_again]

    async def test_jobs_can_be_listed_by_a_segment_that_their_request_names(
        self, store: Store
    ) -> None:
        gold = await submitted(store, request=naming("gold"))
        await submitted(store, request=naming("silver"))
        both = await submitted(store, request=naming("silver", "gold"), now=NOON + SECOND)
        twice = await submitted(store, request=naming("gold", ("aam", "gold")), now=NOON - SECOND)
        await submitted(store, request=naming())
        elsewhere = Scope("acme", "stage")
        other = await submitted(store, request=naming("gold"), scope=elsewhere)
        assert await store.jobs(SCOPE, segment="gold") == [both, gold, twice]
        assert await store.jobs(elsewhere, segment="gold") == [other]
        assert await store.jobs(SCOPE, segment="bronze") == []
        assert await self.walked(store, segment="gold", limit=1) == [both.id, gold.id, twice.id]
        await advanced(store, gold, cancel)
        ended = await store.jobs(SCOPE, segment="gold", states={JobState.CANCELLED})
        assert [job.id for job in ended] == [gold.id]

    @staticmethod
    async def walked(store: Store, **wanted: Any) -> list[int]:
        """The ids on all pages."""
        ids, before = list[int](), None
        while page := await store.jobs(SCOPE, before=before, **wanted):
            ids += [job.id for job in page]
            before = (page[-1].created_at, page[-1].id)
        return ids
