"""Whether the service lives, and whether it is ready."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI
from starlette.responses import JSONResponse, Response

from segexport.errors import StoreError
from segexport.http import service_api as api
from segexport.http.wiring import add_operation
from segexport.relay.relay import RelayHealth

PATIENCE: Final = 2.0
"""Seconds that the store may take to answer."""
LARGE_BACKLOG: Final = 100_000
"""Events that wait for delivery: more are worth a word."""


@dataclass(frozen=True, slots=True)
class Health:
    """Answers `/livez` and `/readyz`.

    `relay` tells how the relay is, by way of the store; `is_relaying` whether it runs at all.
    """

    relay: Callable[[], Awaitable[RelayHealth]]
    is_relaying: Callable[[], bool]

    def serve(self, app: FastAPI) -> None:
        """Add it to `app`."""
        add_operation(app, "/livez", "GET", self.live, api.LIVE)
        add_operation(app, "/readyz", "GET", self.ready, api.READY)

    async def live(self) -> Response:
        """The process answers; nothing else is looked at."""
        return JSONResponse({"status": "alive"})

    async def ready(self) -> Response:
        """200 while jobs are accepted and run, with what is not as it should be; else 503.

        A broker that is away delays events and nothing else, so it is a reason and no refusal:
        whoever balances load must not take away an interface that works.
        """
        reasons: dict[str, str] = {}
        status = HTTPStatus.OK
        try:
            async with asyncio.timeout(PATIENCE):
                relay = await self.relay()
        except (StoreError, TimeoutError):
            reasons["store"] = "cannot be used"
            status = HTTPStatus.SERVICE_UNAVAILABLE
        else:
            reasons |= _reasons(relay)
        if not self.is_relaying():
            reasons["relay"] = "has ended"
            status = HTTPStatus.SERVICE_UNAVAILABLE
        said = "ready" if not reasons else "degraded"
        if status is not HTTPStatus.OK:
            said = "not ready"
        return JSONResponse({"status": said, "reasons": reasons}, status_code=status)


def _reasons(relay: RelayHealth) -> dict[str, str]:
    """What is not as it should be; nothing that names a file or an address."""
    reasons: dict[str, str] = {}
    if relay.error is not None:
        reasons["broker"] = f"events wait ({relay.error_code})"
    if relay.waiting > LARGE_BACKLOG:
        reasons["backlog"] = f"{relay.waiting} events wait for delivery"
    if relay.parked:
        reasons["parked"] = f"{relay.parked} records are refused by the broker"
    return reasons
