"""What every store must do. A store's own test module inherits the classes below and says,
in a fixture named `database`, where its database is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Protocol, cast

import pytest

from segexport.errors import (
    JobNotFound,
    LeaseLost,
    RelayFenced,
    RequestConflict,
    StoreError,
    StoreUnavailable,
)
from segexport.events.outbox import NumberedRow, OutboxRow
from segexport.jobs import job as steps
from segexport.jobs.job import Job, Scope, Transition
from segexport.jobs.lifecycle import JobState
from segexport.jobs.publication import DataFile, DiscardFile
from segexport.store.store import FinishedPiece, Lease, Parked, Store
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
    initialize,
    new_job,
    submitted,
)
from support.waiting import until

LEASE = timedelta(seconds=15)
SECOND = timedelta(seconds=1)
MANY = 10_000
MEGABYTE = 1 << 20


class Database(Protocol):
    """A database that is empty at first, and whose clock the test moves."""

    async def open(self) -> Store:
        """Another store over it, as another process would have; the fixture closes it."""
        ...

    def advance(self, duration: timedelta) -> None:
        """Let this much time pass on the clock that decides about leases."""
        ...


class _Suite:
    @pytest.fixture
    async def store(self, database: Database) -> Store:
        return await database.open()


async def all_rows(store: Store) -> Sequence[NumberedRow]:
    return await store.rows_after(0, limit=MANY, max_bytes=100 * MEGABYTE)


def unstorable(row: OutboxRow) -> OutboxRow:
    """A row that only the database itself finds wrong: without a value."""
    return replace(row, value=cast("bytes", None))


async def claimed(store: Store, owner: str = "worker") -> tuple[Job, Lease]:
    job = await store.claim(owner, LEASE)
    assert job is not None
    return job, Lease(job.id, owner, job.epoch)


class SubmissionContract(_Suite):
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


class ReadingContract(_Suite):
    """One job, and lists of them."""

    @pytest.mark.parametrize("scope", [Scope("acme", "stage"), Scope("zenith", "prod")])
    async def test_a_job_of_another_scope_is_not_found(self, store: Store, scope: Scope) -> None:
        job = await submitted(store)
        with pytest.raises(JobNotFound, match=str(job.id)):
            await store.get(scope, job.id)
        assert await store.jobs(scope) == []

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


class TransitionContract(_Suite):
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

    async def test_a_worker_whose_job_was_taken_over_can_change_nothing(
        self, store: Store, database: Database
    ) -> None:
        await submitted(store)
        lost, _ = await claimed(store, "first")
        database.advance(LEASE)
        held, _ = await claimed(store, "second")
        with pytest.raises(LeaseLost, match="epoch 2"):
            await advanced(store, lost, cancel)
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


class LeaseContract(_Suite):
    """Who works on what, and until when."""

    async def test_nothing_to_do_is_none(self, store: Store) -> None:
        assert await store.claim("worker", LEASE) is None

    async def test_the_oldest_job_is_claimed_first(self, store: Store) -> None:
        ages = {10: 1, 30: 3, 20: 2, 31: 3}
        for job_id, age in ages.items():
            await submitted(store, job_id=job_id, now=NOON - age * SECOND)
        claims = [(await claimed(store))[0].id for _ in ages]
        assert claims == [30, 31, 20, 10]
        assert await store.claim("worker", LEASE) is None

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
        assert await store.claim("second", LEASE) is None
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
        assert await store.claim("worker", LEASE) is None
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
        assert await store.claim("worker", LEASE) is None

    async def test_renewing_keeps_the_job_and_notes_progress(
        self, store: Store, database: Database
    ) -> None:
        job = await submitted(store)
        assert await store.progress(job.id) == 0
        _, lease = await claimed(store)
        database.advance(LEASE - SECOND)
        renewed = await store.renew(lease, LEASE, progress=0.25)
        database.advance(LEASE - SECOND)
        assert await store.claim("other", LEASE) is None
        assert renewed == await store.get(SCOPE, job.id)
        assert await store.progress(job.id) == 0.25

    async def test_progress_of_a_job_that_is_not_there_is_not_found(self, store: Store) -> None:
        with pytest.raises(JobNotFound):
            await store.progress(1)

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
        assert await store.claim("other", LEASE) is None

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
        assert await store.progress(job.id) == 0
        assert await store.pieces(job.id) == []

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
            *((store, neighbour)[turn % 2].claim(f"worker {turn}", LEASE) for turn in range(30))
        )
        taken = [job for job in claims if job is not None]
        assert len(taken) == 20
        assert {job.id for job in taken} == jobs


def _piece(index: int, *, epoch: int, rows: int = 7) -> FinishedPiece:
    return FinishedPiece(
        index=index,
        epoch=epoch,
        data=DataFile(name=f"part-{index:05d}-{epoch}.parquet", rows=rows, size=999),
        selected=rows + 2,
        discards=DataFile(name=f"discards-{index:05d}.arrow", rows=2, size=55),
        namespaces={"ECID": rows},
    )


class PieceContract(_Suite):
    """Finished pieces."""

    async def test_pieces_are_kept_by_index_with_all_they_say(self, store: Store) -> None:
        await submitted(store)
        job, lease = await claimed(store)
        empty = FinishedPiece(index=1, epoch=1, data=None, selected=0)
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


class OutboxContract(_Suite):
    """Event rows in the order of delivery."""

    async def test_rows_come_back_byte_for_byte_in_the_order_of_commits(self, store: Store) -> None:
        first, second = await submitted(store), await submitted(store)
        second = await advanced(store, second, cancel)
        first = await advanced(store, first, cancel)
        rows = await all_rows(store)
        assert [(numbered.row.job_id, numbered.row.sequence) for numbered in rows] == [
            (first.id, 1),
            (second.id, 1),
            (second.id, 2),
            (first.id, 2),
        ]
        for numbered in rows:
            assert numbered.row.value.endswith(bytes([0, 255]))
            assert await store.row(numbered.number) == numbered

    async def test_reading_goes_on_behind_a_number(self, store: Store) -> None:
        for _ in range(5):
            await submitted(store)
        rows = await all_rows(store)
        assert await store.rows_after(rows[2].number, limit=MANY, max_bytes=MEGABYTE) == rows[3:]
        assert await store.rows_after(rows[2].number, limit=1, max_bytes=MEGABYTE) == rows[3:4]
        assert await store.rows_after(rows[4].number, limit=MANY, max_bytes=MEGABYTE) == []

    async def test_a_reading_is_bounded_by_bytes_but_never_empty(self, store: Store) -> None:
        for _ in range(4):
            await submitted(store)
        rows = await all_rows(store)
        sizes = [len(numbered.row.value) for numbered in rows]
        assert await store.rows_after(0, limit=MANY, max_bytes=sum(sizes[:2])) == rows[:2]
        assert await store.rows_after(0, limit=MANY, max_bytes=sum(sizes[:2]) - 1) == rows[:1]
        assert await store.rows_after(0, limit=MANY, max_bytes=1) == rows[:1]

    async def test_the_rows_of_one_job_can_be_read_within_bounds(self, store: Store) -> None:
        job = await submitted(store)
        await submitted(store)
        transition, more = announced(cancel(job, NOON), events=3)
        await store.commit(transition, more)
        rows = await all_rows(store)
        own = [numbered for numbered in rows if numbered.row.job_id == job.id]
        first, last = own[0].number, own[-1].number
        assert await store.rows_of_job(job.id, after=0, through=last) == own
        assert await store.rows_of_job(job.id, after=first, through=last - 1) == own[1:-1]
        assert await store.rows_of_job(job.id, after=last, through=last + 9) == []

    async def test_a_row_that_is_not_there_is_an_error(self, store: Store) -> None:
        with pytest.raises(StoreError, match="17"):
            await store.row(17)

    async def test_a_reader_misses_nothing_of_many_writers_and_sees_each_job_in_order(
        self, store: Store, database: Database
    ) -> None:
        """The reader follows by number only, as the relay does, while others write."""
        stores = [store, await database.open(), await database.open()]
        lives = 30
        ended: list[Job] = []

        async def live(which: Store) -> None:
            job = await submitted(which)
            for step in WAY_TO_SUCCESS:
                job = await advanced(which, job, step)
            ended.append(job)

        seen: list[NumberedRow] = []

        async def caught_up() -> bool:
            while page := await stores[2].rows_after(
                seen[-1].number if seen else 0, limit=7, max_bytes=MEGABYTE
            ):
                seen.extend(page)
            return len(ended) == lives and len(seen) >= 3 * lives

        writers = [asyncio.create_task(live(stores[turn % 2])) for turn in range(lives)]
        await until(caught_up, 30, "every row of every writer is read")
        await asyncio.gather(*writers)
        numbers = [numbered.number for numbered in seen]
        assert numbers == sorted(set(numbers))
        assert seen == await all_rows(store)
        for job in ended:
            of_job = [numbered.row.sequence for numbered in seen if numbered.row.job_id == job.id]
            assert of_job == [1, 2, 3]


class RelayContract(_Suite):
    """The one relay, refused rows, and replays."""

    async def test_one_leads_and_the_others_wait(self, store: Store, database: Database) -> None:
        neighbour = await database.open()
        assert await store.lead("a", LEASE) == 1
        assert await neighbour.lead("b", LEASE) is None
        database.advance(LEASE - SECOND)
        assert await store.lead("a", LEASE) == 1
        database.advance(LEASE - SECOND)
        assert await neighbour.lead("b", LEASE) is None
        database.advance(2 * SECOND)
        assert await neighbour.lead("b", LEASE) == 2
        assert await store.lead("a", LEASE) is None

    async def test_a_leader_that_was_late_but_not_replaced_keeps_its_epoch(
        self, store: Store, database: Database
    ) -> None:
        assert await store.lead("a", LEASE) == 1
        database.advance(10 * LEASE)
        assert await store.lead("a", LEASE) == 1

    async def test_who_resigns_is_followed_at_once(self, store: Store) -> None:
        assert await store.lead("a", LEASE) == 1
        await store.resign("b")
        assert await store.lead("b", LEASE) is None
        await store.resign("a")
        assert await store.lead("b", LEASE) == 2
        await store.resign("b")
        assert await store.lead("b", LEASE) == 3

    async def test_a_relay_that_was_replaced_can_write_nothing(
        self, store: Store, database: Database
    ) -> None:
        job = await submitted(store)
        old = await self._leading(store, "a")
        parked = Parked(1, job.id, 0, "too large", NOON)
        await store.park("a", old, parked)
        replay = await store.request_replay(job.id)
        database.advance(LEASE)
        await self._leading(store, "b")
        writes: list[Callable[[], Awaitable[None]]] = [
            partial(store.park, "a", old, replace(parked, reason="other")),
            partial(store.finish_replay, "a", old, replay),
            partial(store.mark_delivered, "a", old, 1),
            partial(store.mark_delivered, "b", old, 1),
        ]
        for write in writes:
            with pytest.raises(RelayFenced):
                await write()
        assert await store.parked() == [parked]
        assert await store.replays(0) == [replay]
        assert (await store.backlog()).delivered == 0

    async def test_the_backlog_counts_what_there_is(self, store: Store) -> None:
        backlog = await store.backlog()
        assert (backlog.last, backlog.delivered, backlog.parked) == (0, 0, 0)
        jobs = [await submitted(store) for _ in range(3)]
        epoch = await self._leading(store, "a")
        rows = await all_rows(store)
        await store.mark_delivered("a", epoch, rows[1].number)
        await store.park("a", epoch, Parked(rows[2].number, jobs[2].id, 0, "refused", NOON))
        backlog = await store.backlog()
        assert (backlog.last, backlog.delivered, backlog.parked) == (
            rows[2].number,
            rows[1].number,
            1,
        )

    async def test_a_row_is_parked_once_with_its_latest_reason(self, store: Store) -> None:
        job = await submitted(store)
        epoch = await self._leading(store, "a")
        first = Parked(1, job.id, 5, "too large", NOON)
        for parked in (first, first, replace(first, offset=9, reason="still too large")):
            await store.park("a", epoch, parked)
        assert await store.parked() == [replace(first, offset=9, reason="still too large")]

    async def test_a_replay_is_asked_for_seen_and_finished_once(self, store: Store) -> None:
        job = await submitted(store)
        epoch = await self._leading(store, "a")
        await store.park("a", epoch, Parked(1, job.id, 0, "refused", NOON))
        first, second = [await store.request_replay(job.id) for _ in range(2)]
        assert first.job_id == job.id
        assert first.id < second.id
        assert await store.replays(0) == [first, second]
        assert await store.replays(first.id) == [second]
        await store.finish_replay("a", epoch, first)
        assert await store.parked() == []
        assert await store.replays(0) == [second]
        await store.finish_replay("a", epoch, second)
        assert await store.replays(0) == []

    async def test_a_replay_finished_twice_does_not_forget_a_row_parked_since(
        self, store: Store
    ) -> None:
        job = await submitted(store)
        await advanced(store, job, cancel)
        epoch = await self._leading(store, "a")
        await store.park("a", epoch, Parked(1, job.id, 0, "refused", NOON))
        replay = await store.request_replay(job.id)
        await store.finish_replay("a", epoch, replay)
        later = Parked(2, job.id, 0, "refused as well", NOON)
        await store.park("a", epoch, later)
        await store.finish_replay("a", epoch, replay)
        assert await store.parked() == [later]

    async def test_a_row_that_is_refused_again_answers_its_replay(self, store: Store) -> None:
        job = await submitted(store)
        epoch = await self._leading(store, "a")
        parked = Parked(1, job.id, 0, "refused", NOON)
        await store.park("a", epoch, parked)
        replay = await store.request_replay(job.id)
        await store.park("a", epoch, parked)
        assert await store.replays(0) == []
        await store.finish_replay("a", epoch, replay)
        assert await store.parked() == [parked]

    async def test_there_is_no_replay_without_a_parked_row(self, store: Store) -> None:
        job = await submitted(store)
        with pytest.raises(JobNotFound, match=str(job.id)):
            await store.request_replay(job.id)

    async def _leading(self, store: Store, owner: str) -> int:
        epoch = await store.lead(owner, LEASE)
        assert epoch is not None
        return epoch


PATIENCE = timedelta(seconds=20)
"""Longer than anything here takes; running out of it fails the test."""


class ChangeContract(_Suite):
    """Waiting for commits."""

    async def test_whoever_waits_is_woken_by_a_commit_of_the_same_store(self, store: Store) -> None:
        seen = await self._settled(store)
        waiting = asyncio.create_task(store.wait_for_change(seen, PATIENCE))
        await asyncio.sleep(0)
        await submitted(store)
        assert await asyncio.wait_for(waiting, 5) != seen

    async def test_whoever_waits_is_woken_by_a_commit_of_another_process(
        self, store: Store, database: Database
    ) -> None:
        neighbour = await database.open()
        seen = await self._settled(store)
        waiting = asyncio.create_task(store.wait_for_change(seen, PATIENCE))
        await asyncio.sleep(0)
        await submitted(neighbour)
        assert await asyncio.wait_for(waiting, 5) != seen

    async def test_a_commit_between_two_waits_is_not_lost(
        self, store: Store, database: Database
    ) -> None:
        neighbour = await database.open()
        for writer in (store, neighbour):
            seen = await self._settled(store)
            await submitted(writer)
            assert await asyncio.wait_for(store.wait_for_change(seen, PATIENCE), 5) != seen

    async def test_a_commit_before_the_first_wait_is_not_lost(
        self, store: Store, database: Database
    ) -> None:
        neighbour = await database.open()
        assert await all_rows(store) == []
        await submitted(neighbour)
        assert await asyncio.wait_for(store.wait_for_change(0, PATIENCE), 5) != 0

    async def test_all_who_wait_are_woken(self, store: Store) -> None:
        seen = await self._settled(store)
        waiting = [asyncio.create_task(store.wait_for_change(seen, PATIENCE)) for _ in range(5)]
        await asyncio.sleep(0)
        await submitted(store)
        assert seen not in await asyncio.wait_for(asyncio.gather(*waiting), 5)

    async def test_patience_runs_out_when_nothing_happens(self, store: Store) -> None:
        seen = await self._settled(store)
        assert await store.wait_for_change(seen, timedelta(milliseconds=120)) == seen

    async def test_a_call_that_changes_nothing_wakes_nobody(self, store: Store) -> None:
        seen = await self._settled(store)
        waiting = asyncio.create_task(store.wait_for_change(seen, timedelta(milliseconds=200)))
        await asyncio.sleep(0)
        assert await store.claim("worker", LEASE) is None
        assert await waiting == seen

    async def _settled(self, store: Store) -> int:
        """The number to wait on, once nothing old is left to be noticed."""
        seen, last = 0, -1
        while seen != last:
            last, seen = seen, await store.wait_for_change(seen, timedelta(milliseconds=120))
        return seen


class OpeningContract(_Suite):
    """Opening and closing."""

    async def test_everybody_who_opens_a_database_sees_the_same_store(
        self, store: Store, database: Database
    ) -> None:
        neighbour = await database.open()
        assert store.identity == neighbour.identity
        assert store.identity.generation == 1
        job = await submitted(store)
        assert await neighbour.get(SCOPE, job.id) == job

    async def test_closing_finishes_what_was_accepted(
        self, store: Store, database: Database
    ) -> None:
        accepted = [asyncio.create_task(submitted(store)) for _ in range(50)]
        await asyncio.sleep(0)
        await store.close()
        jobs = await asyncio.gather(*accepted)
        neighbour = await database.open()
        assert {job.id for job in await neighbour.jobs(SCOPE)} == {job.id for job in jobs}

    async def test_a_closed_store_says_so(self, store: Store) -> None:
        await store.close()
        await store.close()
        with pytest.raises(StoreUnavailable, match="closed"):
            await submitted(store)
        with pytest.raises(StoreUnavailable, match="closed"):
            await store.jobs(SCOPE)

    async def test_a_caller_who_gives_up_disturbs_nobody(self, store: Store) -> None:
        impatient = asyncio.create_task(submitted(store))
        patient = asyncio.create_task(submitted(store))
        await asyncio.sleep(0)
        impatient.cancel()
        job = await patient
        assert await store.get(SCOPE, job.id) == job


class StoreContract(
    SubmissionContract,
    ReadingContract,
    TransitionContract,
    LeaseContract,
    PieceContract,
    OutboxContract,
    RelayContract,
    ChangeContract,
    OpeningContract,
):
    """All of it."""
