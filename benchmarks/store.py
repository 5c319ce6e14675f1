"""The store's throughput against SQLite itself, with nothing in between.

Both sides write the same rows of the same jobs into a new file of the same schema, with
synchronous=FULL: a job is submitted and takes two steps, each of the three transitions with
one event of 700 bytes. The store is given transitions by so many concurrent callers, each of
whom waits for his answer. Raw SQLite is given finished tuples in batches of as many, one
transaction and one `executemany` per table each, and has nobody to answer.

    python benchmarks/store.py [--folder DIR] [--runs N] [--transitions N]
"""

import argparse
import asyncio
import secrets
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from measure import Case, Comparison, compare, print_header
from segexport.commands import random_job_id
from segexport.events.outbox import OutboxRow
from segexport.jobs import job as steps
from segexport.jobs.job import Fault, FaultKind, Job, Scope, Step, Transition
from segexport.jobs.reading import parse_request
from segexport.store import rows as columns
from segexport.store.sqlite import SqliteStore, file

CALLERS: Final = (1, 64, 512)
EVENT_BYTES: Final = 700
SCOPE: Final = Scope("acme", "prod")
REQUEST: Final = parse_request(
    {
        "fields": "person.name,homeAddress.city",
        "filter": {"segments": [{"segmentId": "4f8f6b7e-6d5c-4b0a-9a43-2a3d6c1e7f90"}]},
        "destination": {"datasetId": "audience"},
    }
)

Told = tuple[Transition, list[OutboxRow]]
"""A transition with its event rows, as the store takes it."""
Life = Sequence[Told]
Batch = Sequence[tuple[str, Sequence[Sequence[Any]]]]
"""Statements, each with the rows of all callers, that make up one raw transaction."""


def cancel(job: Job, now: datetime) -> Transition:
    """Straight to the end."""
    return steps.cancel(job, now, Fault(FaultKind.CANCELLED, "cancelled on request"))


LATER: Final[Sequence[Step]] = (steps.claim, cancel)
TRANSITIONS: Final = 1 + len(LATER)


def told(transition: Transition) -> Told:
    """The transition with one event."""
    job = replace(transition.after, events=transition.after.events + 1)
    row = OutboxRow(
        job_id=job.id,
        scope=SCOPE,
        sequence=job.events,
        event_id=uuid4(),
        type="segexport.job.step",
        occurred_at=job.updated_at,
        value=secrets.token_bytes(EVENT_BYTES),
    )
    return replace(transition, after=job), [row]


def life() -> Life:
    """A job from its submission to its end."""
    now = datetime.now(UTC)
    first = steps.submit(
        REQUEST,
        job_id=random_job_id(),
        scope=SCOPE,
        request_id=secrets.token_hex(16),
        now=now,
    )
    whole = [told(first)]
    for step in LATER:
        now += timedelta(milliseconds=1)
        whole.append(told(step(whole[-1][0].after, now)))
    return whole


def insert(table: str, names: Sequence[str]) -> str:
    """An INSERT of these columns."""
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"


INSERT_JOB: Final = insert("jobs", columns.FIXED_COLUMNS + columns.CHANGING_COLUMNS)
INSERT_REQUEST: Final = insert(
    "requests",
    ("organization", "sandbox", "request_id", "fingerprint", "job_id", "accepted_at"),
)
INSERT_SEGMENT: Final = insert("job_segments", columns.SEGMENT_COLUMNS)
INSERT_ROW: Final = insert("outbox", columns.ROW_COLUMNS)
UPDATE_JOB: Final = (
    f"UPDATE jobs SET {', '.join(f'{name} = ?' for name in columns.CHANGING_COLUMNS)} "
    "WHERE id = ? AND state = ? AND epoch = ?"
)


def batches(lives: Sequence[Life], size: int) -> Iterator[Batch]:
    """The lives as raw transactions of `size` transitions: first steps, then second steps, …"""
    for first in range(0, len(lives), size):
        for same_step in zip(*lives[first : first + size], strict=True):
            transitions = [transition for transition, _ in same_step]
            yield [
                *_job_statements(transitions),
                (INSERT_ROW, [columns.event_values(row) for _, rows in same_step for row in rows]),
            ]


def _job_statements(transitions: Sequence[Transition]) -> Batch:
    jobs = [transition.after for transition in transitions]
    if transitions[0].before is None:
        values = [columns.fixed_values(job) + columns.changing_values(job) for job in jobs]
        keys = [
            (*SCOPE_KEY, job.request_id, "f", job.id, columns.to_micros(job.created_at))
            for job in jobs
        ]
        segments = [named for job in jobs for named in columns.segment_values(job)]
        return [(INSERT_JOB, values), (INSERT_SEGMENT, segments), (INSERT_REQUEST, keys)]
    compared = [
        (*columns.changing_values(step.after), step.before.id, step.before.state, step.before.epoch)
        for step in transitions
        if step.before is not None
    ]
    return [(UPDATE_JOB, compared)]


SCOPE_KEY: Final = (SCOPE.organization, SCOPE.sandbox)


class Ours:
    """The store, given work by concurrent callers."""

    def __init__(self, folder: Path, callers: int, lives: int) -> None:
        self._folder = folder
        self._callers = callers
        self._lives = lives
        self._work: Sequence[Life] = ()
        self._store: SqliteStore

    async def before(self) -> None:
        """A new file, and everything that callers will ask for."""
        self._store = await SqliteStore.open(new_file(self._folder))
        self._work = [life() for _ in range(self._lives)]

    async def run(self) -> int:
        """All lives, shared out among the callers."""
        await asyncio.gather(
            *(self._caller(self._work[turn :: self._callers]) for turn in range(self._callers))
        )
        return self._lives * TRANSITIONS

    async def _caller(self, lives: Sequence[Life]) -> None:
        for first, *later in lives:
            await self._store.submit(*first, fingerprint="f")
            for step in later:
                await self._store.commit(*step)

    async def after(self) -> None:
        """Check that all of it is there; then away with it."""
        last = (await self._store.backlog()).last
        require(last == self._lives * TRANSITIONS, f"the store holds {last} rows")
        await self._store.close()


class Raw:
    """SQLite, given the same in batches."""

    def __init__(self, folder: Path, size: int, lives: int) -> None:
        self._folder = folder
        self._size = size
        self._lives = lives
        self._batches: Sequence[Batch] = ()
        self._connection: sqlite3.Connection

    async def before(self) -> None:
        """A new file of the same schema, and all batches."""
        path = new_file(self._folder)
        await (await SqliteStore.open(path)).close()
        self._connection = file.connect(path, timedelta(seconds=10))
        # The store sees to its log itself; here SQLite does, by its own default.
        self._connection.execute("PRAGMA wal_autocheckpoint=1000")
        self._batches = list(batches([life() for _ in range(self._lives)], self._size))

    def run(self) -> int:
        """Each batch in a transaction."""
        connection = self._connection
        for batch in self._batches:
            connection.execute("BEGIN IMMEDIATE")
            for statement, values in batch:
                connection.executemany(statement, values)
            connection.execute("COMMIT")
        return self._lives * TRANSITIONS

    def after(self) -> None:
        """Check that all of it is there; then away with it."""
        (last,) = self._connection.execute("SELECT max(number) FROM outbox").fetchone()
        require(last == self._lives * TRANSITIONS, f"the file holds {last} rows")
        self._connection.close()


def require(holds: bool, otherwise: str) -> None:
    """A benchmark of something that did not happen is worth nothing."""
    if not holds:
        raise RuntimeError(otherwise)


def new_file(folder: Path) -> Path:
    """An empty place for a store; the one before is removed."""
    path = folder / "jobs.sqlite"
    for leftover in chain([path], folder.glob("jobs.sqlite-*")):
        leftover.unlink(missing_ok=True)
    return path


async def measure(folder: Path, callers: int, transitions: int, runs: int) -> Comparison:
    """One number of callers against batches of as many."""
    lives = max(1, transitions // TRANSITIONS // callers) * callers
    ours, raw = Ours(folder, callers, lives), Raw(folder, callers, lives)
    return await compare(
        f"{callers} concurrent callers" if callers > 1 else "one caller",
        {
            "segexport's store": Case(ours.run, before=ours.before, after=ours.after),
            f"raw, batches of {callers}": Case(raw.run, before=raw.before, after=raw.after),
        },
        baseline=f"raw, batches of {callers}",
        runs=runs,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The store's throughput against raw SQLite.")
    parser.add_argument("--folder", type=Path, help="where the files lie (default: temporary)")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--transitions", type=int, default=15_000, help="in one run; fewer alone")
    options = parser.parse_args()
    print_header("Store: transitions with their events", "segexport")
    print(f"   SQLite {sqlite3.sqlite_version}, WAL, synchronous=FULL\n")
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="store-bench-") as folder:
        for callers in CALLERS:
            # One caller pays for a flush each time: a tenth of the work tells as much.
            transitions = options.transitions if callers > 1 else options.transitions // 10
            print(asyncio.run(measure(Path(folder), callers, transitions, options.runs)), "\n")


if __name__ == "__main__":
    main()
