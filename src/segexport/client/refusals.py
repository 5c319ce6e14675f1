"""What a service's refusals mean: the same errors, in the same words, as they have here."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

import httpx
from pydantic import ValidationError

from segexport.errors import (
    AccessFault,
    AccessRefused,
    BodyFragmented,
    BodyTooLarge,
    BodyTooLate,
    DatasetUnreachable,
    IllegalTransition,
    InvalidRequest,
    JobNotFound,
    NotSegexport,
    Problem,
    ProfileStoreBusy,
    ProfileStoreCorrupt,
    ProfileStoreError,
    ProfileStoreMissing,
    ProviderUnreachable,
    RequestConflict,
    SegexportError,
    ServiceFailed,
    ServiceUnreachable,
    StoreReplaced,
    StoreUnavailable,
    TooLateToCancel,
    TooManyRequests,
)
from segexport.http.problem_api import ProblemDetails
from segexport.jobs.job import Scope

_KINDS: Final[Mapping[str, type[SegexportError]]] = MappingProxyType(
    {
        kind.code: kind
        for kind in (
            BodyFragmented,
            BodyTooLarge,
            BodyTooLate,
            DatasetUnreachable,
            IllegalTransition,
            JobNotFound,
            ProfileStoreBusy,
            ProfileStoreCorrupt,
            ProfileStoreError,
            ProfileStoreMissing,
            ProviderUnreachable,
            RequestConflict,
            StoreReplaced,
            StoreUnavailable,
            TooLateToCancel,
        )
    }
)
"""The errors that are made of their words alone."""

_SHOWN: Final = 200
"""Characters of an address that a stranger names."""
_LOGIN: Final = "client.api_key and client.client_secret"
_VARIABLES: Final = "SEGEXPORT_CLIENT__API_KEY, SEGEXPORT_CLIENT__CLIENT_SECRET"


@dataclass(frozen=True, slots=True)
class Refusals:
    """Of the service at `url`, to whoever asks for `scope`, with a login or without."""

    url: str
    scope: Scope
    has_login: bool

    def error_of(self, answer: httpx.Response) -> SegexportError:
        """The error that an answer means which is none."""
        told = _details(answer)
        if told is None:
            return self._strange(answer)
        words = _plain(told.detail)
        family, _, fault = told.code.partition(".")
        match told.code:
            case InvalidRequest.code if told.problems:
                problems = [(_plain(one.path), _plain(one.message)) for one in told.problems]
                error: SegexportError = InvalidRequest([Problem(*one) for one in problems])
            case TooManyRequests.code:
                error = TooManyRequests(retry_after(answer) or 1)
            case _ if family == AccessRefused.code and fault in set(AccessFault):
                error = self._refused(AccessFault(fault), words)
            case "http.not_found" | "http.method_not_allowed":
                error = NotSegexport(
                    f"{self.url} does not know what is asked: its segexport is of another "
                    "version, or the address is not that of its root"
                )
            case _ if told.status == HTTPStatus.SERVICE_UNAVAILABLE:
                # Its words leave out what is for those who run it, so they say too little alone.
                kind = _KINDS.get(told.code, ServiceUnreachable)
                error = kind(f"{self.url} answers: {words}")
            case code if code in _KINDS:
                error = _KINDS[code](words)
            case code:
                error = ServiceFailed(
                    f"{self.url} answers: {words} ({_plain(code)}, request "
                    f"{_plain(told.request_id)})"
                )
        return error

    def _refused(self, fault: AccessFault, words: str) -> AccessRefused:
        """Who may not come in, with the setting that decides about it."""
        match fault:
            case AccessFault.TOKEN_MISSING | AccessFault.KEY_MISSING if not self.has_login:
                hint = f"it wants a login: set {_LOGIN} ({_VARIABLES})"
            case AccessFault.TOKEN_MISSING | AccessFault.TOKEN_INVALID:
                hint = f"the header Authorization, made of {_LOGIN}"
            case AccessFault.KEY_MISSING | AccessFault.KEY_INVALID:
                hint = "the header x-api-key, from client.api_key (SEGEXPORT_CLIENT__API_KEY)"
            case AccessFault.ORGANIZATION_MISSING | AccessFault.ORGANIZATION_FOREIGN:
                hint = (
                    f"the header x-gw-ims-org-id, {self.scope.organization!r}, from the setting "
                    "organization (SEGEXPORT_ORGANIZATION)"
                )
            case AccessFault.SANDBOX_MISSING | AccessFault.SANDBOX_FOREIGN:
                hint = (
                    f"the header x-sandbox-name, {self.scope.sandbox!r}, from the setting sandbox "
                    "(SEGEXPORT_SANDBOX)"
                )
            case _:
                return AccessRefused(fault, f"{self.url} refuses: {words}")
        return AccessRefused(fault, f"{self.url} refuses: {words} ({hint})")

    def _strange(self, answer: httpx.Response) -> SegexportError:
        """An answer that segexport itself would not give."""
        status = f"{answer.status_code} {_plain(answer.reason_phrase)}".strip()
        if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            return TooManyRequests(retry_after(answer) or 1)
        if answer.status_code in {502, 503, 504}:
            return ServiceUnreachable(f"{self.url} answers {status}: what is behind it is away")
        if answer.has_redirect_location:
            elsewhere = _plain(answer.headers["location"])[:_SHOWN]
            return NotSegexport(f"{self.url} leads to {elsewhere}; if that is right, give that")
        return NotSegexport(
            f"{self.url} answers {status}, and not in the way of segexport; check --url, or "
            "client.url"
        )


def retry_after(answer: httpx.Response) -> int | None:
    """Seconds after which an answer asks to come again."""
    given = answer.headers.get("retry-after", "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 10 else None  # noqa: PLR2004


def _details(answer: httpx.Response) -> ProblemDetails | None:
    """The problem details of an answer, if they are segexport's."""
    try:
        told = ProblemDetails.model_validate_json(answer.content)
    except ValidationError:
        return None
    return told if told.type == f"urn:segexport:{told.code}" else None


def _plain(text: str) -> str:
    """The same, without what would move a terminal's cursor."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
