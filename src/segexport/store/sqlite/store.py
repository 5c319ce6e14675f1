"""The store's protocols over one SQLite file."""

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, NoReturn, Self
from uuid import UUID, uuid4

from segexport.events.outbox import NumberedRow, OutboxRow
from segexport.jobs.job import Job, Scope, Transition
from segexport.jobs.lifecycle import JobState
from segexport.jobs.publication import DiscardFile
from segexport.store.changes import Changes
from segexport.store.rows import require_matching
from segexport.store.sqlite import file, jobs, lists, outbox, work
from segexport.store.sqlite.readers import Readers
from segexport.store.sqlite.watch import Watch
from segexport.store.sqlite.writer import Writer
from segexport.store.store import (
    Backlog,
    Failure,
    FinishedPiece,
    Lease,
    Parked,
    Replay,
    StoreIdentity,
    Submission,
    Work,
)

PATIENCE: Final = timedelta(seconds=10)
"""How long a locked file is waited for."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class SqliteStore:
    """Jobs and outbox in one file. Implements `segexport.store.store.Store`.

    Open it with `open`, on the event loop that will use it. Several processes may have the
    same file open, on one machine.
    """

    def __init__(
        self,
        path: Path,
        watch: Watch,
        *,
        clock: Callable[[], datetime],
        patience: timedelta,
    ) -> None:
        self._identity = watch.identity
        self._clock = clock
        self._watch = watch
        explain = partial(file.explain, path=path)
        self._readers = Readers(watch, explain)
        self._changes = Changes()
        self._closed = False
        self._writer = Writer(
            watch,
            explain,
            log_size=partial(file.log_size, path),
            on_change=self._changes.note,
            patience=patience,
        )

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        clock: Callable[[], datetime] = _utc_now,
        patience: timedelta = PATIENCE,
        new_id: Callable[[], UUID] = uuid4,
    ) -> Self:
        """Open the store in the file `path`; create it, or bring it up to date, if need be.

        `clock` decides about leases and waits; it is called from the writer's thread.
        Raises `StoreTooNew`, `StoreError` if the file is no store, `StoreUnavailable` if it
        cannot be used.
        """
        watch = await asyncio.to_thread(Watch.open, path, patience=patience, new_id=new_id)
        return cls(path, watch, clock=clock, patience=patience)

    async def close(self) -> None:
        """Finish what was accepted, wake who waits, let go of the file. May be called twice."""
        await self._writer.close()
        self._changes.note()
        await self._readers.close()
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._watch.close)

    async def keep_watch(self) -> NoReturn:
        """Run for as long as the store is good; raise what makes it good for nothing.

        Trouble that may pass is none of that. `StoreReplaced` where the files are no longer those
        that were opened; any other error is one that nobody foresaw. After this has raised, every
        call raises `StoreReplaced` or `StoreUnavailable`.
        """
        await self._writer.failed()

    async def probe(self) -> None:
        """Write and commit, as every job that is accepted does. Raises `StoreError`."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE store SET generation = generation")

        await self._writer.run(write)

    @property
    def identity(self) -> StoreIdentity:
        """Which store this is, as of opening it."""
        return self._identity

    async def raise_generation(self) -> StoreIdentity:
        """Begin another life of the store; whoever restores a backup does so before anything
        else opens it, for the identity is read once.
        """

        def raise_it(connection: sqlite3.Connection) -> StoreIdentity:
            connection.execute("UPDATE store SET generation = generation + 1")
            return file.identity(connection)

        self._identity = await self._writer.run(raise_it)
        return self._identity

    async def now(self) -> datetime:
        """The clock that decides about leases."""
        return self._clock()

    async def wait_for_change(self, seen: int, patience: timedelta) -> int:
        """Own commits wake at once; those of other processes within about 50 ms."""
        with self._writer.looking_around():
            return await self._changes.wait(seen, patience)

    # Jobs

    async def submit(
        self, transition: Transition, rows: Sequence[OutboxRow], *, fingerprint: str
    ) -> Submission:
        """Store a new job with its event rows, once per request id."""
        if transition.before is not None:
            raise ValueError(f"job {transition.after.id} is not new: commit its transitions")
        require_matching(transition, rows)
        return await self._writer.run(
            lambda connection: jobs.submit(connection, transition, rows, fingerprint, self._clock())
        )

    async def known(self, scope: Scope, request_id: str, *, fingerprint: str) -> Job | None:
        """The job of a request id."""
        return await self._readers.run(
            lambda connection: jobs.known(connection, scope, request_id, fingerprint, self._clock())
        )

    async def commit(self, transition: Transition, rows: Sequence[OutboxRow]) -> None:
        """Store a job's next state with its event rows, if it is still as `before` says."""
        before, after = transition.before, transition.after
        if before is None:
            raise ValueError(f"job {after.id} is new: submit it")
        require_matching(transition, rows)
        await self._writer.run(lambda connection: jobs.commit(connection, before, after, rows))

    async def get(self, scope: Scope, job_id: int) -> Job:
        """One job of this scope."""
        return await self._readers.run(lambda connection: jobs.get(connection, scope, job_id))

    async def status(self, scope: Scope, job_id: int) -> tuple[Job, Work, Sequence[Failure]]:
        """One job, what is done for it, its failures."""
        return await self._readers.run(lambda connection: work.status(connection, scope, job_id))

    async def jobs(
        self,
        scope: Scope,
        *,
        states: Collection[JobState] | None = None,
        started: bool | None = None,
        segment: str | None = None,
        before: tuple[datetime, int] | None = None,
        limit: int = 100,
    ) -> Sequence[Job]:
        """A page of jobs, newest first."""
        among = None if states is None else frozenset(states)
        wanted = lists.Wanted(scope, among, started, segment, before)
        return await self._readers.run(lambda connection: lists.page(connection, wanted, limit))

    async def unfinished(self) -> Sequence[Job]:
        """All jobs that have not ended."""
        return await self._readers.run(jobs.unfinished)

    async def claim(self, owner: str, duration: timedelta, *, limit: int) -> Job | None:
        """Lease the job whose turn it is."""
        return await self._writer.run(
            lambda connection: jobs.claim(connection, owner, duration, limit, self._clock())
        )

    async def held_back(self, limit: int) -> Sequence[Job]:
        """New jobs whose organization runs as many as it may."""
        return await self._readers.run(
            lambda connection: jobs.held_back(connection, limit, self._clock())
        )

    async def renew(self, lease: Lease, duration: timedelta, *, progress: float) -> Job:
        """Hold on to a job."""
        return await self._writer.run(
            lambda connection: jobs.renew(connection, lease, duration, progress, self._clock())
        )

    async def release(self, lease: Lease) -> None:
        """Hand a job back."""
        await self._writer.run(lambda connection: jobs.release(connection, lease))

    async def save_piece(self, lease: Lease, piece: FinishedPiece) -> None:
        """Remember a finished piece."""
        await self._writer.run(
            lambda connection: work.save_piece(connection, lease, piece, self._clock())
        )

    async def save_failure(self, lease: Lease, failure: Failure) -> None:
        """Remember that a piece has failed."""
        await self._writer.run(lambda connection: work.save_failure(connection, lease, failure))

    async def pieces(self, job_id: int) -> Sequence[FinishedPiece]:
        """The finished pieces of a job."""
        return await self._readers.run(lambda connection: work.pieces(connection, job_id))

    async def work(self, job_ids: Collection[int]) -> Mapping[int, Work]:
        """What is done for each of these jobs."""
        return await self._readers.run(lambda connection: work.work(connection, job_ids))

    async def failures(self, job_ids: Collection[int]) -> Mapping[int, Sequence[Failure]]:
        """The first failures of each of these jobs."""
        return await self._readers.run(lambda connection: work.failures(connection, job_ids))

    # Outbox

    async def lead(self, owner: str, duration: timedelta) -> int | None:
        """Become, or stay, the one relay."""
        return await self._writer.run(
            lambda connection: outbox.lead(connection, owner, duration, self._clock())
        )

    async def resign(self, owner: str) -> None:
        """Let the next relay lead."""
        await self._writer.run(lambda connection: outbox.resign(connection, owner))

    async def rows_after(self, number: int, *, limit: int, max_bytes: int) -> Sequence[NumberedRow]:
        """The next rows in the order of delivery."""
        return await self._readers.run(
            lambda connection: outbox.rows_after(connection, number, limit, max_bytes)
        )

    async def rows_of_job(self, job_id: int, *, after: int, through: int) -> Sequence[NumberedRow]:
        """A job's rows in a range of numbers."""
        return await self._readers.run(
            lambda connection: outbox.rows_of_job(connection, job_id, after, through)
        )

    async def job_events(self, scope: Scope, *, after: int, limit: int) -> Sequence[NumberedRow]:
        """A scope's rows about whole jobs."""
        return await self._readers.run(
            lambda connection: outbox.job_events(connection, scope, after, limit)
        )

    async def row(self, number: int) -> NumberedRow:
        """One row."""
        return await self._readers.run(lambda connection: outbox.row(connection, number))

    async def park(self, owner: str, epoch: int, parked: Parked) -> None:
        """Mark a row as refused."""
        await self._writer.run(
            lambda connection: outbox.park(connection, owner, epoch, parked, self._clock())
        )

    async def parked(self) -> Sequence[Parked]:
        """All parked rows."""
        return await self._readers.run(outbox.parked)

    async def request_replay(self, job_id: int) -> Replay:
        """Ask for a job's parked row again."""
        return await self._writer.run(
            lambda connection: outbox.request_replay(connection, job_id, self._clock())
        )

    async def replays(self, after: int) -> Sequence[Replay]:
        """Replays that wait for the relay."""
        return await self._readers.run(lambda connection: outbox.replays(connection, after))

    async def finish_replay(self, owner: str, epoch: int, replay: Replay) -> None:
        """Forget the parked row of a replay."""
        await self._writer.run(
            lambda connection: outbox.finish_replay(connection, owner, epoch, replay, self._clock())
        )

    async def discard_files(self) -> Sequence[tuple[int, DiscardFile]]:
        """All jobs' discard files."""
        return await self._readers.run(outbox.discard_files)

    async def replace_discards(self, job_id: int, old: DiscardFile, new: DiscardFile) -> None:
        """Put another file in the place of a delivered one."""
        await self._writer.run(
            lambda connection: outbox.replace_discards(connection, job_id, old, new)
        )

    async def mark_delivered(self, owner: str, epoch: int, number: int) -> None:
        """Note how far delivery is."""
        await self._writer.run(
            lambda connection: outbox.mark_delivered(connection, owner, epoch, number)
        )

    async def backlog(self) -> Backlog:
        """How much there is."""
        return await self._readers.run(outbox.backlog)
