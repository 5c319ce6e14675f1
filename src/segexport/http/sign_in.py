"""How clients get a token, and browsers a session.

`POST /ims/token/v3` is the client_credentials grant (RFC 6749, section 4.4) at the address
where Experience Platform's clients look for it. `POST /session` gives a browser a cookie that
its scripts cannot read, with which it may follow the event stream.
"""

from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from segexport.http.auth import SESSION
from segexport.http.keys import Key, KeyRing
from segexport.http.tokens import Kind, Tokens

TOKEN: Final = "/ims/token/v3"  # noqa: S105  (a path)
SESSIONS: Final = "/session"
MAX_FIELDS: Final = 20


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

    def routes(self) -> list[Route]:
        """What is to be served."""
        return [
            Route(TOKEN, self.token, methods=["POST"]),
            Route(SESSIONS, self.sign_in, methods=["POST"]),
            Route(SESSIONS, self.sign_out, methods=["DELETE"]),
        ]

    async def token(self, request: Request) -> Response:
        """Give a token."""
        async with request.form(max_files=0, max_fields=MAX_FIELDS) as form:
            if form.get("grant_type") != "client_credentials":
                return _refused("unsupported_grant_type", "grant_type must be client_credentials")
            key = self._key(form)
        if key is None:
            return _refused(
                "invalid_client", "client_id or client_secret is wrong", HTTPStatus.UNAUTHORIZED
            )
        token, seconds = self._tokens.issue(key, self._clock())
        return JSONResponse({"access_token": token, "token_type": "bearer", "expires_in": seconds})

    async def sign_in(self, request: Request) -> Response:
        """Give a session, in a cookie."""
        if _is_foreign(request):
            return _refused("access_denied", "sign in from this site", HTTPStatus.FORBIDDEN)
        async with request.form(max_files=0, max_fields=MAX_FIELDS) as form:
            key = self._key(form)
        if key is None:
            return _refused(
                "invalid_client", "client_id or client_secret is wrong", HTTPStatus.UNAUTHORIZED
            )
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
        """Take the cookie back."""
        del request
        answer = Response(status_code=HTTPStatus.NO_CONTENT)
        answer.delete_cookie(SESSION, secure=self._secure, httponly=True, samesite="strict")
        return answer

    def _key(self, form: FormData) -> Key | None:
        client_id, secret = form.get("client_id"), form.get("client_secret")
        if not isinstance(client_id, str) or not isinstance(secret, str):
            return None
        key = self._ring.by_client(client_id)
        return key if key is not None and self._ring.believes(key, secret) else None


def _is_foreign(request: Request) -> bool:
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != request.headers.get("host")


def _refused(error: str, words: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> Response:
    return JSONResponse({"error": error, "error_description": words}, status_code=status)
