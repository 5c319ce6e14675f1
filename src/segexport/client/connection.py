"""HTTP with one service: who asks, how long an answer may take, what is asked again.

Whatever is asked may be asked twice, for creations have a request id. So what may pass is tried
again: connections that cannot be made or are lost, 429, and 502 to 504. No answer leads
elsewhere, and nothing switches off the verification of certificates.
"""

import asyncio
import ssl
import time
from collections.abc import Mapping
from http import HTTPStatus
from importlib.metadata import version
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx

from segexport.client.faults import is_lasting, reason_of
from segexport.client.login import Login
from segexport.client.refusals import Refusals, retry_after
from segexport.errors import (
    NotSegexport,
    ProfileStoreCorrupt,
    ProfileStoreMissing,
    SegexportError,
    ServiceUnreachable,
    SettingsError,
)
from segexport.http.auth import ORGANIZATION, SANDBOX
from segexport.jobs.job import Scope
from segexport.settings import ClientSettings
from segexport.settings.kinds import is_loopback

FIRST_CONTACT: Final = 3.0
"""Seconds that a service may take to be there at all, before its address counts as wrong."""
PAUSE: Final = 0.2
"""Seconds until the first further try; doubled each time, up to `MAX_PAUSE`."""
MAX_PAUSE: Final = 5.0

_MAY_PASS: Final = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
_STAYS: Final = (ProfileStoreMissing, ProfileStoreCorrupt)
"""What a service is without until somebody does something about it."""


class Connection:
    """A service, asked on behalf of one organization and sandbox. Open it with `async with`."""

    def __init__(self, url: str, settings: ClientSettings, scope: Scope) -> None:
        self.url = url
        self._timeout = settings.timeout.total_seconds()
        self._patience = settings.patience.total_seconds()
        self._login = Login.of(settings)
        self._refusals = Refusals(url, scope, has_login=self._login is not None)
        self._has_answered = False
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={
                ORGANIZATION: scope.organization,
                SANDBOX: scope.sandbox,
                "User-Agent": f"segexport/{version('segexport')}",
            },
            timeout=self._timeout,
            verify=_trusting(settings),
            # Proxies of the environment lead to other machines.
            trust_env=not is_loopback(urlsplit(url).hostname),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
    ) -> httpx.Response:
        """The service's answer, which is a good one.

        Raises the error that the service answers with, `AccessRefused` where it does not let
        us in, and `ServiceError`.
        """
        answer = await self._ask_known(method, path, params=params, json=json)
        if answer.status_code == HTTPStatus.UNAUTHORIZED and self._login is not None:
            # The token may have run out, or the service may have another master key by now.
            self._login.forget()
            answer = await self._ask_known(method, path, params=params, json=json)
        if not answer.is_success:
            raise self._refusals.error_of(answer)
        return answer

    async def _ask_known(self, method: str, path: str, **what: Any) -> httpx.Response:
        """As somebody who has signed in, if there is a login."""
        headers: Mapping[str, str] = {}
        if self._login is not None:
            if self._login.needs_token:
                granted = await self._persist("POST", self._login.path, data=self._login.form)
                self._login.take(granted, self._refusals)
            headers = self._login.headers
        return await self._persist(method, path, headers=headers, **what)

    async def _persist(self, method: str, path: str, **what: Any) -> httpx.Response:
        """The answer to a request that is sent again while what hinders it may pass."""
        begun, pause = time.monotonic(), PAUSE
        while True:
            answer = await self._send(method, path, **what)
            if isinstance(answer, httpx.Response):
                failure = self._failure(answer)
                if failure is None:
                    return answer
                wait = retry_after(answer) or pause
            else:
                failure, wait = answer, pause
            patience = self._patience if self._has_answered else min(FIRST_CONTACT, self._patience)
            if time.monotonic() + wait > begun + patience:
                raise failure
            await asyncio.sleep(wait)
            pause = min(2 * pause, MAX_PAUSE)

    async def _send(self, method: str, path: str, **what: Any) -> httpx.Response | SegexportError:
        """The answer to a request, or why there is none, if that may pass."""
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._http.request(method, path, **what)
        except (httpx.TransportError, TimeoutError) as error:
            reason = reason_of(error, self._timeout)
            failure = ServiceUnreachable(f"cannot talk to {self.url}: {reason}")
            if is_lasting(error):
                raise failure from error
            return failure
        except httpx.RequestError as error:
            raise NotSegexport(f"what {self.url} answers cannot be read: {error}") from error
        self._has_answered = True
        return answer

    def _failure(self, answer: httpx.Response) -> SegexportError | None:
        """The error that an answer means, if it may pass."""
        if answer.status_code not in _MAY_PASS:
            return None
        error = self._refusals.error_of(answer)
        return None if isinstance(error, _STAYS) else error


def _trusting(settings: ClientSettings) -> ssl.SSLContext:
    try:
        if settings.cafile is None:
            return httpx.create_ssl_context()
        return ssl.create_default_context(cafile=settings.cafile)
    except OSError as error:
        where = settings.cafile or "SSL_CERT_FILE"
        raise SettingsError(
            f"the certificates of {where} cannot be used ({error.strerror or error}); set "
            "client.cafile to a file of certificates in PEM"
        ) from error
