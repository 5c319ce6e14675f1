"""Whether the service lives, and whether it is ready."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI
from starlette.responses import JSONResponse, Response

from segexport.errors import ProfileStoreError, ProfileStoreMissing, StoreError
from segexport.http import service_api as api
from segexport.http.wiring import add_operation
from segexport.profiles.snapshots import ProfileStore
from segexport.relay.relay import RelayHealth
from segexport.store.store import Outbox
from segexport.supervision import Supervisor

PATIENCE: Final = 2.0
"""Seconds that the store may take to write, and to answer."""
FRESH: Final = 1.0
"""Seconds that the outcome of a write is good for: anybody may ask, as often as he likes."""
LARGE_BACKLOG: Final = 100_000
"""Events that wait for delivery: more are worth a word."""


class Health:
    """Answers `/livez` and `/readyz`.

    `supervisor` knows whether a part has failed. Jobs are accepted into the store of `outbox`, and
    held against `profiles`. `relay` tells how the relay is, and `keys_are_as_on_disk` whether the
    files of the keys can still be read, and hold what the service goes by.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        outbox: Outbox,
        profiles: ProfileStore,
        relay: Callable[[], Awaitable[RelayHealth]],
        *,
        keys_are_as_on_disk: Callable[[], bool] = lambda: True,
    ) -> None:
        self._supervisor = supervisor
        self._outbox = outbox
        self._profiles = profiles
        self._relay = relay
        self._keys_are_as_on_disk = keys_are_as_on_disk
        self._probe: asyncio.Task[None] | None = None
        self._probed_at = float("-inf")

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
        refusals: dict[str, str] = {}
        try:
            async with asyncio.timeout(PATIENCE):
                await self._written()
                reasons = _reasons(await self._relay())
        except (StoreError, TimeoutError):
            refusals["store"] = "cannot be used"
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.to_thread(self._look_at_profiles)
        except ProfileStoreMissing:
            reasons["profiles"] = "none are loaded, so jobs are refused"
        except (ProfileStoreError, OSError):  # TimeoutError among them
            refusals["profiles"] = "cannot be used"
        if not self._keys_are_as_on_disk():
            reasons["keys"] = "cannot be read again, so they stay as they were"
        if (failure := self._supervisor.failure) is not None:
            refusals[failure.part] = f"has failed ({failure.error.code})"
        if refusals:
            return _said("not ready", {**reasons, **refusals}, HTTPStatus.SERVICE_UNAVAILABLE)
        return _said("degraded" if reasons else "ready", reasons, HTTPStatus.OK)

    def _look_at_profiles(self) -> None:
        self._profiles.latest()
        self._profiles.catalogue()

    async def _written(self) -> None:
        """Return once something was written a moment ago. Raises `StoreError`."""
        clock = asyncio.get_running_loop().time
        if self._probe is None or (self._probe.done() and clock() - self._probed_at > FRESH):
            self._probed_at = clock()
            self._probe = asyncio.create_task(self._outbox.probe())
            self._probe.add_done_callback(_take_note)
        # Everybody's: whoever stops waiting does not take it along.
        await asyncio.wait({self._probe})
        self._probe.result()


def _take_note(probe: asyncio.Task[None]) -> None:
    """Its error is the next one's who asks, and of no interest where nobody does."""
    if not probe.cancelled():
        probe.exception()


def _said(status: str, reasons: dict[str, str], code: HTTPStatus) -> Response:
    return JSONResponse({"status": status, "reasons": reasons}, status_code=code)


def _reasons(relay: RelayHealth) -> dict[str, str]:
    """What is not as it should be; nothing that names a file or an address."""
    reasons: dict[str, str] = {}
    if relay.error is not None:
        reasons["broker"] = f"events wait ({relay.error_code})"
    if relay.waiting > LARGE_BACKLOG:
        reasons["backlog"] = f"{relay.waiting} events wait for delivery"
    if relay.parked:
        reasons["parked"] = f"{relay.parked} records cannot be delivered"
    return reasons
