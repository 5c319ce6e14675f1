"""Amazon Pinpoint's export jobs, below `/v1/apps/{application-id}`."""

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, Field, model_validator
from starlette.exceptions import HTTPException

from segexport.commands import Commands
from segexport.errors import AccessFault, InvalidRequest, Problem
from segexport.http import pinpoint_api as api
from segexport.http.auth import Caller, Gate
from segexport.http.bodies import drafted, read_json
from segexport.http.limits import usable_request_id
from segexport.http.pinpoint_job import (
    ExportJobRequest,
    export_job,
    in_json,
    jobs_page,
    platform_request,
)
from segexport.http.places import job_number, place_named, place_of
from segexport.http.problems import Refusal, answering_refusals
from segexport.http.queries import require_known_query, whole
from segexport.http.replay import Calls
from segexport.http.sigv4 import EXPIRED, SKEWED, SignedRequest
from segexport.http.target import TEXT
from segexport.http.wiring import TheCommands, add_operation, gate_of, new_app, wired
from segexport.jobs.job import Job, Scope
from segexport.jobs.reading import draft_request

INVOCATION_ID: Final = "amz-sdk-invocation-id"
"""AWS's clients keep it while they repeat a call of their own accord."""

ERROR_TYPES: Final[Mapping[HTTPStatus, str]] = MappingProxyType(
    {
        HTTPStatus.FORBIDDEN: "ForbiddenException",
        HTTPStatus.NOT_FOUND: "NotFoundException",
        HTTPStatus.METHOD_NOT_ALLOWED: "MethodNotAllowedException",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "PayloadTooLargeException",
        HTTPStatus.TOO_MANY_REQUESTS: "TooManyRequestsException",
    }
)
"""Pinpoint's exceptions; other client errors are BadRequestException, the rest
InternalServerErrorException."""

ERROR_TYPES_OF_FAULT: Final[Mapping[AccessFault, str]] = MappingProxyType(
    {AccessFault.CLOCK_SKEWED: SKEWED, AccessFault.SESSION_EXPIRED: EXPIRED}
)
"""What AWS in front of its services answers, upon which clients mend something by themselves."""

_SERVER_ERRORS: Final = HTTPStatus.INTERNAL_SERVER_ERROR
_SIGNATURE: Final = re.compile(r"Signature=([0-9a-f]{64})")
_NAMES: Final = {
    "pinpoint.roleArn": "RoleArn",
    "pinpoint.s3UrlPrefix": "S3UrlPrefix",
    "pinpoint.segmentId": "SegmentId",
    "pinpoint.segmentVersion": "SegmentVersion",
    "filter.segments.0.segmentId": "SegmentId",
}
"""Where a problem of the platform's request stands in Pinpoint's."""
_PATHS: Final = {name: path for path, name in _NAMES.items()}


def _place(token: str) -> tuple[int, int] | None:
    try:
        return place_named(base64.urlsafe_b64decode(token.encode()).decode())
    except (binascii.Error, ValueError):
        return None


def _token(token: str | None) -> str | None:
    if token is not None and _place(token) is None:
        raise ValueError("is none that a list has given; begin again without one")
    return token


class Paging(BaseModel):
    """Which part of a list is wanted: so many, after those that a token stands for."""

    page_size: Annotated[
        int,
        Field(alias="page-size", ge=1, le=api.MAX_PAGE, description=api.PAGE_SIZE_WORDS),
        whole(1, api.MAX_PAGE),
    ] = api.MAX_PAGE
    token: Annotated[str | None, Field(description=api.NEXT_WORDS), AfterValidator(_token)] = None

    @model_validator(mode="before")
    @classmethod
    def _empty_is_left_out(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        # AWS's clients send what they are given, also where that is an empty text.
        return {name: value for name, value in given.items() if value != ""}


async def _signer(request: Request) -> Caller:
    application_id = request.path_params["application_id"]
    caller = gate_of(request).signed(await _signed(request, has_ids=True), application_id)
    require_known_query(request)
    return caller


Signer = Annotated[Caller, Depends(_signer)]
ApplicationId = Annotated[str, Path(description=api.APPLICATION_WORDS)]


def pinpoint_app(commands: Commands, gate: Gate) -> FastAPI:
    """The interface, to be mounted at `api.BASE`."""
    app = new_app()
    answering_refusals(app, _answer)
    for path, method, endpoint, described in (
        (api.JOBS, "POST", _create, api.CREATE),
        (api.JOBS, "GET", _list, api.LIST),
        (f"{api.JOBS}/{{job_id}}", "GET", _get, api.GET),
        (api.JOBS_OF_SEGMENT, "GET", _list_of_segment, api.LIST_OF_SEGMENT),
    ):
        add_operation(app, path, method, endpoint, described)
    app.add_route("/{rest:path}", _another, methods=api.METHODS, include_in_schema=False)
    app.state.calls = Calls()
    return wired(api.described(app), commands, gate)


async def _create(
    request: Request, application_id: ApplicationId, caller: Signer, commands: TheCommands
) -> Response:
    asked = await drafted(ExportJobRequest, await read_json(request))
    document = draft_request(platform_request(asked.legible, application_id))
    try:
        submission = await commands.submit(
            caller.scope,
            document.legible,
            request_id=_invocation(request, caller),
            problems=[*map(_in_platforms_words, asked.problems), *document.problems],
        )
    except InvalidRequest as error:
        problems = dict.fromkeys(map(_in_pinpoints_words, error.problems))
        raise InvalidRequest(list(problems)) from error
    status = await commands.answered(submission)
    return _json(in_json(export_job(status, application_id)), HTTPStatus.ACCEPTED)


async def _get(
    application_id: ApplicationId,
    job_id: Annotated[str, Path(description=api.JOB_WORDS)],
    caller: Signer,
    commands: TheCommands,
) -> Response:
    status = await commands.status(caller.scope, job_number(job_id))
    return _json(in_json(export_job(status, application_id)))


async def _list(
    application_id: ApplicationId,
    caller: Signer,
    commands: TheCommands,
    paging: Annotated[Paging, Query()],
) -> Response:
    return await _page(application_id, caller, commands, paging)


async def _list_of_segment(
    application_id: ApplicationId,
    segment_id: Annotated[str, Path(description=api.SEGMENT_WORDS), TEXT],
    caller: Signer,
    commands: TheCommands,
    paging: Annotated[Paging, Query()],
) -> Response:
    return await _page(application_id, caller, commands, paging, segment_id)


async def _page(
    application_id: str,
    caller: Caller,
    commands: Commands,
    paging: Paging,
    segment_id: str | None = None,
) -> Response:
    found = await commands.statuses(
        caller.scope,
        segment=segment_id,
        before=await _before(commands, caller.scope, paging.token),
        limit=paging.page_size + 1,
    )
    shown = found[: paging.page_size]
    more = _token_of(shown[-1].job) if len(found) > paging.page_size else None
    return _json(in_json(jobs_page(shown, application_id, more)))


async def _another(request: Request) -> Response:
    """Any other operation of Pinpoint's: there are none."""
    gate_of(request).signer(await _signed(request))
    raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED)


async def _signed(request: Request, *, has_ids: bool = False) -> SignedRequest:
    return SignedRequest(
        method=request.method,
        raw_path=request.scope["raw_path"],
        query=request.scope["query_string"],
        headers=request.headers.raw,
        body=await request.body(),
        has_ids=has_ids,
    )


def _in_platforms_words(problem: Problem) -> Problem:
    return Problem(_PATHS.get(problem.path, problem.path), problem.message)


def _in_pinpoints_words(problem: Problem) -> Problem:
    return Problem(_NAMES.get(problem.path, problem.path), problem.message)


def _invocation(request: Request, caller: Caller) -> str:
    """What makes a creation repeatable: AWS's own id of the call, else its signature.

    A signature stands for the call that it first came with, so a request that somebody has
    recorded and sends again, under whatever id, creates nothing either.
    """
    named = usable_request_id(request.headers, INVOCATION_ID)
    found = _SIGNATURE.search(request.headers.get("authorization", ""))
    signature = found[1] if found else str(request.state.request_id)
    if caller.key is None:  # nobody has verified it
        return named or signature
    calls: Calls = request.app.state.calls
    return calls.of(signature, named or signature)


async def _before(
    commands: Commands, scope: Scope, token: str | None
) -> tuple[datetime, int] | None:
    found = None if token is None else _place(token)
    return None if found is None else await commands.before(scope, *found)


def _token_of(job: Job) -> str:
    return base64.urlsafe_b64encode(place_of(job).encode()).decode()


def _json(content: bytes, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(content, media_type="application/json", status_code=status)


def _answer(refusal: Refusal, request: Request) -> Response:
    """An error in Pinpoint's form; the header is what its clients tell exceptions apart by."""
    status = refusal.status
    if status is HTTPStatus.UNAUTHORIZED:
        status = HTTPStatus.FORBIDDEN  # Pinpoint has no other
    elif status in {HTTPStatus.CONFLICT, HTTPStatus.UNSUPPORTED_MEDIA_TYPE}:
        status = HTTPStatus.BAD_REQUEST
    other = "BadRequestException" if status < _SERVER_ERRORS else "InternalServerErrorException"
    headers = {
        **refusal.headers,
        "x-amzn-ErrorType": _of_fault(refusal) or ERROR_TYPES.get(status, other),
        "x-amzn-RequestId": request.state.request_id,
    }
    content = {"Message": refusal.message, "RequestID": request.state.request_id}
    return JSONResponse(content, status_code=status, headers=headers)


def _of_fault(refusal: Refusal) -> str | None:
    return ERROR_TYPES_OF_FAULT.get(refusal.fault) if refusal.fault else None
