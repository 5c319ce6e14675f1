"""Who asks, and for which organization and sandbox.

A key stands for a client of one organization. Experience Platform's clients show it as
`x-api-key`, with a bearer token that was issued to it, and name organization and sandbox in
headers; Pinpoint's clients sign with the AWS secret that belongs to it, and name an
application, which the settings map to an organization and a sandbox. All of it has to agree.

Without any key, on loopback, everybody is believed. Only there: a page in somebody's browser
is not, see `Gate.require_local`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog
from starlette.datastructures import Headers
from starlette.requests import Request

from segexport.errors import (
    AccessFault,
    AccessRefused,
    JobNotFound,
    SignatureRefused,
    TokenRefused,
)
from segexport.http.host import authority_in, host_in
from segexport.http.keys import Key, KeyRing
from segexport.http.limits import REQUEST_ID
from segexport.http.rates import Rates
from segexport.http.sigv4 import EXPIRED, SKEWED, SignedRequest, verify
from segexport.http.tokens import Kind, Tokens
from segexport.jobs.job import Scope
from segexport.settings import PinpointSettings, Settings
from segexport.settings.kinds import FOLDER_NAME, MAX_FOLDER_NAME, is_loopback

log: Final = structlog.stdlib.get_logger(__name__)

ORGANIZATION: Final = "x-gw-ims-org-id"
SANDBOX: Final = "x-sandbox-name"
API_KEY: Final = "x-api-key"
SESSION: Final = "segexport_session"
"""The cookie of a browser that has signed in."""

ONCE: Final = frozenset(
    {
        *(ORGANIZATION, SANDBOX, API_KEY, REQUEST_ID, "amz-sdk-invocation-id"),
        *("authorization", "content-encoding", "content-type", "host", "last-event-id", "origin"),
        *("x-amz-content-sha256", "x-amz-date", "x-amz-security-token"),
    }
)
"""Headers that say one thing: of two, whoever stood before us may have gone by the other."""

_FAULTS: Final[Mapping[str, AccessFault]] = {
    SKEWED: AccessFault.CLOCK_SKEWED,
    EXPIRED: AccessFault.SESSION_EXPIRED,
}
"""Of a signature, those that clients can mend by themselves."""
_FOLDER_NAME: Final = re.compile(FOLDER_NAME)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: on whose behalf, and with which key; None where nobody needs one."""

    scope: Scope
    key: Key | None = None


class Gate:
    """Lets callers in, and counts them against the rate of their organization.

    Whatever is logged about their requests from then on says who they are.
    """

    def __init__(
        self,
        settings: Settings,
        ring: KeyRing,
        tokens: Tokens,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._default = Scope(settings.organization, settings.sandbox)
        self._pinpoint: PinpointSettings = settings.pinpoint
        self._ring = ring
        self._tokens = tokens
        self._clock = clock
        self._loopback = settings.http.is_loopback
        self._rates = Rates(settings.http.rate, settings.http.burst)

    @property
    def is_open(self) -> bool:
        """Whether nobody needs a key: on loopback, as long as none was ever made."""
        return self._loopback and self._ring.is_empty

    async def bearer(self, request: Request) -> Caller:
        """Whoever shows a token and a key, for the organization and sandbox that he names.

        Raises `AccessRefused`, `TooManyRequests`, and `ProviderUnreachable`.
        """
        headers = request.headers
        _require_once(headers.raw)
        if self.is_open:
            self.require_local(headers)
            return self._let_in(Caller(_named(headers, self._default)))
        token, key = _token(headers), self._key(headers)
        if await self._client_of(token) != key.client_id:
            raise AccessRefused(
                AccessFault.TOKEN_INVALID, "Oauth token is not valid for this API key"
            )
        scope = Scope(_required(headers, ORGANIZATION), _required(headers, SANDBOX))
        _require_allowed(key, scope)
        return self._let_in(Caller(scope, key))

    async def reader(self, request: Request) -> Caller:
        """As `bearer`; a browser that has signed in shows its cookie instead.

        It names the sandbox in the query (`?sandbox=prod`), because it cannot send headers.
        """
        cookie = request.cookies.get(SESSION)
        if self.is_open or cookie is None or "authorization" in request.headers:
            return await self.bearer(request)
        _require_once(request.headers.raw)
        key = await self.session(cookie)
        sandbox = request.query_params.get("sandbox")
        if sandbox is None:
            raise AccessRefused(AccessFault.SANDBOX_MISSING, "name a sandbox: ?sandbox=prod")
        scope = Scope(key.organization, sandbox)
        _require_allowed(key, scope)
        return self._let_in(Caller(scope, key))

    async def session(self, cookie: str) -> Key:
        """The key that somebody has signed in with. Raises `AccessRefused`."""
        client_id = await self._client_of(cookie, Kind.SESSION)
        key = self._ring.by_client(client_id)
        if key is None:
            raise AccessRefused(AccessFault.KEY_INVALID, "the API key of this session is revoked")
        return key

    async def _client_of(self, token: str, kind: Kind = Kind.ACCESS) -> str:
        try:
            return await self._tokens.client_of(token, self._clock(), kind)
        except TokenRefused as error:
            log.info("a token is refused", reason=str(error))
            raise AccessRefused(AccessFault.TOKEN_INVALID, "Oauth token is not valid") from error

    def signed(self, request: SignedRequest, application_id: str) -> Caller:
        """Whoever has signed a request about an application.

        Raises `AccessRefused`, `TooManyRequests`, and `JobNotFound` for an application that is
        not there or not for this key: nobody learns which.
        """
        key = self.signer(request)
        application = self._pinpoint.applications.get(application_id)
        missing = JobNotFound(f"there is no application {application_id[:64]!r}")
        if application is None:
            raise missing
        scope = Scope(application.organization, application.sandbox)
        if key is not None and not key.allows(scope):
            raise missing
        return self._let_in(Caller(scope, key))

    def signer(self, request: SignedRequest) -> Key | None:
        """The key that has signed; None where nobody needs one. Raises `AccessRefused`."""
        _require_once(request.headers)
        if self.is_open:
            self.require_local(Headers(raw=list(request.headers)))
            return None
        try:
            return verify(request, self._ring, regions=self._pinpoint.regions, now=self._clock())
        except SignatureRefused as error:
            fault = _FAULTS.get(error.error_type, AccessFault.SIGNATURE_INVALID)
            raise AccessRefused(fault, str(error)) from error

    def still_allowed(self, caller: Caller) -> bool:
        """Whether somebody who was let in may stay."""
        if caller.key is None:
            return self.is_open
        key = self._ring.by_client(caller.key.client_id)
        return key is not None and key.allows(caller.scope)

    def require_local(self, headers: Mapping[str, str]) -> None:
        """Raise `AccessRefused` for a request that some web page has made a browser send.

        Such a page may let its own name point here (DNS rebinding), which shows in Host, or
        send a form across, which shows in Origin.
        """
        for name, read in (("host", host_in), ("origin", _host_of_origin)):
            given = headers.get(name)
            if given is not None and not is_loopback(read(given)):
                raise AccessRefused(
                    AccessFault.ORIGIN_FOREIGN,
                    f"{name} {given[:64]!r} is not this machine; without API keys only programs "
                    "on this machine may ask: make one with `segexport keys create`",
                )

    def _key(self, headers: Mapping[str, str]) -> Key:
        client_id = headers.get(API_KEY)
        if not client_id:
            raise AccessRefused(AccessFault.KEY_MISSING, "Api Key is required")
        key = self._ring.by_client(client_id)
        if key is None:
            raise AccessRefused(AccessFault.KEY_INVALID, "Api Key is invalid")
        return key

    def _let_in(self, caller: Caller) -> Caller:
        client = {"client": caller.key.client_id} if caller.key else {}
        structlog.contextvars.bind_contextvars(
            organization=caller.scope.organization, sandbox=caller.scope.sandbox, **client
        )
        self._rates.take(caller.scope.organization)
        return caller


def _token(headers: Mapping[str, str]) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise AccessRefused(AccessFault.TOKEN_MISSING, "Oauth token is missing.")
    return token.strip()


def _required(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name)
    if not value:
        missing = {
            ORGANIZATION: AccessFault.ORGANIZATION_MISSING,
            SANDBOX: AccessFault.SANDBOX_MISSING,
        }
        raise AccessRefused(missing[name], f"the header {name} is required")
    return value


def _require_allowed(key: Key, scope: Scope) -> None:
    if scope.organization != key.organization:
        raise AccessRefused(
            AccessFault.ORGANIZATION_FOREIGN, "the API key may not act for this organization"
        )
    if not key.allows(scope):
        raise AccessRefused(AccessFault.SANDBOX_FOREIGN, "the API key may not act in this sandbox")
    _require_names(scope)


def _named(headers: Mapping[str, str], default: Scope) -> Scope:
    organization = headers.get(ORGANIZATION) or default.organization
    sandbox = headers.get(SANDBOX) or default.sandbox
    scope = Scope(organization, sandbox)
    _require_names(scope)
    return scope


def _require_names(scope: Scope) -> None:
    """Both name folders; a key that is good for all sandboxes does not say what they are called."""
    for name, value, fault in (
        (ORGANIZATION, scope.organization, AccessFault.ORGANIZATION_FOREIGN),
        (SANDBOX, scope.sandbox, AccessFault.SANDBOX_FOREIGN),
    ):
        if not _FOLDER_NAME.fullmatch(value) or len(value) > MAX_FOLDER_NAME:
            raise AccessRefused(
                fault, f"{name} must be letters, digits and _ . @ -, not led by a dot"
            )


def _host_of_origin(origin: str) -> str | None:
    return host_in(authority_in(origin) or "")


def _require_once(headers: Sequence[tuple[bytes, bytes]]) -> None:
    names = [name.decode("latin-1").lower() for name, _ in headers]
    for name in sorted(ONCE):
        if (times := names.count(name)) > 1:
            raise AccessRefused(
                AccessFault.HEADER_REPEATED, f"the header {name} is there {times} times; send one"
            )
