"""All interfaces in one application."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.responses import JSONResponse
from starlette.routing import Router
from starlette.types import ASGIApp

from segexport.commands import Commands
from segexport.errors import SettingsError
from segexport.http import experience_platform_api, own, pinpoint_api, service_api
from segexport.http.auth import Caller, Gate
from segexport.http.cursor import Cursors
from segexport.http.experience_platform import platform_app
from segexport.http.health import Health
from segexport.http.keys import KeyFile, KeyRing, MasterKey
from segexport.http.limits import Limits
from segexport.http.live import EventStream, StreamLimits
from segexport.http.pinpoint import pinpoint_app
from segexport.http.problem_api import PROBLEM
from segexport.http.problems import Refusal, answering_refusals
from segexport.http.sign_in import SignIn
from segexport.http.tail import Tail
from segexport.http.tokens import Tokens
from segexport.http.wiring import add_operation, mounted, new_app, wired
from segexport.settings import Settings
from segexport.settings.kinds import LOOPBACK


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Door:
    """What decides who comes in: the keys, the tokens, and what they are held against.

    `cursors` are sealed with the same master key.
    """

    ring: KeyRing
    tokens: Tokens
    gate: Gate
    cursors: Cursors

    @classmethod
    def of(cls, settings: Settings, *, clock: Callable[[], datetime] = _utc_now) -> "Door":
        """The door that the settings describe.

        Raises `KeysError`, and `SettingsError` where others than this machine could come in
        without a key.
        """
        master = MasterKey.of(settings)
        given = settings.http.master_key is not None
        ring = KeyRing(
            KeyFile(settings.keys_file),
            master,
            master_file=None if given else settings.master_key_file,
        )
        if ring.is_empty and not settings.http.is_loopback:
            raise SettingsError(
                f"http.host is {settings.http.host}, where others can connect (only {LOOPBACK} are "
                "known to be this machine alone), and there are no API keys: make one with "
                "`segexport keys create`, or listen on 127.0.0.1"
            )
        tokens = Tokens(master, ring, settings.http.tokens)
        gate = Gate(settings, ring, tokens, clock=clock)
        return cls(ring, tokens, gate, Cursors(master.cursor_key))


def create_app(
    settings: Settings, commands: Commands, door: Door, tail: Tail, health: Health
) -> ASGIApp:
    """Everything that is served over HTTP."""
    app = new_app()
    answering_refusals(app, _answer)
    wired(app, commands, door.gate)
    own.serve_jobs(app)
    # Browsers keep a secure cookie from a plain address, unless that is this machine's.
    secure = settings.http.certificate is not None or not settings.http.is_loopback
    sign_in = SignIn(door.ring, door.tokens, clock=_utc_now, secure=secure)
    sign_in.serve(app)
    health.serve(app)
    stream_limits = StreamLimits.of(settings.http)

    async def stream(
        request: Request, caller: Annotated[Caller, Depends(door.gate.reader)]
    ) -> Response:
        return EventStream(
            tail,
            caller.scope,
            last_event_id=request.headers.get("last-event-id"),
            still_allowed=lambda: door.gate.still_allowed(caller),
            limits=stream_limits,
        )

    add_operation(app, "/events/stream", "GET", stream, service_api.STREAM)
    # Beside each other, and not in each other: an error is answered by one of them alone.
    parts = (
        mounted(experience_platform_api.BASE, platform_app(commands, door.gate)),
        mounted(pinpoint_api.BASE, pinpoint_app(commands, door.gate)),
        mounted("", service_api.described(app)),
    )
    return Limits(Router(parts, redirect_slashes=False), settings.http)


def _answer(refusal: Refusal, request: Request) -> Response:
    """Problem details (RFC 9457)."""
    content: dict[str, Any] = {
        "type": f"urn:segexport:{refusal.code}",
        "title": refusal.status.phrase,
        "status": refusal.status.value,
        "detail": refusal.message,
        "code": refusal.code,
        "requestId": request.state.request_id,
    }
    if refusal.problems:
        content["problems"] = [
            {"path": problem.path, "message": problem.message} for problem in refusal.problems
        ]
    return JSONResponse(
        content,
        status_code=refusal.status,
        headers=dict(refusal.headers),
        media_type=PROBLEM,
    )
