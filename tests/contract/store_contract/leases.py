"""Who works on what and until when, and what is finished."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from contract.store_contract.suite import (
    LEASE,
    SECOND,
    Database,
    Suite,
    claimed,
)
from segexport.errors import JobNotFound, LeaseLost
from segexport.jobs import job as steps
from segexport.jobs.job import Scope
from segexport.jobs.lifecycle import JobState
from segexport.jobs.publication import DataFile
from segexport.store.store import Failure, FinishedPart, FinishedPiece, Store, Work
from support.job_stories import (
    CANCELLATION,
    NOON,
    SCOPE,
    WAY_TO_FAILURE,
    WAY_TO_SUCCESS,
    advanced,
    cancel,
    fail,
    initialize,
    new_job,
    submitted,
)


class LeaseContract(Suite):
    """Who works on what, and until when."""

    async def test_nothing_to_do_is_none(self, store: Store) -> None:
        assert await store.claim("worker", LEASE, limit=100) is None

    async def test_the_oldest_job_is_claimed_first(self, store: Store) -> None:
        ages = {10: 1, 30: 3, 20: 2, 31: 3}
        for job_id, age in ages.items():
            await submitted(store, job_id=job_id, now=NOON - age * SECOND)
        claims = [(await claimed(store))[0].id for _ in ages]
        assert claims == [30, 31, 20, 10]
        assert await store.claim("worker", LEASE, limit=100) is None

    async def test_jobs_of_all_scopes_are_claimed(self, store: Store) -> None:
        await submitted(store, scope=Scope("zenith", "stage"))
        assert (await claimed(store))[0].scope == Scope("zenith", "stage")

    async def test_a_claim_says_who_until_when_and_leaves_the_state(self, store: Store) -> None:
        job = await submitted(store)
        now = await store.now()
        held, _ = await claimed(store, "worker-1")
        assert held.owner == "worker-1"
        assert held.lease_until is not None
        assert abs(held.lease_until - now - LEASE) < SECOND
        assert replace(held, owner=None, epoch=0, lease_until=None) == job
        assert held.epoch == 1

    async def test_a_job_passes_to_another_when_its_lease_has_run_out(
        self, store: Store, database: Database
    ) -> None:
        job = await submitted(store)
        held, _ = await claimed(store, "first")
        held = await advanced(store, held, steps.claim)
        held = await advanced(store, held, initialize)
        database.advance(LEASE - SECOND)
        assert await store.claim("second", LEASE, limit=100) is None
        database.advance(2 * SECOND)
        taken, _ = await claimed(store, "second")
        assert (taken.id, taken.owner, taken.epoch) == (job.id, "second", 2)
        assert taken.state is JobState.INITIALIZING
        assert taken.snapshot == held.snapshot

    async def test_a_postponed_job_is_free_once_its_time_has_come(
        self, store: Store, database: Database
    ) -> None:
        await submitted(store)
        held, lease = await claimed(store)
        held = await advanced(store, held, steps.claim)
        until_then = await store.now() + timedelta(seconds=5)
        await advanced(store, held, partial(steps.postpone, until=until_then))
        with pytest.raises(LeaseLost):
            await store.renew(lease, LEASE, progress=0.5)
        assert await store.claim("worker", LEASE, limit=100) is None
        database.advance(timedelta(seconds=6))
        again, _ = await claimed(store)
        assert (again.id, again.epoch) == (held.id, 2)

    @pytest.mark.parametrize("way", [WAY_TO_SUCCESS, WAY_TO_FAILURE])
    async def test_a_job_that_has_ended_is_let_go_and_never_claimed_again(
        self, store: Store, database: Database, way: Sequence[steps.Step]
    ) -> None:
        await submitted(store)
        job, lease = await claimed(store)
        for step in way:
            job = await advanced(store, job, step)
        stored = await store.get(SCOPE, job.id)
        assert (stored.owner, stored.lease_until) == (None, None)
        with pytest.raises(LeaseLost):
            await store.renew(lease, LEASE, progress=1)
        database.advance(timedelta(days=1))
        assert await store.claim("worker", LEASE, limit=100) is None

    async def test_renewing_keeps_the_job_and_notes_progress(
        self, store: Store, database: Database
    ) -> None:
        job = await submitted(store)
        assert await store.work([job.id]) == {job.id: Work()}
        _, lease = await claimed(store)
        database.advance(LEASE - SECOND)
        renewed = await store.renew(lease, LEASE, progress=0.25)
        database.advance(LEASE - SECOND)
        assert await store.claim("other", LEASE, limit=100) is None
        assert renewed == await store.get(SCOPE, job.id)
        assert await store.work([job.id]) == {job.id: Work(progress=0.25)}

    async def test_renewing_shows_that_somebody_cancelled(self, store: Store) -> None:
        await submitted(store)
        job, lease = await claimed(store)
        job = await advanced(store, job, steps.claim)
        await advanced(store, await store.get(SCOPE, job.id), cancel)
        renewed = await store.renew(lease, LEASE, progress=0.5)
        assert renewed.state is JobState.CANCELLING
        assert renewed.fault == CANCELLATION

    async def test_a_lease_that_ran_out_can_be_renewed_while_nobody_took_the_job(
        self, store: Store, database: Database
    ) -> None:
        await submitted(store)
        _, lease = await claimed(store)
        database.advance(10 * LEASE)
        await store.renew(lease, LEASE, progress=0)
        assert await store.claim("other", LEASE, limit=100) is None

    async def test_a_lost_lease_renews_releases_and_saves_nothing(
        self, store: Store, database: Database
    ) -> None:
        job = await submitted(store)
        _, lost = await claimed(store, "first")
        database.advance(LEASE)
        held, _ = await claimed(store, "second")
        with pytest.raises(LeaseLost, match="first"):
            await store.renew(lost, LEASE, progress=0.9)
        with pytest.raises(LeaseLost, match="first"):
            await store.save_piece(lost, _piece(0, epoch=1))
        await store.release(lost)
        assert await store.get(SCOPE, job.id) == held
        assert await store.work([job.id]) == {job.id: Work()}

    async def test_the_same_owner_that_claims_again_has_lost_its_first_lease(
        self, store: Store, database: Database
    ) -> None:
        await submitted(store)
        _, lost = await claimed(store, "worker")
        database.advance(LEASE)
        _, held = await claimed(store, "worker")
        with pytest.raises(LeaseLost):
            await store.renew(lost, LEASE, progress=0)
        await store.renew(held, LEASE, progress=0)

    async def test_a_released_job_is_free_at_once(self, store: Store) -> None:
        await submitted(store)
        _, lease = await claimed(store, "first")
        await store.release(lease)
        with pytest.raises(LeaseLost):
            await store.renew(lease, LEASE, progress=0)
        taken, _ = await claimed(store, "second")
        assert taken.epoch == 2

    async def test_no_job_is_claimed_by_two_of_many_that_claim_at_once(
        self, store: Store, database: Database
    ) -> None:
        neighbour = await database.open()
        jobs = {(await submitted(store)).id for _ in range(20)}
        claims = await asyncio.gather(
            *(
                (store, neighbour)[turn % 2].claim(f"worker {turn}", LEASE, limit=100)
                for turn in range(30)
            )
        )
        taken = [job for job in claims if job is not None]
        assert len(taken) == 20
        assert {job.id for job in taken} == jobs


def _piece(index: int, *, epoch: int, rows: int = 7) -> FinishedPiece:
    return FinishedPiece(
        index=index,
        epoch=epoch,
        parts=(
            FinishedPart(
                selected=rows + 2,
                discarded=2,
                data=DataFile(
                    name=f"part-{index:05d}-{epoch}.parquet", rows=rows, size=999, sha256="ab" * 32
                ),
                namespaces={"ECID": rows},
                endpoints=DataFile(name=f"e-{index}.json.gz", rows=9, size=77, sha256="ef" * 32),
            ),
            FinishedPart(selected=0, discarded=0, data=None),
        ),
        discards=DataFile(name=f"discards-{index:05d}.arrow", rows=2, size=55, sha256="cd" * 32),
    )


class PieceContract(Suite):
    """Finished pieces."""

    async def test_pieces_are_kept_by_index_with_all_they_say(self, store: Store) -> None:
        await submitted(store)
        job, lease = await claimed(store)
        empty = FinishedPiece(
            index=1, epoch=1, parts=(FinishedPart(selected=0, discarded=0, data=None),)
        )
        for piece in (_piece(2, epoch=1), _piece(0, epoch=1), empty):
            await store.save_piece(lease, piece)
        assert await store.pieces(job.id) == [_piece(0, epoch=1), empty, _piece(2, epoch=1)]

    async def test_the_next_owner_finds_what_is_finished(
        self, store: Store, database: Database
    ) -> None:
        await submitted(store)
        job, lease = await claimed(store, "first")
        await store.save_piece(lease, _piece(0, epoch=1))
        database.advance(LEASE)
        _, lease = await claimed(store, "second")
        await store.save_piece(lease, _piece(1, epoch=2))
        assert await store.pieces(job.id) == [_piece(0, epoch=1), _piece(1, epoch=2)]

    async def test_a_piece_that_is_saved_again_takes_the_place_of_the_first(
        self, store: Store
    ) -> None:
        await submitted(store)
        job, lease = await claimed(store)
        for rows in (7, 8):
            await store.save_piece(lease, _piece(0, epoch=1, rows=rows))
        assert await store.pieces(job.id) == [_piece(0, epoch=1, rows=8)]

    async def test_what_is_done_for_several_jobs_is_read_at_once(self, store: Store) -> None:
        first, second, _ = [await submitted(store, now=NOON + n * SECOND) for n in range(3)]
        failure = Failure(piece=1, attempt=1, failed_at=NOON, message="it hurts")
        for job, indexes in ((first, (1, 0)), (second, (2,))):
            claimed_job, lease = await claimed(store)
            assert claimed_job.id == job.id
            for index in indexes:
                await store.save_piece(lease, _piece(index, epoch=1))
            await store.renew(lease, LEASE, progress=len(indexes) / 4)
        await store.save_failure(lease, failure)
        asked = [first.id, second.id, second.id + 1000]
        assert await store.work(asked) == {
            first.id: Work(progress=0.5, pieces=[_piece(0, epoch=1), _piece(1, epoch=1)]),
            second.id: Work(progress=0.25, pieces=[_piece(2, epoch=1)]),
        }
        assert await store.failures(asked) == {second.id: [failure]}
        assert (await store.work([]), await store.failures([])) == ({}, {})

    async def test_a_job_is_read_with_what_is_done_for_it(self, store: Store) -> None:
        await submitted(store)
        job, lease = await claimed(store)
        assert await store.status(SCOPE, job.id) == (job, Work(), ())
        failure = Failure(piece=1, attempt=1, failed_at=NOON, message="it hurts")
        await store.save_piece(lease, _piece(0, epoch=1))
        await store.save_failure(lease, failure)
        renewed = await store.renew(lease, LEASE, progress=0.5)
        done = Work(progress=0.5, pieces=[_piece(0, epoch=1)])
        assert await store.status(SCOPE, job.id) == (renewed, done, [failure])
        with pytest.raises(JobNotFound):
            await store.status(Scope("another", SCOPE.sandbox), job.id)


class CapacityContract(Suite):
    """How many jobs of an organization run at once, and whose turn it is."""

    async def test_an_organization_has_no_more_jobs_under_lease_than_it_may(
        self, store: Store, database: Database
    ) -> None:
        for _ in range(3):
            await submitted(store)
        assert await store.claim("a", LEASE, limit=2) is not None
        assert await store.claim("a", LEASE, limit=2) is not None
        assert await store.claim("a", LEASE, limit=2) is None
        assert await store.claim("a", LEASE, limit=3) is not None
        await submitted(store)
        database.advance(LEASE)  # a lease that has run out counts no longer
        assert await store.claim("b", LEASE, limit=1) is not None
        assert await store.claim("b", LEASE, limit=1) is None

    async def test_several_workers_together_keep_the_limit(
        self, store: Store, database: Database
    ) -> None:
        neighbour = await database.open()
        for _ in range(12):
            await submitted(store)
        claims = await asyncio.gather(
            *(
                (store, neighbour)[turn % 2].claim(f"worker {turn}", LEASE, limit=5)
                for turn in range(12)
            )
        )
        assert len([job for job in claims if job]) == 5

    async def test_the_organization_with_the_fewest_jobs_comes_first(self, store: Store) -> None:
        busy = [await submitted(store, scope=Scope("busy", "prod")) for _ in range(3)]
        late = await submitted(store, scope=Scope("late", "prod"), now=NOON + timedelta(hours=1))
        order = [await store.claim("a", LEASE, limit=5) for _ in range(4)]
        assert [job.id for job in order if job] == [busy[0].id, late.id, busy[1].id, busy[2].id]

    async def test_the_limit_holds_up_neither_an_ending_nor_a_passed_deadline(
        self, store: Store, database: Database
    ) -> None:
        await submitted(store)
        await claimed(store)
        ending = await submitted(store)
        _, lease = await claimed(store)
        job = await advanced(store, await store.get(ending.scope, ending.id), steps.claim)
        job = await advanced(store, job, fail)
        await store.release(lease)
        transition, rows = new_job(deadline=NOON + timedelta(seconds=5))
        late = (await store.submit(transition, rows, fingerprint="f")).job
        other = await submitted(store)
        again = await store.claim("a", LEASE, limit=1)
        assert again is not None
        assert again.id == ending.id
        database.advance(timedelta(seconds=6))
        overdue = await store.claim("a", LEASE, limit=1)
        assert overdue is not None
        assert overdue.id == late.id
        assert await store.claim("a", LEASE, limit=1) is None
        assert (await store.get(other.scope, other.id)).owner is None

    async def test_new_jobs_of_an_organization_at_its_limit_are_named(self, store: Store) -> None:
        first, second, third = [await submitted(store) for _ in range(3)]
        await submitted(store, scope=Scope("other", "prod"))
        assert await store.held_back(1) == []
        await claimed(store)
        assert [job.id for job in await store.held_back(1)] == [second.id, third.id]
        assert await store.held_back(2) == []
        await advanced(store, second, steps.wait)
        assert [job.id for job in await store.held_back(1)] == [third.id]
        assert first.id != second.id

    async def test_the_first_hundred_failures_of_a_job_are_kept(
        self, store: Store, database: Database
    ) -> None:
        await submitted(store)
        job, lease = await claimed(store)
        told = [
            Failure(piece=n, attempt=n % 3 + 1, failed_at=NOON, message=f"it's {n}")
            for n in range(105)
        ]
        for failure in told:
            await store.save_failure(lease, failure)
        assert await store.failures([job.id, job.id + 1]) == {job.id: told[:100]}
        database.advance(LEASE)
        await claimed(store, "other")
        with pytest.raises(LeaseLost):
            await store.save_failure(lease, told[0])
