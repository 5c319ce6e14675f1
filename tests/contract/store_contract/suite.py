"""What the suites of the contract share."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Protocol, cast

import pytest

from segexport.events.outbox import NumberedRow, OutboxRow
from segexport.jobs.job import Job
from segexport.store.store import Lease, Store

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


class Suite:
    """What all suites stand on: an open store over the database."""

    @pytest.fixture
    async def store(self, database: Database) -> Store:
        return await database.open()


async def all_rows(store: Store) -> Sequence[NumberedRow]:
    return await store.rows_after(0, limit=MANY, max_bytes=100 * MEGABYTE)


def unstorable(row: OutboxRow) -> OutboxRow:
    """A row that only the database itself finds wrong: without a value."""
    return replace(row, value=cast("bytes", None))


async def claimed(store: Store, owner: str = "worker") -> tuple[Job, Lease]:
    job = await store.claim(owner, LEASE, limit=100)
    assert job is not None
    return job, Lease(job.id, owner, job.epoch)
