"""The live stream: job events of one organization and sandbox, as they are committed.

A response of Server-Sent Events. What a reader receives:

| event | id | data |
|---|---|---|
| `ready` | where the stream begins | `{"cursor"}`: the first message |
| `expired` | where the stream begins | `{"cursor", "reason"}`: first instead of `ready` |
| `queued`, `started`, `finished` | the event's place | the event's document, as Kafka has it |
| `overrun` | none | `{"reason"}`: last; the reader was too slow |
| `bye` | none | `{"reason"}`: last; the service stops, or the reader may no longer listen |

An id is a cursor: a place in the store's order of events, sealed. A reader that comes back with
the last one in `Last-Event-ID`, as browsers do by themselves, gets all that followed, and nothing
twice.

A cursor with which that cannot be promised (of another life of the store, of events that it
does not have, or has no longer, or no cursor at all) is answered by `expired` in a stream like
any other, and not by an error status: at any status but 200 an EventSource gives up for good and
cannot tell its page why, and other clients come again with the same cursor for ever.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol, Self

import structlog
from starlette import types
from starlette.responses import Response

from segexport.errors import StoreError
from segexport.http import sse
from segexport.http.connection import cut, disconnected
from segexport.http.follower import Follower
from segexport.http.tail import PAUSE, Tail
from segexport.jobs.job import Scope
from segexport.race import race
from segexport.settings import HttpSettings

HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}
"""Nothing on the way may keep the stream, or collect it before it passes it on."""

log: Final = structlog.stdlib.get_logger(__name__)


class _Say(Protocol):
    """Sends a part of the response; a TimeoutError if the reader does not take it."""

    async def __call__(self, data: bytes, *, more: bool = True) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLimits:
    """What a reader may take, and when it hears from us.

    One that is more than `backlog` events behind, after it had caught up, is told `overrun`;
    one that takes nothing for `patience` is cut off. A comment comes each `heartbeat`. A
    reader whose stream has ended comes again after `retry`.
    """

    backlog: int
    patience: timedelta
    heartbeat: timedelta = timedelta(seconds=15)
    retry: timedelta = timedelta(seconds=2)

    @classmethod
    def of(cls, settings: HttpSettings) -> Self:
        """The limits of the settings."""
        return cls(backlog=settings.stream_backlog, patience=settings.stream_patience)


class EventStream(Response):
    """The answer to a reader of one scope.

    `still_allowed` is asked before anything is sent, and at least once a heartbeat; when it
    says no, the stream ends. Behind a server other than one with `connection.Connection`, a
    reader that takes nothing is let go of, but its connection is the server's to close.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        tail: Tail,
        scope: Scope,
        *,
        last_event_id: str | None,
        still_allowed: Callable[[], bool],
        limits: StreamLimits,
    ) -> None:
        # Not the parent's: it would count the bytes of a body.
        self.status_code = 200
        self.background = None
        self.init_headers(HEADERS)
        self._tail = tail
        self._scope = scope
        self._last_event_id = last_event_id
        self._still_allowed = still_allowed
        self._limits = limits

    async def __call__(self, scope: types.Scope, receive: types.Receive, send: types.Send) -> None:
        """Stream until the reader goes, or has to."""

        async def say(data: bytes, *, more: bool = True) -> None:
            async with asyncio.timeout(self._limits.patience.total_seconds()):
                await send({"type": "http.response.body", "body": data, "more_body": more})

        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            await say(b"", more=False)
            return
        try:
            has_ended = await race(
                self._tell(say), disconnected(receive), self._tail.wait_until_abandoned()
            )
        except TimeoutError:
            self._log("an event stream is cut off: its reader takes nothing")
            has_ended = False
        if not has_ended:
            await cut(scope, receive)

    async def _tell(self, say: _Say) -> bool:
        """Say everything up to the last message; True when that is said."""
        with self._tail.listening(self._scope) as channel:
            follower = Follower(self._tail, channel, self._scope, self._last_event_id)
            await say(sse.retry(self._limits.retry))
            await say(await self._follow(follower, say), more=False)
        return True

    async def _follow(self, follower: Follower, say: _Say) -> bytes:
        """Say what there is, for as long as that goes on; returns the last message."""
        now = asyncio.get_running_loop().time
        every = self._limits.heartbeat.total_seconds()
        beat_at = now() + every
        while True:
            pause, data = beat_at - now(), b""
            try:
                data = await follower.take()
            except StoreError as error:
                self._tail.note_outage(error)
                pause = min(pause, PAUSE)
            if farewell := self._farewell(follower):
                return farewell
            if pause <= 0:
                data += sse.heartbeat(follower.cursor)
                beat_at = now() + every
            if data:
                await say(data)
            else:
                await follower.wait(pause)

    def _farewell(self, follower: Follower) -> bytes:
        """The last message, if it is time for it."""
        if self._tail.is_closing:
            return sse.farewell("bye", "the service stops")
        if not self._still_allowed():
            return sse.farewell("bye", "access has ended")
        if follower.behind > self._limits.backlog:
            self._log("an event stream ends: its reader is too slow")
            return sse.farewell("overrun", f"more than {self._limits.backlog} events behind")
        return b""

    def _log(self, event: str) -> None:
        scope = self._scope
        log.warning(event, organization=scope.organization, sandbox=scope.sandbox)
