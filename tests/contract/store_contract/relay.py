"""The one relay, refused rows, and replays."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import pytest

from contract.store_contract.suite import LEASE, SECOND, Database, Suite, all_rows
from segexport.errors import DiscardsWaiting, JobNotFound, RelayFenced, StoreError
from segexport.jobs.publication import DiscardFile
from segexport.store.store import Parked, Store
from support.deliveries import complete, submit
from support.job_stories import (
    NOON,
    advanced,
    cancel,
    submitted,
)

FILE = DiscardFile(path="/discards/1.parquet", sha256="ab" * 32, rows=7)
REDACTED = DiscardFile(path="/discards/1-1.parquet", sha256="cd" * 32, rows=7)


class RelayContract(Suite):
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

    async def test_a_delivered_discard_file_gives_way_to_one_without_a_person(
        self, store: Store
    ) -> None:
        job = await complete(store, await submit(store), FILE)
        other = await complete(store, await submit(store), replace(FILE, path="/other"))
        await self._deliver(store)
        assert await store.discard_files() == [
            (job.id, FILE),
            (other.id, replace(FILE, path="/other")),
        ]
        await store.replace_discards(job.id, FILE, REDACTED)
        assert await store.discard_files() == [
            (job.id, REDACTED),
            (other.id, replace(FILE, path="/other")),
        ]
        stored = await store.get(job.scope, job.id)
        assert stored.publication is not None
        assert stored.publication.discards == REDACTED
        assert stored.counts == job.counts
        (row,) = [each.row for each in await all_rows(store) if each.row.discards == REDACTED]
        assert row.job_id == job.id

    async def test_a_discard_file_stays_while_events_of_it_may_be_sent(self, store: Store) -> None:
        job = await complete(store, await submit(store), FILE)
        with pytest.raises(DiscardsWaiting, match="still to be delivered"):
            await store.replace_discards(job.id, FILE, REDACTED)
        number = await self._deliver(store)
        epoch = await self._leading(store, "a")
        await store.park("a", epoch, Parked(number, job.id, 3, "too large", NOON))
        with pytest.raises(DiscardsWaiting):
            await store.replace_discards(job.id, FILE, REDACTED)
        assert await store.discard_files() == [(job.id, FILE)]

    async def test_only_the_file_that_a_job_has_gives_way_and_to_one_with_as_many_rows(
        self, store: Store
    ) -> None:
        job = await complete(store, await submit(store), FILE)
        await self._deliver(store)
        for old, new in ((REDACTED, FILE), (FILE, replace(REDACTED, rows=FILE.rows - 1))):
            with pytest.raises(StoreError, match="look again"):
                await store.replace_discards(job.id, old, new)
        with pytest.raises(StoreError, match="look again"):
            await store.replace_discards(job.id + 1, FILE, REDACTED)
        assert await store.discard_files() == [(job.id, FILE)]

    async def _deliver(self, store: Store) -> int:
        """Mark all rows as delivered; the last one's number."""
        epoch = await self._leading(store, "a")
        last = (await store.backlog()).last
        await store.mark_delivered("a", epoch, last)
        return last
