"""Reading an outbox from a number on, a little ahead of whoever packs its rows."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from segexport.events.outbox import NumberedRow
from segexport.relay.discard import take_note
from segexport.store.store import Outbox

CHUNK: Final = 200
"""Rows that are read at a time, at most. So few are gone before Python's garbage collector
begins to look at them, which costs a third of the reading otherwise."""
CHUNK_BYTES: Final = 4 << 20


class ReadAhead:
    """The rows behind a number, in order. While there are many, the next ones are being read."""

    def __init__(self, outbox: Outbox, number: int) -> None:
        self._outbox = outbox
        self._last = number
        self._rows: deque[NumberedRow] = deque()
        self._ahead: asyncio.Task[Sequence[NumberedRow]] | None = None

    async def rows(self) -> deque[NumberedRow]:
        """What is read and not yet taken, none if there is none. Take from the left."""
        if not self._rows:
            found = await self._read_before() or await self._read()
            self._rows.extend(found)
            if found:
                self._last = found[-1].number
            if len(found) > CHUNK // 2:
                self._ahead = asyncio.ensure_future(self._read())
                self._ahead.add_done_callback(take_note)
        return self._rows

    def close(self) -> None:
        """Stop reading."""
        if self._ahead is not None:
            self._ahead.cancel()

    async def _read_before(self) -> Sequence[NumberedRow]:
        """What was read ahead; nothing may mean that there was nothing yet."""
        if self._ahead is None:
            return ()
        ahead, self._ahead = self._ahead, None
        return await ahead

    async def _read(self) -> Sequence[NumberedRow]:
        return await self._outbox.rows_after(self._last, limit=CHUNK, max_bytes=CHUNK_BYTES)
