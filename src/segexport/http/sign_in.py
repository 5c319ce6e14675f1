"""How clients get a token, and browsers a session.

`POST /ims/token/v3` is the client_credentials grant (RFC 6749, section 4.4) at the address
where Experience Platform's clients look for it. `POST /session` gives a browser a cookie that
its scripts cannot read, with which it may follow the event stream.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from segexport.http import service_api as api
from segexport.http.auth import SESSION
from segexport.http.bodies import read_form
from segexport.http.host import authority_in
from segexport.http.keys import Key, KeyRing
from segexport.http.tokens import Kind, Tokens
from segexport.http.wiring import add_operation

TOKEN: Final = "/ims/token/v3"  # noqa: S105  (a path)
SESSIONS: Final = "/session"
CREDENTIALS: Final = frozenset({"client_id", "client_secret"})


class SignIn:
    """Gives tokens and sessions to whoever knows a key's client secret.

    `secure`: cookies go over TLS only, which browsers demand but on loopback.
    """

    def __init__(
        self,
        ring: KeyRing,
        tokens: Tokens,
        *,
        clock: Callable[[], datetime],
        secure: bool,
    ) -> None:
        self._ring = ring
        self._tokens = tokens
        self._clock = clock
        self._secure = secure

    def serve(self, app: FastAPI) -> None:
        """Add it to `app`."""
        add_operation(app, TOKEN, "POST", self.token, api.TOKEN)
        add_operation(app, SESSIONS, "POST", self.sign_in, api.SIGN_IN)
        add_operation(app, SESSIONS, "DELETE", self.sign_out, api.SIGN_OUT)

    async def token(self, request: Request) -> Response:
        """Give a token."""
        form = await _form(request)
        if "grant_type" not in form:
            return _incomplete()
        if form["grant_type"] != "client_credentials":
            return _refused("unsupported_grant_type", "grant_type must be client_credentials")
        if not form.keys() >= CREDENTIALS:
            return _incomplete()
        key = self._key(form)
        if key is None:
            return _wrong_client()
        token, seconds = self._tokens.issue(key, self._clock())
        return JSONResponse({"access_token": token, "token_type": "bearer", "expires_in": seconds})

    async def sign_in(self, request: Request) -> Response:
        """Give a session, in a cookie."""
        if _is_foreign(request):
            return _foreign()
        form = await _form(request)
        if not form.keys() >= CREDENTIALS:
            return _incomplete()
        key = self._key(form)
        if key is None:
            return _wrong_client()
        token, seconds = self._tokens.issue(key, self._clock(), Kind.SESSION)
        answer = Response(status_code=HTTPStatus.NO_CONTENT)
        answer.set_cookie(
            SESSION,
            token,
            max_age=seconds,
            secure=self._secure,
            httponly=True,
            samesite="strict",
        )
        return answer

    async def sign_out(self, request: Request) -> Response:
        """Take the cookie back, unless another site asks for it."""
        if _is_foreign(request):
            return _foreign()
        answer = Response(status_code=HTTPStatus.NO_CONTENT)
        answer.delete_cookie(SESSION, secure=self._secure, httponly=True, samesite="strict")
        return answer

    def _key(self, form: Mapping[str, str]) -> Key | None:
        key = self._ring.by_client(form["client_id"])
        return key if key is not None and self._ring.believes(key, form["client_secret"]) else None


async def _form(request: Request) -> Mapping[str, str]:
    """The fields of a form; none where the body is no form, or names two clients."""
    fields = await read_form(request)
    named = [name for name, _ in fields if name in CREDENTIALS]
    return dict(fields) if len(set(named)) == len(named) else {}


def _is_foreign(request: Request) -> bool:
    """Whether a page of another site has made a browser send it."""
    host = request.headers.get("host", "").lower()
    origins = map(authority_in, request.headers.getlist("origin"))
    return any(origin is None or origin.lower() != host for origin in origins)


def _foreign() -> Response:
    return _refused("access_denied", api.FROM_THIS_SITE, HTTPStatus.FORBIDDEN)


def _incomplete() -> Response:
    return _refused("invalid_request", api.COMPLETE)


def _wrong_client() -> Response:
    words = "client_id or client_secret is wrong"
    return _refused("invalid_client", words, HTTPStatus.UNAUTHORIZED)


def _refused(error: str, words: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> Response:
    return JSONResponse({"error": error, "error_description": words}, status_code=status)
