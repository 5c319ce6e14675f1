"""What every request is held to, and every answer carries."""

import asyncio
import time
from collections.abc import Mapping
from secrets import token_hex
from typing import Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segexport.errors import BodyFragmented, BodyTooLarge, BodyTooLate
from segexport.http.connection import FRAGMENTED
from segexport.http.host import host_in
from segexport.http.metered import MAX_HEAD, MAX_HEADERS, MAX_SMALL_CHUNKS, SMALL
from segexport.http.target import routable
from segexport.http.turns import LARGE, turns
from segexport.jobs.values import MAX_NAME
from segexport.settings import HttpSettings

log: Final = structlog.stdlib.get_logger(__name__)

DISCARDED: Final = 16 * 1024 * 1024
"""Bytes beyond the limit of a body that are read and thrown away, so that its sender comes to
reading the answer."""
MAX_LOGGED: Final = 1024
"""Bytes of a path that the log shows."""
REQUEST_ID: Final = "x-request-id"
QUIET: Final = frozenset({"/livez", "/readyz"})
"""Paths that are asked for so often that their log lines are for debugging only."""

_SECURITY: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_ONLY_TLS: Final = "max-age=31536000"


class Limits:
    """ASGI middleware: bounds a request's body in bytes and time, gives each request an id.

    A request's own id (`x-request-id`) is kept where it is usable, and comes back with the
    answer. An endpoint that reads a body that is too large meets `BodyTooLarge`, one that
    comes too slowly `BodyTooLate`, one in more small chunks than it may `BodyFragmented`.
    """

    def __init__(self, app: ASGIApp, settings: HttpSettings) -> None:
        self._app = app
        self._max_body = settings.max_body_bytes
        self._body_timeout = settings.body_timeout.total_seconds()
        always = {**_SECURITY}
        if settings.certificate:
            always["Strict-Transport-Security"] = _ONLY_TLS
        self._headers = Headers(always).raw

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        scope = routable(scope)
        given = Headers(scope=scope)
        request_id = usable_request_id(given) or token_hex(16)
        scope.setdefault("state", {})["request_id"] = request_id
        began = time.perf_counter()
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                headers = MutableHeaders(scope=message)
                said = {name for name, _ in headers.raw}
                headers.raw.extend(header for header in self._headers if header[0] not in said)
                headers[REQUEST_ID] = request_id
                if "transfer-encoding" in given and "content-length" in given:
                    # Somebody before us may have gone by the other one (RFC 9112, section 6.1).
                    headers["Connection"] = "close"
            await send(message)

        # A request that was sent behind another one begins in its context.
        structlog.contextvars.clear_contextvars()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            app = self._app if (refusal := _refusal(scope, given)) is None else refusal
            try:
                await app(scope, self._bounded(scope, receive, given), answer)
            except Exception:
                # Starlette has answered, and raises what an interface has logged already.
                if not status:
                    raise
            tell = log.debug if scope["path"] in QUIET else log.info
            tell(
                "request",
                method=scope["method"],
                # Still encoded: whatever a client has put into it shows as plain letters.
                path=scope["raw_path"][:MAX_LOGGED].decode("latin-1"),
                status=status,
                peer=(scope.get("client") or ("",))[0],
                ms=round((time.perf_counter() - began) * 1000, 1),
            )

    def _bounded(self, scope: Scope, receive: Receive, headers: Headers) -> Receive:
        is_fragmented = scope.get("extensions", {}).get(FRAGMENTED, _never)
        told = int(headers.get("content-length", "0"))
        # Who asks before sending can be told before.
        taken = self._max_body + (0 if "expect" in headers else DISCARDED)
        read = 0
        due: float | None = None
        complete = False

        async def next_part() -> Message:
            nonlocal read, due, complete
            if complete:
                return await receive()
            if told > taken:
                raise self._too_large()
            clock = asyncio.get_running_loop().time
            due = due or clock() + self._body_timeout
            while True:
                try:
                    async with asyncio.timeout_at(due):
                        message = await receive()
                except TimeoutError:
                    raise BodyTooLate(
                        f"the body did not arrive within {self._body_timeout:g} s; send it faster"
                    ) from None
                if is_fragmented():
                    raise BodyFragmented(
                        f"the body comes in more than {MAX_SMALL_CHUNKS} chunks, of fewer than "
                        f"{SMALL} bytes on average; send larger ones"
                    )
                read += len(message.get("body", b""))
                complete = not message.get("more_body", False)
                if complete and read > LARGE:
                    await turns().alone()
                if read <= self._max_body:
                    return message
                if complete or read > self._max_body + DISCARDED:
                    raise self._too_large()

        return next_part

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the body is larger than {self._max_body} bytes; make it smaller")


def _head(scope: Scope) -> int:
    target = len(scope["raw_path"]) + len(scope["query_string"])
    return target + sum(len(name) + len(value) for name, value in scope["headers"])


def _refusal(scope: Scope, headers: Headers) -> PlainTextResponse | None:
    """The answer to a request that comes to no interface, whose forms it could have."""
    if _head(scope) > MAX_HEAD:
        return PlainTextResponse(
            f"address and headers have more than {MAX_HEAD} bytes", 431, {"Connection": "close"}
        )
    if scope["query_string"].count(b"&") >= MAX_HEADERS:
        words = f"the query has more than {MAX_HEADERS} parameters; send fewer"
        return PlainTextResponse(words, 414, {"Connection": "close"})
    if "host" in headers and host_in(headers["host"]) is None:
        return PlainTextResponse(
            "Host has to be a name or an address, and a port behind a colon where it is not the "
            "usual one",
            400,
            {"Connection": "close"},
        )
    return None


def _never() -> bool:
    return False


def usable_request_id(headers: Headers, name: str = REQUEST_ID) -> str | None:
    """The request id that a client has given, once, if it can be kept and sent back."""
    all_given = headers.getlist(name)
    given = all_given[0] if len(all_given) == 1 else ""
    usable = 0 < len(given) <= MAX_NAME and given.isascii() and given.isprintable()
    return given if usable else None
