"""The store's contract: what SQLite does today and PostgreSQL will do tomorrow.

Two protocols over one database. `JobStore` is what commands and workers use, `Outbox` what
the relay uses. Every method is one transaction. Times that decide anything (leases,
`not_before`, how long a request id is kept) are read from the store's own clock inside
that transaction.

A call that returns is durable. A call that raises has changed nothing, with one exception:
`StoreUnavailable`, which every method may raise when the database cannot be reached or
stays locked for too long. If the connection is lost just while a write is being committed,
nobody can know whether it took place, so the store never claims that it did. Read again, or
repeat the call: request ids, states and epochs keep it from taking effect twice.

`StoreReplaced` from every method means that the database is no longer the one that was opened:
nothing is read from it or written into it any more, and only opening it again heals that.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from segexport.events.outbox import NumberedRow, OutboxRow
from segexport.jobs.job import Job, Scope, Transition
from segexport.jobs.lifecycle import JobState
from segexport.jobs.publication import DataFile, DiscardFile


@dataclass(frozen=True, slots=True)
class StoreIdentity:
    """Which store this is, and which life of it.

    Both go into every delivered position. `generation` is raised by whoever restores a
    backup, so that a position written by the lost life is recognized.
    """

    id: UUID
    generation: int


@dataclass(frozen=True, slots=True)
class Submission:
    """The job that answers a submission: a new one, or the one of the same request id."""

    job: Job
    created: bool


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's hold on a job: who, and with which epoch. Writes with a lower epoch fail."""

    job_id: int
    owner: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedPart:
    """What a finished piece contributes to one batch; no `data` where it exports nobody there.

    Profiles: selected = rows of `data` + discarded. `endpoints` is made from `data` for a
    Pinpoint job; it is None without an endpoint. `unknown_consents` counts the endpoints with a
    consent that is none of XDM's values.
    """

    selected: int
    discarded: int
    data: DataFile | None
    namespaces: Mapping[str, int] = field(default_factory=dict)
    endpoints: DataFile | None = None
    unknown_consents: int = 0

    @property
    def exported(self) -> int:
        """Profiles in `data`."""
        return self.selected - self.discarded


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedPiece:
    """A piece that needs no second run, whoever holds the job next.

    It has a part for each batch of the job. `discards` names the piece's own discard file
    in the job's staging folder. `saved_at` is when the store was told, by its clock.
    """

    index: int
    epoch: int
    parts: tuple[FinishedPart, ...]
    discards: DataFile | None = None
    saved_at: datetime | None = field(default=None, compare=False)

    @property
    def selected(self) -> int:
        """Profiles; with several batches, once per profile and batch."""
        return sum(part.selected for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is done for a job: its finished pieces, by index, and how far all of it is.

    `progress`, 0 to 1, is what its worker has noted last.
    """

    progress: float = 0.0
    pieces: Sequence[FinishedPiece] = ()


MAX_FAILURES: Final = 100
"""Failures of a job that are kept; Pinpoint shows as many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One try of a piece that has failed: which try it was, from 1, when, and why."""

    piece: int
    attempt: int
    failed_at: datetime
    message: str


class JobStore(Protocol):
    """Jobs, their leases and their finished pieces."""

    @property
    def identity(self) -> StoreIdentity:
        """Known once the store is open."""
        ...

    async def now(self) -> datetime:
        """The store's clock, UTC."""
        ...

    async def submit(
        self, transition: Transition, rows: Sequence[OutboxRow], *, fingerprint: str
    ) -> Submission:
        """Store a new job with its event rows.

        The same (scope, request id) with the same `fingerprint` of the body, within 24
        hours, gives the job of the first time, as it now stands, and stores nothing; with
        another fingerprint it raises `RequestConflict`. After 24 hours it makes a new job.
        Raises `StoreError` if the job's id is taken, and for rows as `commit` does.
        """
        ...

    async def known(self, scope: Scope, request_id: str, *, fingerprint: str) -> Job | None:
        """The job that `submit` would give for this request id without storing anything.

        Raises `RequestConflict` as it does.
        """
        ...

    async def commit(self, transition: Transition, rows: Sequence[OutboxRow]) -> None:
        """Store a job's next state together with its event rows, or neither.

        Compares before it writes: if the stored state or epoch is no longer that of
        `transition.before`, raises `LeaseLost` (`JobNotFound` if the job is gone). A worker
        then stops; whoever acts for a person reads the job again and decides anew. A
        transition into a terminal state or into PENDING_JOB also ends the lease. Owner,
        epoch and lease of `after` are otherwise ignored: only `claim`, `renew` and
        `release` change them.

        Raises `StoreError` for a row that the database refuses (its sequence is taken), and
        ValueError if the rows are not exactly those that the transition counts:
        their sequences go on from `before.events` and end at `after.events`, and a
        milestone has at least one.
        """
        ...

    async def get(self, scope: Scope, job_id: int) -> Job:
        """One job. Raises `JobNotFound`, for a job of another scope just the same."""
        ...

    async def status(self, scope: Scope, job_id: int) -> tuple[Job, Work, Sequence[Failure]]:
        """One job, what is done for it (nothing any more once it is COMPLETED), its failures.

        As `get`, `work` and `failures` would tell one after the other. Raises `JobNotFound`.
        """
        ...

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
        """Jobs, newest first by (created_at, id); `before` is the key of a page's last job.

        Only those in one of `states`; only those that have `started`, or have not: whose
        pieces began to run once; only those whose request names a `segment` of this id, in
        whatever namespace.
        """
        ...

    async def unfinished(self) -> Sequence[Job]:
        """All jobs, of every scope, that have not ended."""
        ...

    async def claim(self, owner: str, duration: timedelta, *, limit: int) -> Job | None:
        """Lease a job that nobody works on; None if none may run.

        Any job that is not terminal, whose lease is absent or has run out, and whose
        `not_before` has passed, of an organization with fewer than `limit` jobs under lease.
        The organization with the fewest comes first, then the oldest job by (created_at, id).
        The limit is no obstacle to jobs that are ending (published, failing or cancelled) or
        whose deadline has passed. Raises the job's epoch; its state stays, so that the new
        owner sees where the last one stopped.
        """
        ...

    async def held_back(self, limit: int) -> Sequence[Job]:
        """The oldest jobs in CREATED whose organization has `limit` jobs under lease, some."""
        ...

    async def renew(self, lease: Lease, duration: timedelta, *, progress: float) -> Job:
        """Hold on to a job and note its progress (0 to 1).

        Returns the job as it now stands, which is how a worker learns of a cancellation. A
        lease that has run out is renewed too, as long as nobody else has claimed the job.
        Raises `LeaseLost` if somebody has, and when the job was released or has ended.
        """
        ...

    async def release(self, lease: Lease) -> None:
        """Hand a job back at once. Does nothing if the lease is lost already."""
        ...

    async def save_piece(self, lease: Lease, piece: FinishedPiece) -> None:
        """Remember a finished piece, in place of one with the same index. Raises `LeaseLost`."""
        ...

    async def save_failure(self, lease: Lease, failure: Failure) -> None:
        """Remember that a piece has failed; the first 100 of a job are kept. Raises `LeaseLost`."""
        ...

    async def pieces(self, job_id: int) -> Sequence[FinishedPiece]:
        """The finished pieces of a job, by index."""
        ...

    async def work(self, job_ids: Collection[int]) -> Mapping[int, Work]:
        """What is done for each of these jobs, without those that are not there."""
        ...

    async def failures(self, job_ids: Collection[int]) -> Mapping[int, Sequence[Failure]]:
        """The failures of each of these jobs' pieces, as they came; only jobs that have some."""
        ...

    async def wait_for_change(self, seen: int, patience: timedelta) -> int:
        """Return as soon as anything was committed since `seen`, by any process.

        `seen` is what the last call returned (0 at first), so nothing slips between two
        calls. Returns `seen` itself once `patience` has run out. May wake for nothing.
        """
        ...


@dataclass(frozen=True, slots=True)
class Parked:
    """A row that the broker refuses; later events of its job wait behind it.

    `offset` is the row of the discard file that was refused, 0 for a plain event.
    """

    number: int
    job_id: int
    offset: int
    reason: str
    parked_at: datetime


@dataclass(frozen=True, slots=True)
class Replay:
    """A request to try a parked job again; ids grow."""

    id: int
    job_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What the outbox holds: `last` number given, `delivered` up to (advisory), parked rows."""

    last: int
    delivered: int
    parked: int


class Outbox(Protocol):
    """Committed event rows in the order in which they are delivered.

    `owner` and `epoch` name the relay that `lead` made the one. What takes them raises
    `RelayFenced`, and writes nothing, once another relay has taken over.
    """

    @property
    def identity(self) -> StoreIdentity:
        """Known once the store is open."""
        ...

    async def lead(self, owner: str, duration: timedelta) -> int | None:
        """Become, or stay, the one relay; returns the epoch, or None while another leads.

        The epoch grows with each change of owner and stays while one owner renews, be it
        late, as long as no other came first. Resigning ends an ownership.
        """
        ...

    async def resign(self, owner: str) -> None:
        """Let the next relay lead at once."""
        ...

    async def rows_after(self, number: int, *, limit: int, max_bytes: int) -> Sequence[NumberedRow]:
        """Rows numbered above `number`, in order, at least one if there is one.

        At most `limit` rows, whose values are `max_bytes` long together (the first may be
        longer alone). Once a number has been returned, no lower one appears any more; per
        job, numbers follow the order of transitions.
        """
        ...

    async def rows_of_job(self, job_id: int, *, after: int, through: int) -> Sequence[NumberedRow]:
        """A job's rows numbered above `after` up to `through`, in order."""
        ...

    async def job_events(self, scope: Scope, *, after: int, limit: int) -> Sequence[NumberedRow]:
        """A scope's rows numbered above `after` that are about whole jobs, in order.

        Rows of discard files are left out. For followers of one organization and sandbox;
        as with `rows_after`, no lower number appears any more once one was returned.
        """
        ...

    async def row(self, number: int) -> NumberedRow:
        """One row. Raises `StoreError` if it is not there."""
        ...

    async def park(self, owner: str, epoch: int, parked: Parked) -> None:
        """Mark a row as refused. Idempotent; the latest offset and reason are kept.

        A row that is parked again has been tried again: that answers the replays of it that
        were asked for until now.
        """
        ...

    async def parked(self) -> Sequence[Parked]:
        """All parked rows, by number."""
        ...

    async def request_replay(self, job_id: int) -> Replay:
        """Ask the relay to send a job's first parked row, and what waits behind it, again.

        Raises `JobNotFound` if the job has no parked row.
        """
        ...

    async def replays(self, after: int) -> Sequence[Replay]:
        """Replays that are not finished, with an id above `after`, by id."""
        ...

    async def finish_replay(self, owner: str, epoch: int, replay: Replay) -> None:
        """Forget the parked row of a replay that the topic has.

        Idempotent: a second call does not forget what was parked since.
        """
        ...

    async def discard_files(self) -> Sequence[tuple[int, DiscardFile]]:
        """The discard files of all jobs, with their jobs' ids."""
        ...

    async def replace_discards(self, job_id: int, old: DiscardFile, new: DiscardFile) -> None:
        """Put `new` in the place of a job's discard file, in its publication and its event row.

        For erasures: the new file has as many rows, in the same order. Raises
        `DiscardsWaiting` while events of the old one may still be sent: the mark of what is
        delivered has not passed its row, or an event of the job is parked. Raises
        `StoreError` if `old` is no longer the job's file, or the rows are not as many.
        """
        ...

    async def mark_delivered(self, owner: str, epoch: int, number: int) -> None:
        """Note how far delivery is, for people and metrics; the topic's position decides."""
        ...

    async def backlog(self) -> Backlog:
        """How much there is, and how far delivery is."""
        ...

    async def probe(self) -> None:
        """Write and commit something that changes nothing, to see whether that is possible."""
        ...

    async def wait_for_change(self, seen: int, patience: timedelta) -> int:
        """As `JobStore.wait_for_change`."""
        ...


class Store(JobStore, Outbox, Protocol):
    """Both, over one database."""

    async def close(self) -> None:
        """Finish what was accepted, wake whoever waits, then let go of the database.

        Every later call raises `StoreUnavailable`; closing again does nothing.
        """
        ...
