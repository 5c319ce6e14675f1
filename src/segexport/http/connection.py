"""A connection that an application can cut off.

ASGI lets an application end a response, but not a connection: uvicorn closes that once all
that was written is sent, and a peer that takes nothing keeps it for ever.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

CUT: Final = "segexport.cut"
"""The ASGI extension: a function that drops the connection, with what was not yet sent."""


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1, with the extension `CUT`. For `uvicorn.Config(http=...)`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.app = _with_extension(self.app, self._cut)

    def _cut(self) -> None:
        self.transport.abort()


async def cut(scope: Scope, receive: Receive) -> None:
    """Drop a request's connection, where the server lets us; returns when it is gone."""
    if CUT in scope.get("extensions", {}):
        scope["extensions"][CUT]()
        await disconnected(receive)


async def disconnected(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _with_extension(
    app: ASGIApp, function: Callable[[], None]
) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    async def extended(scope: Scope, receive: Receive, send: Send) -> None:
        extensions = {**scope.get("extensions", {}), CUT: function}
        await app({**scope, "extensions": extensions}, receive, send)

    return extended
