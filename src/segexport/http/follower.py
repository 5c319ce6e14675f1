"""One reader's way through the events of a scope, from wherever it was to the end."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from segexport.http import sse
from segexport.http.cursor import Cursor
from segexport.http.ring import Channel, Frame
from segexport.http.tail import Tail
from segexport.jobs.job import Scope

CHUNK: Final = 64
"""Events that are read from the store at a time, by a reader that is behind the ring."""
CHUNK_BYTES: Final = 64 << 10
"""About how much is taken at a time."""


class Follower:
    """Takes every event of a scope once and in order, behind `last_event_id` or from now on.

    What the channel has no longer is read from the store. There is no gap between the two: the
    follower listens before it reads, and the channel has whatever the tail had not yet read then.
    """

    def __init__(
        self, tail: Tail, channel: Channel, scope: Scope, last_event_id: str | None
    ) -> None:
        self._tail = tail
        self._channel = channel
        self._scope = scope
        self._last_event_id = last_event_id
        self._number: int | None = None
        self._seen = channel.changes.count
        self._passed: int | None = None

    @property
    def cursor(self) -> str | None:
        """Up to where everything was taken; None before the first message."""
        return None if self._number is None else self._tail.cursor(self._number)

    @property
    def behind(self) -> int:
        """How many events it lags behind the tail, once it had caught up; until then 0."""
        return 0 if self._passed is None else self._channel.count - self._passed

    async def take(self) -> bytes:
        """The next messages, as many as go together; b"" if there is nothing yet.

        Raises `StoreError`; try again later.
        """
        self._seen = self._channel.changes.count
        if self._number is None:
            return await self._begin()
        channel = self._channel
        while self._number < channel.floor:
            # The tail has read up to here, so all of it was committed before the store is read.
            floor = channel.floor
            frames = await self._tail.history(self._scope, after=self._number, limit=CHUNK)
            if frames:
                return self._taken(frames)
            self._number = floor
        frames = channel.after(self._number, CHUNK_BYTES)
        if frames:
            return self._taken(frames)
        self._number = max(self._number, self._tail.position or 0)
        self._passed = channel.count
        return b""

    async def wait(self, seconds: float) -> None:
        """Return when there is something new since the last `take`, or after so many seconds."""
        await self._channel.changes.wait(self._seen, timedelta(seconds=seconds))

    def _taken(self, frames: Sequence[Frame]) -> bytes:
        self._number = frames[-1].number
        if self._passed is not None:
            self._passed += len(frames)
        return b"".join(frame.data for frame in frames)

    async def _begin(self) -> bytes:
        """Decide where to begin, and say so: `ready`, or `expired` and why."""
        if self._tail.position is None:
            return b""
        asked, problem = None, None
        if self._last_event_id is not None:
            asked = self._tail.cursors.read(self._last_event_id)
            problem = await self._problem(asked)
        self._number = self._tail.position
        if asked is not None and problem is None:
            self._number = asked.number
        cursor = self._tail.cursor(self._number)
        if problem is not None:
            return sse.notice("expired", cursor, reason=problem)
        return sse.notice("ready", cursor)

    async def _problem(self, asked: Cursor | None) -> str | None:
        """Why the stream cannot go on behind a cursor."""
        if asked is None:
            return "the Last-Event-ID is none of this stream's"
        if asked.generation != self._tail.generation:
            return "the store was restored since: its events are numbered anew"
        outbox, number = self._tail.outbox, asked.number
        # Another process may have told the reader what the tail of this one has not read yet.
        if number > (self._tail.position or 0) and number > (await outbox.backlog()).last:
            return "the store has no such event"
        if number < self._channel.floor:
            oldest = await outbox.rows_after(0, limit=1, max_bytes=1)
            if oldest and oldest[0].number > number + 1:
                return "the store no longer has all events since then"
        return None
