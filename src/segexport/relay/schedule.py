"""Which records go out next, and the position after them."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from typing import Final, Self

from segexport.errors import DiscardFileUnusable
from segexport.events.outbox import NumberedRow
from segexport.events.record import record_of
from segexport.relay.lagging import LaggingJob
from segexport.relay.parcel import Origin, Parcel
from segexport.relay.position import Position
from segexport.relay.reading import ReadAhead
from segexport.store.store import Outbox, Parked, Replay

OPEN_JOBS: Final = 32
"""Jobs that may lag behind at a time; a further one holds up all rows after it."""
_BREATH: Final = 200
"""Records that are packed before other tasks have a turn."""

Park = Callable[[Origin, str], Awaitable[Parked]]
"""Marks a record as undeliverable in the store, with the reason."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much goes into one transaction: bytes before compression, seconds of packing, records."""

    size: int = 8 << 20
    seconds: float = 0.5
    records: int = 1_000_000


@dataclass(frozen=True, slots=True)
class _Limit:
    """What `parcel` may still take, until a moment of the event loop's clock."""

    parcel: Parcel
    size: int
    records: int
    until: float

    @property
    def bytes_left(self) -> int:
        return self.size - self.parcel.size

    @property
    def records_left(self) -> int:
        return self.records - self.parcel.records

    @property
    def is_reached(self) -> bool:
        late = asyncio.get_running_loop().time() >= self.until
        return late or self.bytes_left <= 0 or self.records_left <= 0


class Schedule:
    """Follows the outbox from a position on.

    Rows go out in the order of their numbers. A row of discards makes its job lag behind:
    its file is expanded alongside, in at most half of each transaction while there are
    other rows, and the job's later rows wait. A job with a parked record waits from that
    record on.

    It is always ahead of what is delivered. When a transaction fails, make a new schedule
    from the position that the topic has.
    """

    def __init__(self, outbox: Outbox, source: str, position: Position, park: Park) -> None:
        self._outbox = outbox
        self._source = source
        self._park = park
        self._position = position
        self._number = position.number
        self._reading = ReadAhead(outbox, position.number)
        self._lagging: dict[int, LaggingJob] = {}  # by job; whose turn is next comes first
        self._parked: dict[int, Parked] = {}  # by job, the first of each

    @classmethod
    async def resume(cls, outbox: Outbox, source: str, position: Position, park: Park) -> Self:
        """Go on from `position`. Raises `PositionMismatch` if the store contradicts it."""
        schedule = cls(outbox, source, position, park)
        await schedule.see_parked()
        for number, progress in position.open.items():
            lagging = await LaggingJob.resume(outbox, number, progress)
            schedule._lagging[lagging.job_id] = lagging
        return schedule

    @property
    def position(self) -> Position:
        """Where delivery stands once everything that was packed is delivered."""
        return self._position

    async def fill(self, parcel: Parcel, bounds: Bounds) -> bool:
        """Pack what is due and move `position` on; whether more is due at once."""
        until = asyncio.get_running_loop().time() + bounds.seconds
        share = 2 if self._lagging else 1
        more = await self._pack_rows(
            parcel, _Limit(parcel, bounds.size // share, bounds.records // share, until)
        )
        await self._pack_lagging(parcel, _Limit(parcel, bounds.size, bounds.records, until))
        self._move(sent=parcel.records > 0)
        return more or bool(self._lagging)

    async def reopen(self, replay: Replay) -> bool:
        """Let a parked job go on at its parked record; False if too many jobs lag behind.

        That is part of `position`. It takes effect once the store has forgotten the parked
        record and `see_parked` has been called.
        """
        parked = self._parked.get(replay.job_id)
        if parked and parked.number <= self._number and replay.job_id not in self._lagging:
            if len(self._lagging) >= OPEN_JOBS:
                return False
            row = await self._outbox.row(parked.number)
            self._lagging[replay.job_id] = LaggingJob(row, parked.offset)
        self._position = replace(self._position, replay=replay.id)
        self._move()
        return True

    async def see_parked(self) -> None:
        """Read from the store which records are parked; of each job, the first one counts."""
        self._parked.clear()
        for parked in await self._outbox.parked():
            self._parked.setdefault(parked.job_id, parked)

    @property
    def parked(self) -> Collection[Parked]:
        """The first parked record of each job that has one."""
        return self._parked.values()

    def close(self) -> None:
        """Stop reading, and let go of all discard files."""
        self._reading.close()
        for lagging in self._lagging.values():
            lagging.close()

    async def _pack_rows(self, parcel: Parcel, limit: _Limit) -> bool:
        """Pack rows in order; whether there are more."""
        while not limit.is_reached:
            rows = await self._reading.rows()
            if not rows:
                return False
            for _ in range(min(_BREATH, len(rows), limit.records_left)):
                if limit.bytes_left <= 0:
                    break
                if not self._pack_row(rows[0], parcel):
                    return True
                self._number = rows.popleft().number
            await asyncio.sleep(0)
        return True

    def _pack_row(self, row: NumberedRow, parcel: Parcel) -> bool:
        """Pack a row, or let it wait behind its job; False if it holds up all others."""
        job_id = row.row.job_id
        if job_id in self._lagging or self._is_parked(job_id, row.number, 0):
            return True
        if row.row.discards is None:
            parcel.add(record_of(row.row, self._source), row)
            return True
        if len(self._lagging) >= OPEN_JOBS:
            return False
        self._lagging[job_id] = LaggingJob(row)
        return True

    async def _pack_lagging(self, parcel: Parcel, limit: _Limit) -> None:
        while self._lagging and not limit.is_reached:
            job_id, lagging = next(iter(self._lagging.items()))
            goes_on = await self._pack_stretch(lagging, parcel, limit)
            del self._lagging[job_id]
            if goes_on:
                self._lagging[job_id] = lagging
            else:
                lagging.close()

    async def _pack_stretch(self, lagging: LaggingJob, parcel: Parcel, limit: _Limit) -> bool:
        """Give a lagging job its turn; whether it still lags behind."""
        place = lagging.place
        if self._is_parked(place.job_id, place.number, place.offset):
            return False
        records = limit.records_left
        parked = self._parked.get(place.job_id)
        if parked and parked.number == place.number:
            records = min(records, parked.offset - place.offset)
        try:
            await lagging.send(parcel, self._source, records=records, size=limit.bytes_left)
        except DiscardFileUnusable as error:
            place = lagging.place  # the rows before the unusable one are in the parcel
            self._parked[place.job_id] = await self._park(place, str(error))
            return False
        return not lagging.row_is_sent or await lagging.go_on(self._outbox, self._number)

    def _is_parked(self, job_id: int, number: int, offset: int) -> bool:
        parked = self._parked.get(job_id)
        return parked is not None and (number, offset) >= (parked.number, parked.offset)

    def _move(self, *, sent: bool = False) -> None:
        self._position = replace(
            self._position,
            number=self._number,
            sent=self._position.sent or sent,
            open={job.row.number: job.progress for job in self._lagging.values()},
        )
