"""A connection that serves its requests in turns, and that an application can cut off.

uvicorn parses whatever has arrived at once, and lets an application end a response, but not a
connection: it closes that once all that was written is sent, and a peer that takes nothing
keeps it for ever.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol

from segexport.http.metered import EVENTS, FIRST_EVENTS, Metered
from segexport.http.server_log import ServerLog
from segexport.http.turns import turns

CUT: Final = "segexport.cut"
"""The ASGI extension: a function that drops the connection, with what was not yet sent."""
FRAGMENTED: Final = "segexport.fragmented"
"""The ASGI extension: a function that tells whether the body of a request was thrown away from
some point on, because it comes in more small chunks than it may. It does so when all of it has
come: who still sends does not read the answer."""
DISCARDED: Final = 16 * 1024 * 1024
"""Bytes of a body that is not read on which are thrown away, so that its sender comes to reading
the answer."""
SILENCE: Final = 0.25
"""Seconds without a byte of such a body after which it counts as sent."""

_LAST_CHUNK: Final = b"0\r\n\r\n"


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1, with these extensions, in turns. For `uvicorn.Config(http=...)`."""

    conn: Metered
    flow: "_Flow"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = Metered()
        self.logger = ServerLog(self.logger)  # type: ignore[assignment]  # all that it is used for
        functions = {CUT: self._cut, FRAGMENTED: self._is_fragmented}
        self.app = _with_extensions(self.app, functions)
        self._discarded = 0
        self._is_over = False
        self._silent: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_silence()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.conn.is_fragmented:
            self._discard(data)
        elif self.conn.has_more:  # the transport was resumed behind our back
            self.conn.receive_data(data)
            self.flow.hold()
        else:
            super().data_received(data)

    def handle_events(self) -> None:
        """Parse what is there, or as much as may be parsed at once, and the rest in turns."""
        if self.conn.has_more:
            return
        if self.conn.is_large:
            self.conn.postpone()
            self._wait_for_a_turn(alone=True)
        else:
            self._parse(FIRST_EVENTS)

    def _parse(self, events: int) -> None:
        self.conn.allow(events)
        super().handle_events()
        if self.transport.is_closing():
            return
        if self.conn.is_fragmented:
            self.flow.release()
            self._discard(b"")
        elif self.conn.has_more:
            self._wait_for_a_turn()
        else:
            self.flow.release()

    def _wait_for_a_turn(self, *, alone: bool = False) -> None:
        self.flow.hold()
        turns().call(self._go_on, alone=alone)

    def _go_on(self) -> None:
        if not self.transport.is_closing():
            self._parse(EVENTS)

    def _discard(self, data: bytes) -> None:
        """Throw away the rest of a body; the request is answered when it is there."""
        self._forget_silence()
        self._discarded += len(data)
        if self.cycle.response_complete:
            self.transport.close()
        elif self._discarded > DISCARDED or data.endswith(_LAST_CHUNK):
            self._end_the_body()
        else:
            self._silent = self.loop.call_later(SILENCE, self._end_the_body)

    def _end_the_body(self) -> None:
        """Wake whoever waits for it; nothing can follow on this connection."""
        self._silent = None
        self._is_over = True
        if self.cycle.response_complete:
            self.transport.close()
        self.cycle.keep_alive = False
        self.cycle.message_event.set()

    def _forget_silence(self) -> None:
        if self._silent is not None:
            self._silent.cancel()
            self._silent = None

    def _unsupported_upgrade_warning(self) -> None:
        """The request is answered as if it had not asked (RFC 9110, section 7.8)."""
        self.logger.debug("a client asks for another protocol, and gets HTTP/1.1")

    def _cut(self) -> None:
        self.transport.abort()

    def _is_fragmented(self) -> bool:
        return self._is_over


class _Flow(FlowControl):
    """uvicorn's, which may be held for a reason of ours as well: both have to be over."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._is_held = False

    def hold(self) -> None:
        """Read nothing until `release`."""
        self._is_held = True
        self._transport.pause_reading()

    def release(self) -> None:
        """Read again, unless uvicorn pauses."""
        if self._is_held:
            self._is_held = False
            if not self.read_paused:
                self._transport.resume_reading()

    def resume_reading(self) -> None:
        """uvicorn's pause is over."""
        if self._is_held:
            self.read_paused = False
        else:
            super().resume_reading()


async def cut(scope: Scope, receive: Receive) -> None:
    """Drop a request's connection, where the server lets us; returns when it is gone."""
    if CUT in scope.get("extensions", {}):
        scope["extensions"][CUT]()
        await disconnected(receive)


async def disconnected(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _with_extensions(
    app: ASGIApp, functions: Mapping[str, Callable[[], object]]
) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    async def extended(scope: Scope, receive: Receive, send: Send) -> None:
        extensions = {**scope.get("extensions", {}), **functions}
        await app({**scope, "extensions": extensions}, receive, send)

    return extended
