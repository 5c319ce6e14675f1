"""What went wrong, in the terms that all interfaces share; each words it in its own form."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette._utils import get_route_path
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from segexport.disclosure import has_own_words
from segexport.errors import (
    AccessFault,
    AccessRefused,
    BodyTooLarge,
    BodyTooLate,
    DatasetError,
    DependencyFailed,
    EngineError,
    IllegalTransition,
    InvalidRequest,
    JobNotFound,
    KeysError,
    Problem,
    ProfileStoreError,
    ProviderUnreachable,
    RequestConflict,
    SegexportError,
    StoreError,
    SystemRefused,
    TooManyRequests,
)
from segexport.faults import translated
from segexport.http.queries import problems_of

log: Final = structlog.stdlib.get_logger(__name__)

LATER: Final = 5
"""Seconds after which a client may try again what was not available."""

STATUS_OF_FAULT: Final[Mapping[AccessFault, HTTPStatus]] = MappingProxyType(
    {
        AccessFault.TOKEN_INVALID: HTTPStatus.UNAUTHORIZED,
        AccessFault.HEADER_REPEATED: HTTPStatus.BAD_REQUEST,
        AccessFault.ORGANIZATION_MISSING: HTTPStatus.BAD_REQUEST,
        AccessFault.SANDBOX_MISSING: HTTPStatus.BAD_REQUEST,
    }
)
"""The others are 403: so says Experience Platform's gateway, in the first digits of its codes."""

_STATUS: Final[Mapping[type[SegexportError], HTTPStatus]] = MappingProxyType(
    {
        InvalidRequest: HTTPStatus.BAD_REQUEST,
        JobNotFound: HTTPStatus.NOT_FOUND,
        BodyTooLate: HTTPStatus.REQUEST_TIMEOUT,
        RequestConflict: HTTPStatus.CONFLICT,
        IllegalTransition: HTTPStatus.CONFLICT,
        BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        TooManyRequests: HTTPStatus.TOO_MANY_REQUESTS,
        DatasetError: HTTPStatus.SERVICE_UNAVAILABLE,
        DependencyFailed: HTTPStatus.SERVICE_UNAVAILABLE,
        EngineError: HTTPStatus.SERVICE_UNAVAILABLE,
        KeysError: HTTPStatus.SERVICE_UNAVAILABLE,
        ProfileStoreError: HTTPStatus.SERVICE_UNAVAILABLE,
        ProviderUnreachable: HTTPStatus.SERVICE_UNAVAILABLE,
        StoreError: HTTPStatus.SERVICE_UNAVAILABLE,
        SystemRefused: HTTPStatus.SERVICE_UNAVAILABLE,
    }
)
"""What a client is to blame for, and what may be mended while it waits. The rest are mistakes of
segexport's (500)."""
_HANDLED: Final = (
    SegexportError,
    RequestValidationError,
    HTTPException,
    ClientDisconnect,
    Exception,
)
_UNSAID: Final = "something went wrong here; the log has it, under the id of the request"
_NO_PART: Final = "this part of segexport is not available at the moment; try again later"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An answer that is none: its HTTP status, a stable code for machines, and words.

    `problems` are those of the request, each with its path. `headers` go with every form of
    the answer.
    """

    status: HTTPStatus
    code: str
    message: str
    problems: tuple[Problem, ...] = ()
    fault: AccessFault | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def answering_refusals(app: FastAPI, answer: Callable[[Refusal, Request], Response]) -> None:
    """Make `app` answer every error as a refusal, in its own form."""

    async def handle(request: Request, error: Exception) -> Response:
        refusal = refusal_of(error)
        if refusal.status is HTTPStatus.METHOD_NOT_ALLOWED:
            allow = {"Allow": ", ".join(_methods(app, request))}
            if request.method == "OPTIONS":
                return Response(status_code=HTTPStatus.NO_CONTENT, headers=allow)
            refusal = replace(refusal, headers=allow)
        return answer(refusal, request)

    for kind in _HANDLED:
        app.add_exception_handler(kind, handle)


def _methods(app: FastAPI, request: Request) -> Sequence[str]:
    """What is allowed where a request went: it may be on several routes."""
    path = get_route_path(request.scope)
    return sorted(
        {"OPTIONS"}.union(
            *(
                route.methods or ()
                for route in app.routes
                if isinstance(route, APIRoute) and route.path_regex.match(path)
            )
        )
    )


def refusal_of(error: Exception) -> Refusal:
    """The refusal that an exception means; what nobody has foreseen is logged, and not told."""
    match error:
        case RequestValidationError():
            problems = problems_of(error)
            return Refusal(
                status=HTTPStatus.BAD_REQUEST,
                code=InvalidRequest.code,
                message="; ".join(map(str, problems)),
                problems=problems,
            )
        case ClientDisconnect():
            # Nobody is there to read it.
            return Refusal(
                status=HTTPStatus.REQUEST_TIMEOUT, code="http.gone", message="the caller has gone"
            )
        case HTTPException():
            status = HTTPStatus(error.status_code)
            return Refusal(
                status=status,
                code=f"http.{status.phrase.lower().replace(' ', '_')}",
                message=_words(status),
                headers=error.headers or {},
            )
    match translated(error):
        case AccessRefused() as refused:
            return _of_access(refused)
        case SegexportError() as explained:
            return _explained(explained)
        case None:
            log.error("a request has failed", exc_info=error)
            return _unexplained("http.internal")


def _of_access(error: AccessRefused) -> Refusal:
    status = STATUS_OF_FAULT.get(error.fault, HTTPStatus.FORBIDDEN)
    headers = {"WWW-Authenticate": "Bearer"} if status is HTTPStatus.UNAUTHORIZED else {}
    return Refusal(
        status=status,
        code=f"{error.code}.{error.fault}",
        message=str(error),
        fault=error.fault,
        headers=headers,
    )


def _explained(error: SegexportError) -> Refusal:
    status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), None)
    if status is None:
        log.error("a request has failed", error=str(error), exc_info=error)
        return _unexplained(error.code)
    problems = error.problems if isinstance(error, InvalidRequest) else ()
    return Refusal(
        status=status,
        code=error.code,
        message=_told(error, status),
        problems=problems,
        headers=_headers(error, status),
    )


def _told(error: SegexportError, status: HTTPStatus) -> str:
    if status is HTTPStatus.SERVICE_UNAVAILABLE or not has_own_words(error):
        log.warning("a request cannot be served", error=str(error))
        return _NO_PART
    return str(error)


def _headers(error: SegexportError, status: HTTPStatus) -> Mapping[str, str]:
    match error:
        case TooManyRequests():
            return {"Retry-After": str(error.retry_after)}
        case BodyTooLarge() | BodyTooLate():
            # The rest of the body is not read, so that nothing else can follow it.
            return {"Connection": "close"}
        case _ if status is HTTPStatus.SERVICE_UNAVAILABLE:
            return {"Retry-After": str(LATER)}
        case _:
            return {}


def _unexplained(code: str) -> Refusal:
    return Refusal(status=HTTPStatus.INTERNAL_SERVER_ERROR, code=code, message=_UNSAID)


def _words(status: HTTPStatus) -> str:
    match status:
        case HTTPStatus.NOT_FOUND:
            return "there is nothing at this address"
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return "this method is not allowed here"
        case _:
            return status.phrase.lower()
