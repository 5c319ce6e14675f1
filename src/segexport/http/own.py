"""segexport's own `/jobs`: everything that the command line can ask, in its own words."""

from collections.abc import Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Path, Query, Request, Response
from pydantic import AfterValidator

from segexport.clerk import JobDocument, LocalClerk, Submitted
from segexport.errors import InvalidRequest
from segexport.http import own_api as api
from segexport.http.bodies import drafted, read_json, read_request
from segexport.http.places import JOB_ID, PLACE, job_number, place_in, place_named, place_of
from segexport.http.queries import whole
from segexport.http.wiring import (
    Bearer,
    TheCommands,
    add_operation,
    request_id_of,
    request_id_problems,
)
from segexport.jobs.lifecycle import states_named
from segexport.jobs.values import MAX_NAME

JobId = Annotated[
    str, Path(alias="id", description="The job.", json_schema_extra={"pattern": f"^{JOB_ID}$"})
]
RequestId = Annotated[
    str | None,
    Query(
        alias="requestId",
        description="Makes the creation repeatable: 1 to 128 printable characters.",
        json_schema_extra={"minLength": 1, "maxLength": MAX_NAME},
    ),
]


def _known_states(names: Sequence[str]) -> Sequence[str]:
    strange = [repr(name[:32]) for name in names if not states_named(name)]
    if strange:
        raise ValueError(f"{', '.join(strange)}: neither a status nor a state")
    return names


def _place(text: str) -> str:
    if place_named(text) is None:
        raise ValueError("must be what a page had as next")
    return text


def serve_jobs(app: FastAPI) -> None:
    """Have the app answer at `api.JOBS`, and below."""
    for path, method, endpoint, described in (
        (api.JOBS, "GET", _list, api.LIST),
        (api.JOBS, "POST", _submit, api.SUBMIT),
        (api.JOB, "GET", _get, api.GET),
        (api.CANCELLATION, "POST", _cancel, api.CANCEL),
        (api.RETRY, "POST", _retry, api.AGAIN),
    ):
        add_operation(app, path, method, endpoint, described)


async def _list(
    caller: Bearer,
    commands: TheCommands,
    state: Annotated[
        Sequence[str],
        Query(
            description="Only jobs of these statuses and states.",
            json_schema_extra={"items": {"type": "string", "enum": api.STATES}},
        ),
        AfterValidator(_known_states),
    ] = (),
    limit: Annotated[
        int,
        Query(ge=1, le=api.MAX_LIMIT, description="How many jobs a page has."),
        whole(1, api.MAX_LIMIT),
    ] = 100,
    before: Annotated[
        str | None,
        Query(
            description="The `next` of the page before.",
            json_schema_extra={"pattern": f"^{PLACE}$"},
        ),
        AfterValidator(_place),
    ] = None,
) -> Response:
    found = await commands.statuses(
        caller.scope,
        states={one for name in state for one in states_named(name)} if state else None,
        before=await commands.before(caller.scope, *place_in(before)) if before else None,
        limit=limit + 1,
    )
    shown = found[:limit]
    page: dict[str, Any] = {"jobs": [JobDocument.of(status).document() for status in shown]}
    if len(found) > limit:
        page["next"] = place_of(shown[-1].job)
    return _json(page)


async def _submit(
    request: Request,
    caller: Bearer,
    commands: TheCommands,
    request_id: RequestId = None,
    deadline: Annotated[
        float | None,
        Query(ge=1, le=api.MAX_DEADLINE, description="Seconds in which the job has to end."),
    ] = None,
) -> Response:
    asked = await read_request(request)
    header = request_id_problems(request) if request_id is None else ()
    return _new(
        await LocalClerk(commands, caller.scope).submit(
            asked.legible,
            request_id=request_id_of(request) if request_id is None else request_id,
            deadline=timedelta(seconds=deadline) if deadline is not None else None,
            problems=[*asked.problems, *header],
        )
    )


async def _get(job_id: JobId, caller: Bearer, commands: TheCommands) -> Response:
    clerk = LocalClerk(commands, caller.scope)
    return _json((await clerk.status(job_number(job_id))).document())


async def _cancel(
    request: Request, job_id: JobId, caller: Bearer, commands: TheCommands
) -> Response:
    clerk = LocalClerk(commands, caller.scope)
    job = await clerk.cancel(job_number(job_id), reason=await _reason(await read_json(request)))
    return _json(job.document())


async def _retry(
    request: Request,
    job_id: JobId,
    caller: Bearer,
    commands: TheCommands,
    request_id: RequestId = None,
) -> Response:
    if request_id is None and (problems := request_id_problems(request)):
        raise InvalidRequest(problems)
    return _new(
        await LocalClerk(commands, caller.scope).retry(
            job_number(job_id),
            request_id=request_id_of(request) if request_id is None else request_id,
        )
    )


def _new(submitted: Submitted) -> Response:
    status = HTTPStatus.CREATED if submitted.created else HTTPStatus.OK
    answer = _json(submitted.job.document(), status)
    answer.headers["Location"] = f"{api.JOBS}/{submitted.job.id}"
    return answer


def _json(document: Any, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(orjson.dumps(document), status, media_type="application/json")


async def _reason(body: bytes) -> str:
    if not body:
        return api.Cancellation().reason
    return (await drafted(api.Cancellation, body)).whole.reason
