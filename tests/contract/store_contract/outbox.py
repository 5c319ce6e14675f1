"""Event rows in the order of delivery."""

import asyncio
from dataclasses import replace

import pytest

from contract.store_contract.suite import (
    MANY,
    MEGABYTE,
    Database,
    Suite,
    all_rows,
)
from segexport.errors import (
    StoreError,
)
from segexport.events.outbox import NumberedRow
from segexport.jobs.job import Job, Scope
from segexport.store.store import Store
from support.job_stories import (
    NOON,
    PUBLICATION,
    SCOPE,
    WAY_TO_SUCCESS,
    advanced,
    announced,
    cancel,
    event_row,
    submitted,
)
from support.waiting import until


class OutboxContract(Suite):
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

    async def test_a_scope_can_be_followed_in_what_happens_to_its_jobs(self, store: Store) -> None:
        elsewhere = Scope("acme", "stage")
        for scope in (SCOPE, elsewhere, Scope("zenith", "prod"), SCOPE):
            job = await submitted(store, scope=scope)
        discards = event_row(job, 2, discards=PUBLICATION.discards)
        ended = replace(cancel(job, NOON), after=replace(cancel(job, NOON).after, events=12))
        await store.commit(ended, [discards, event_row(job, 12)])
        rows = [numbered for numbered in await all_rows(store) if numbered.row.scope == SCOPE]
        told = [numbered for numbered in rows if numbered.row != discards]
        assert (len(rows), len(told)) == (4, 3)
        assert await store.job_events(SCOPE, after=0, limit=MANY) == told
        assert await store.job_events(SCOPE, after=told[0].number, limit=1) == told[1:2]
        assert await store.job_events(SCOPE, after=told[-1].number, limit=MANY) == []
        assert len(await store.job_events(elsewhere, after=0, limit=MANY)) == 1

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
