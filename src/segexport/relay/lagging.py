"""A job that lags behind the others, because its discard file is long or it is replayed."""

import asyncio
from collections.abc import Sequence
from typing import Final, Self

from segexport.errors import PositionMismatch
from segexport.events.discards import expand
from segexport.events.outbox import NumberedRow
from segexport.events.record import record_of
from segexport.jobs.publication import DiscardFile
from segexport.relay.parcel import Origin, Parcel
from segexport.relay.position import Progress
from segexport.store.discards import DiscardReader, DiscardRow
from segexport.store.store import Outbox

STRETCH: Final = 1_000
"""Discards that one job sends before it is another job's turn."""
_BESIDE_VALUE: Final = 500
"""About how many bytes a record takes beside its value."""


class LaggingJob:
    """Sends the rows of one job, one stretch at a time.

    `row` is where it is, `done` how many of the row's events are sent. A discard file is
    opened, and its fingerprint checked, when its first event is due; opening and reading
    run in a thread.
    """

    def __init__(self, row: NumberedRow, done: int = 0) -> None:
        self._reader: DiscardReader | None = None
        self.row = row
        self.done = done

    @classmethod
    async def resume(cls, outbox: Outbox, number: int, progress: Progress) -> Self:
        """Go on where a position stopped.

        Raises `PositionMismatch` if the store has another discard file there.
        """
        lagging = cls(await outbox.row(number), progress.done)
        if lagging.progress != progress:
            raise PositionMismatch(
                f"the topic's position is within the discard file {progress.sha256} of row "
                f"{number}, where the store has {lagging.progress.sha256}: it was not written "
                "from this store"
            )
        return lagging

    @property
    def job_id(self) -> int:
        """Whose rows."""
        return self.row.row.job_id

    @property
    def place(self) -> Origin:
        """What is due next."""
        return Origin(self.job_id, self.row.number, self.done)

    @property
    def progress(self) -> Progress:
        """How far `row` is."""
        file = self.row.row.discards
        return Progress(self.done, file.sha256 if file else None)

    @property
    def row_is_sent(self) -> bool:
        """Whether nothing of `row` is left to send."""
        file = self.row.row.discards
        return self.done >= (file.rows if file else 1)

    async def send(self, parcel: Parcel, source: str, *, records: int, size: int) -> None:
        """Pack the next stretch of `row`: at most `records`, and about `size` bytes.

        Raises `DiscardFileUnusable`.
        """
        row = self.row.row
        if row.discards is None:
            parcel.add(record_of(row, source), self.row)
            self.done = 1
            return
        wanted = min(STRETCH, records, max(1, size // (len(row.value) + _BESIDE_VALUE)))
        discards = await asyncio.to_thread(self._read, row.discards, wanted)
        for record in expand(row, discards, self.done, source):
            parcel.add(record, self.row, self.done)
            self.done += 1

    async def go_on(self, outbox: Outbox, through: int) -> bool:
        """Turn to the job's next row up to number `through`; False if there is none."""
        following = await outbox.rows_of_job(self.job_id, after=self.row.number, through=through)
        self.close()
        if not following:
            return False
        self.row, self.done = following[0], 0
        return True

    def close(self) -> None:
        """Let go of the discard file."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _read(self, file: DiscardFile, wanted: int) -> Sequence[DiscardRow]:
        if self._reader is None:
            self._reader = DiscardReader(file, self.done)
        return self._reader.read(wanted)
