"""How the addresses of segexport's own are described: tokens, sessions, live stream, health."""

from typing import Any, Final, Literal

from fastapi import FastAPI, Response
from pydantic import BaseModel, ConfigDict

from segexport.http import openapi, own_api
from segexport.http.auth import ORGANIZATION, SANDBOX, SESSION
from segexport.http.problem_api import REFUSED, TOO_LARGE, TOO_LATE, ProblemDetails, problem

FORM: Final = "application/x-www-form-urlencoded"
EVENTS: Final = "text/event-stream"
MAX_FIELDS: Final = 20
FROM_THIS_SITE: Final = "sign in and out from this site"
COMPLETE: Final = f"send client_id and client_secret, each once, as {FORM}"


class TokenRequest(BaseModel):
    """The client_credentials grant; `scope` and whatever else is sent has no meaning here."""

    model_config = ConfigDict(json_schema_extra={"maxProperties": MAX_FIELDS})

    grant_type: Literal["client_credentials"]
    client_id: str
    client_secret: str
    scope: str = ""


class Token(BaseModel):
    """A bearer token; it is good for `expires_in` seconds."""

    access_token: str
    token_type: Literal["bearer"]
    expires_in: int


class SessionRequest(BaseModel):
    """Whose session is asked for."""

    model_config = ConfigDict(json_schema_extra={"maxProperties": MAX_FIELDS})

    client_id: str
    client_secret: str


class SignInError(BaseModel):
    """Why there is no token, or no session (RFC 6749, section 5.2)."""

    error: Literal["access_denied", "invalid_client", "invalid_request", "unsupported_grant_type"]
    error_description: str


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"]


class Readiness(BaseModel):
    """Whether jobs are accepted and run; what is not as it should be, by its name."""

    status: Literal["ready", "degraded", "not ready"]
    reasons: dict[str, str]


_WRONG_CLIENT: Final = openapi.answer(
    "There is no such client, or its secret is another.",
    SignInError,
    {"error": "invalid_client", "error_description": "client_id or client_secret is wrong"},
)
_FOREIGN: Final = openapi.answer(
    "The page that asks is one of another site.",
    SignInError,
    {"error": "access_denied", "error_description": FROM_THIS_SITE},
)
_NO_FORM: Final = {"error": "invalid_request", "error_description": COMPLETE}
_CLIENT: Final = {
    "client_id": "0b7c3a5a8f0f4f0c9e0f6f1f2b3c4d5e",
    "client_secret": "p8Qd0example",
}

TOKEN: Final[dict[str, Any]] = {
    "operation_id": "issueToken",
    "summary": "Get a bearer token for a client id and a client secret",
    "responses": {
        200: openapi.answer(
            "A token.",
            Token,
            {"access_token": "eyJ0eXAiOi…", "token_type": "bearer", "expires_in": 86_400},
        ),
        400: openapi.answer("It is no such request.", SignInError, _NO_FORM),
        401: _WRONG_CLIENT,
        408: TOO_LATE,
        413: TOO_LARGE,
    },
    "openapi_extra": openapi.body(
        TokenRequest,
        {"a client": {"grant_type": "client_credentials", **_CLIENT, "scope": "openid"}},
        media_type=FORM,
    ),
}
SIGN_IN: Final[dict[str, Any]] = {
    "operation_id": "signIn",
    "summary": "Sign a browser in, which then may follow the live stream",
    "status_code": 204,
    "responses": {
        204: openapi.bare_answer("Signed in.", Set_Cookie=f"`{SESSION}`: the session."),
        400: openapi.answer("It is no such request.", SignInError, _NO_FORM),
        401: _WRONG_CLIENT,
        403: _FOREIGN,
        408: TOO_LATE,
        413: TOO_LARGE,
    },
    "openapi_extra": openapi.body(SessionRequest, {"a client": _CLIENT}, media_type=FORM),
}
SIGN_OUT: Final[dict[str, Any]] = {
    "operation_id": "signOut",
    "summary": "Take a browser's session back",
    "status_code": 204,
    "responses": {
        204: openapi.bare_answer("Signed out.", Set_Cookie=f"`{SESSION}`, expired."),
        403: _FOREIGN,
    },
}


_MESSAGE: Final = {
    "title": "Message",
    "description": "The fields of one message of the stream.",
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {
            "enum": ["ready", "expired", "queued", "started", "finished", "overrun", "bye"],
        },
        "id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        "data": {"type": "string", "contentMediaType": openapi.JSON},
    },
}
_CURSOR: Final = "5f1d0c2b7e9a4c3d8b6a1f2e3d4c5b6a"
_READY: Final = {"id": _CURSOR, "event": "ready", "data": f'{{"cursor":"{_CURSOR}"}}'}
STREAM: Final[dict[str, Any]] = {
    "operation_id": "followEvents",
    "response_class": Response,
    "summary": "Follow your events as they are committed (Server-Sent Events)",
    "responses": {
        200: {
            **openapi.bare_answer("The stream. Its first message is `ready`, or `expired`."),
            "content": {EVENTS: {"schema": _MESSAGE, "example": _READY}},
        },
        400: problem(
            400,
            "Bad Request",
            "access.sandbox_missing",
            "Organization or sandbox are not named.",
            "name a sandbox: ?sandbox=prod",
        ),
        **REFUSED,
    },
    "openapi_extra": {
        "parameters": [
            openapi.parameter(ORGANIZATION, "header", "With a token: the organization."),
            openapi.parameter(SANDBOX, "header", "With a token: the sandbox."),
            openapi.parameter("sandbox", "query", "With a session: the sandbox."),
            openapi.parameter(
                "Last-Event-ID",
                "header",
                "The id of the last message that came: the stream goes on behind it.",
            ),
        ],
        "security": [{"token": [], "key": []}, {"session": []}],
    },
}
LIVE: Final[dict[str, Any]] = {
    "operation_id": "isAlive",
    "summary": "Whether the process answers",
    "responses": {200: openapi.answer("It does.", Alive, {"status": "alive"})},
}
READY: Final[dict[str, Any]] = {
    "operation_id": "isReady",
    "summary": "Whether jobs are accepted and run",
    "responses": {
        200: openapi.answer(
            "They are; `reasons` say what is not as it should be.",
            Readiness,
            {"status": "degraded", "reasons": {"broker": "events wait (kafka.unreachable)"}},
        ),
        503: openapi.answer(
            "They are not.",
            Readiness,
            {"status": "not ready", "reasons": {"store": "cannot be used"}},
        ),
    },
}

_SECURITY: Final = {
    **openapi.TOKEN_AND_KEY,
    "session": {"type": "apiKey", "in": "cookie", "name": SESSION},
}


def described(app: FastAPI) -> FastAPI:
    """The same app, with its OpenAPI document finished."""
    openapi.describe(
        app,
        title="segexport",
        words=(
            "Tokens, sessions, the live stream and health, and export jobs as the command line has "
            "them. The two public interfaces for export jobs have documents of their own: "
            "`/data/core/ups/openapi.json` and `/v1/openapi.json`."
        ),
        models=(TokenRequest, SessionRequest, ProblemDetails, *own_api.MODELS),
        security=_SECURITY,
    )
    return app
