"""Waiting for commits; opening and closing."""

import asyncio
from datetime import timedelta

import pytest

from contract.store_contract.suite import (
    LEASE,
    Database,
    Suite,
    all_rows,
)
from segexport.errors import (
    StoreUnavailable,
)
from segexport.store.store import Store
from support.job_stories import (
    SCOPE,
    submitted,
)

PATIENCE = timedelta(seconds=20)
"""Longer than anything here takes; running out of it fails the test."""


async def settled(store: Store) -> int:
    """The number to wait on, once nothing old is left to be noticed."""
    seen, last = 0, -1
    while seen != last:
        last, seen = seen, await store.wait_for_change(seen, timedelta(milliseconds=120))
    return seen


class ChangeContract(Suite):
    """Waiting for commits."""

    async def test_whoever_waits_is_woken_by_a_commit_of_the_same_store(self, store: Store) -> None:
        seen = await settled(store)
        waiting = asyncio.create_task(store.wait_for_change(seen, PATIENCE))
        await asyncio.sleep(0)
        await submitted(store)
        assert await asyncio.wait_for(waiting, 5) != seen

    async def test_whoever_waits_is_woken_by_a_commit_of_another_process(
        self, store: Store, database: Database
    ) -> None:
        neighbour = await database.open()
        seen = await settled(store)
        waiting = asyncio.create_task(store.wait_for_change(seen, PATIENCE))
        await asyncio.sleep(0)
        await submitted(neighbour)
        assert await asyncio.wait_for(waiting, 5) != seen

    async def test_a_commit_between_two_waits_is_not_lost(
        self, store: Store, database: Database
    ) -> None:
        neighbour = await database.open()
        for writer in (store, neighbour):
            seen = await settled(store)
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
        seen = await settled(store)
        waiting = [asyncio.create_task(store.wait_for_change(seen, PATIENCE)) for _ in range(5)]
        await asyncio.sleep(0)
        await submitted(store)
        assert seen not in await asyncio.wait_for(asyncio.gather(*waiting), 5)

    async def test_patience_runs_out_when_nothing_happens(self, store: Store) -> None:
        seen = await settled(store)
        assert await store.wait_for_change(seen, timedelta(milliseconds=120)) == seen

    async def test_a_call_that_changes_nothing_wakes_nobody(self, store: Store) -> None:
        seen = await settled(store)
        waiting = asyncio.create_task(store.wait_for_change(seen, timedelta(milliseconds=200)))
        await asyncio.sleep(0)
        assert await store.claim("worker", LEASE, limit=100) is None
        assert await waiting == seen


class OpeningContract(Suite):
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
        with pytest.raises(StoreUnavailable, match="closed"):
            await store.wait_for_change(0, PATIENCE)

    async def test_closing_wakes_whoever_waits(self, store: Store) -> None:
        waiting = asyncio.create_task(store.wait_for_change(await settled(store), PATIENCE))
        await asyncio.sleep(0)
        await store.close()
        await asyncio.wait_for(waiting, 5)

    async def test_a_caller_who_gives_up_disturbs_nobody(self, store: Store) -> None:
        impatient = asyncio.create_task(submitted(store))
        patient = asyncio.create_task(submitted(store))
        await asyncio.sleep(0)
        impatient.cancel()
        job = await patient
        assert await store.get(SCOPE, job.id) == job
