"""The end of the store's order of events, followed once for all streams of the process."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Final

import structlog

from segexport.errors import StoreError
from segexport.events.outbox import NumberedRow
from segexport.http.cursor import Cursor, Cursors
from segexport.http.ring import Channel, Frame, Ring
from segexport.jobs.job import Scope
from segexport.race import race
from segexport.store.store import Outbox

CAPACITY: Final = 16 << 20
"""Bytes of the latest events that are kept for all streams together."""
CHUNK: Final = 200
CHUNK_BYTES: Final = 1 << 20
PATIENCE: Final = timedelta(seconds=1)
"""How long a tail with nothing to read sleeps before it looks whether anybody listens still."""
PAUSE: Final = 1.0
"""Seconds until a store that is away is asked again."""
FAREWELL: Final = timedelta(seconds=2)
"""How long streams may take to end when the service stops."""

log: Final = structlog.stdlib.get_logger(__name__)


class Tail:
    """Reads each new event once, and hands it to those who listen to its scope.

    `run` it in a task. It rests while nobody listens. A store that is away is waited for.
    """

    def __init__(self, outbox: Outbox, cursors: Cursors, *, capacity: int = CAPACITY) -> None:
        self.outbox = outbox
        self.cursors = cursors
        self.ring = Ring(capacity)
        self.position: int | None = None
        """The number up to which events are read; None while the tail rests, or begins."""
        self._heard = asyncio.Event()
        self._closing = asyncio.Event()
        self._abandoned = asyncio.Event()
        self._silent = asyncio.Event()
        self._silent.set()
        self._is_away = False

    async def run(self) -> None:
        """Follow the store until `close`. However it ends, the streams end with it."""
        try:
            await race(self._follow(), self._closing.wait())
        finally:
            self._end()

    async def close(self, patience: timedelta = FAREWELL) -> None:
        """Have all streams say `bye` and end; those that do not within `patience` are cut off.

        To be called before the HTTP server is told to stop: it waits for its open responses.
        """
        self._end()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience.total_seconds()):
                await self._silent.wait()
        self._abandoned.set()
        await self._silent.wait()

    async def wait_until_abandoned(self) -> None:
        """Return when a stream that has not ended has to be cut off."""
        await self._abandoned.wait()

    @property
    def is_closing(self) -> bool:
        """Whether streams are to end."""
        return self._closing.is_set()

    @property
    def generation(self) -> int:
        """The life of the store, for cursors."""
        return self.outbox.identity.generation

    def cursor(self, number: int) -> str:
        """The text of the place behind a number."""
        return self.cursors.text(Cursor(self.generation, number))

    @contextmanager
    def listening(self, scope: Scope) -> Iterator[Channel]:
        """The channel of a scope, for as long as the block lasts."""
        try:
            with self.ring.listening(scope, self.position or 0) as channel:
                self._silent.clear()
                self._heard.set()
                yield channel
        finally:
            if not self.ring.is_heard:
                self._silent.set()

    async def history(self, scope: Scope, *, after: int, limit: int) -> Sequence[Frame]:
        """What the store has of a scope behind a number. Raises `StoreError`."""
        rows = await self.outbox.job_events(scope, after=after, limit=limit)
        return [Frame.of(numbered, self.cursor) for numbered in rows]

    def note_outage(self, error: StoreError) -> None:
        """Say that the store cannot be read: once, until it can be again."""
        if not self._is_away:
            log.warning("event streams wait for the store", code=error.code, reason=str(error))
        self._is_away = True

    async def _follow(self) -> None:
        while True:
            await self._heard.wait()
            try:
                await self._read()
            except StoreError as error:
                self.note_outage(error)
                await asyncio.sleep(PAUSE)

    async def _read(self) -> None:
        """Read what is committed, until nobody listens any more."""
        if self.position is None:
            self._begin((await self.outbox.backlog()).last)
        seen = 0
        while self.ring.is_heard:
            rows = await self.outbox.rows_after(
                self.position or 0, limit=CHUNK, max_bytes=CHUNK_BYTES
            )
            if rows:
                self._take(rows)
            else:
                seen = await self.outbox.wait_for_change(seen, PATIENCE)
            self._note_recovery()
        self.position = None
        self._heard.clear()

    def _begin(self, number: int) -> None:
        self.ring.begin(number)
        self.position = number
        self.ring.wake()

    def _take(self, rows: Sequence[NumberedRow]) -> None:
        self.ring.add(rows, self.cursor)
        self.position = rows[-1].number

    def _note_recovery(self) -> None:
        if self._is_away:
            log.info("event streams go on")
        self._is_away = False

    def _end(self) -> None:
        self._closing.set()
        self.ring.wake()
