"""Experience Platform's `/data/core/ups/export/jobs`."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode

from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from segexport.commands import Commands, JobStatus
from segexport.errors import AccessFault
from segexport.events.record import milliseconds
from segexport.http import experience_platform_api as api
from segexport.http.auth import Gate
from segexport.http.bodies import read_request
from segexport.http.experience_platform_job import (
    Link,
    Page,
    PlatformJobs,
    in_json,
    platform_job,
)
from segexport.http.places import job_number, place_in, place_of, placed
from segexport.http.problems import Refusal, answering_refusals
from segexport.http.queries import whole
from segexport.http.wiring import (
    Bearer,
    TheCommands,
    add_operation,
    new_app,
    request_id_of,
    request_id_problems,
    wired,
)
from segexport.jobs.lifecycle import STATES, JobState

GATEWAY_CODES: Final[Mapping[AccessFault, str]] = MappingProxyType(
    {
        AccessFault.TOKEN_MISSING: "403010",
        AccessFault.TOKEN_INVALID: "401013",
        AccessFault.KEY_MISSING: "403000",
        AccessFault.KEY_INVALID: "403003",
        AccessFault.ORGANIZATION_MISSING: "400003",
        # segexport's own: that gateway's codes for these are not documented.
        AccessFault.SANDBOX_MISSING: "400901",
        AccessFault.ORGANIZATION_FOREIGN: "403901",
        AccessFault.SANDBOX_FOREIGN: "403902",
        AccessFault.ORIGIN_FOREIGN: "403903",
        AccessFault.HEADER_REPEATED: "400902",
    }
)
"""What that platform's gateway calls the faults of whoever asks."""

_NUMBERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "request.invalid": "100101",
        "request.conflict": "100102",
        "job.not_found": "100201",
        "job.illegal_transition": "100202",
        "job.too_late_to_cancel": "100203",
        "access.rate": "100301",
    }
)
"""The middle of a service error's code; 100000 for all others."""

JobId = Annotated[
    str,
    Path(alias="id", json_schema_extra={"pattern": api.JOB_ID}, description=api.ID_WORDS),
]


def platform_app(commands: Commands, gate: Gate) -> FastAPI:
    """The interface, to be mounted at `api.BASE`."""
    app = new_app()
    answering_refusals(app, _answer)
    for path, method, endpoint, described in (
        (api.JOBS, "POST", _create, api.CREATE),
        (api.JOBS, "GET", _list, api.LIST),
        (f"{api.JOBS}/{{id}}", "GET", _get, api.GET),
        (f"{api.JOBS}/{{id}}", "DELETE", _cancel, api.CANCEL),
    ):
        add_operation(app, path, method, endpoint, described)
        add_operation(app, f"{path}/", method, endpoint, {"include_in_schema": False})
    return wired(api.described(app), commands, gate)


async def _create(request: Request, caller: Bearer, commands: TheCommands) -> Response:
    asked = await read_request(request)
    submission = await commands.submit(
        caller.scope,
        asked.legible,
        request_id=request_id_of(request),
        problems=[*asked.problems, *request_id_problems(request)],
    )
    where = {"X-Location": f"{api.BASE}{api.JOBS}/{submission.job.id}"}
    return _shown(await commands.answered(submission), commands, where)


async def _list(
    caller: Bearer,
    commands: TheCommands,
    limit: Annotated[
        int,
        Query(ge=1, le=api.MAX_LIMIT, description=api.LIMIT_WORDS),
        whole(1, api.MAX_LIMIT),
    ] = 100,
    offset: Annotated[
        str,
        Query(json_schema_extra={"pattern": api.OFFSET}, description=api.OFFSET_WORDS),
        placed("must be <creationTime in ms>_<job id>, as link.next has it"),
    ] = "",
    status: Annotated[
        Literal["NEW", "SUCCEEDED", "FAILED"] | None, Query(description=api.STATUS_WORDS)
    ] = None,
) -> Response:
    states = [
        state
        for state, facts in STATES.items()
        if status is None or facts.experience_platform == status
    ]
    found = await commands.statuses(
        caller.scope,
        states=states if status else None,
        # A job that waits for another try has started, and is no longer new.
        started=False if status == "NEW" else None,
        before=await commands.before(caller.scope, *place_in(offset)) if offset else None,
        limit=limit + 1,
    )
    page = _page(found, limit, offset, status, commands)
    return Response(in_json(page), media_type="application/json")


async def _get(job_id: JobId, caller: Bearer, commands: TheCommands) -> Response:
    return _shown(await commands.status(caller.scope, job_number(job_id)), commands)


async def _cancel(job_id: JobId, caller: Bearer, commands: TheCommands) -> Response:
    number = job_number(job_id)
    ended = (await commands.store.get(caller.scope, number)).is_terminal
    job = await commands.cancel(caller.scope, number)
    # Meanwhile it may have come to another end.
    ended |= job.is_terminal and job.state is not JobState.CANCELLED
    return JSONResponse({"status": True, "message": api.ENDED if ended else api.CANCELLING})


def _shown(
    status: JobStatus, commands: Commands, headers: Mapping[str, str] = MappingProxyType({})
) -> Response:
    content = in_json(platform_job(status, commands.voice))
    return Response(content, media_type="application/json", headers=dict(headers))


def _page(
    found: Sequence[JobStatus],
    limit: int,
    offset: str,
    status: str | None,
    commands: Commands,
) -> PlatformJobs:
    shown = found[:limit]
    following = ""
    if len(found) > limit:
        query = {"limit": limit, "offset": place_of(shown[-1].job)}
        following = f"{api.JOBS}/?{urlencode(query | ({'status': status} if status else {}))}"
    if not offset:
        # No job, so it is the end of a millisecond: gives this page again, whatever comes later.
        offset = f"{milliseconds(shown[0].job.created_at)}_0" if shown else ""
    return PlatformJobs.model_construct(
        records=tuple(platform_job(one, commands.voice) for one in shown),
        page=Page.model_construct(page_offset=offset, page_size=limit),
        link=Link.model_construct(next=following),
    )


def _answer(refusal: Refusal, request: Request) -> Response:
    """A gateway's answer to whoever may not come in, otherwise the service's own."""
    if refusal.fault is not None:
        content: dict[str, Any] = {
            "error_code": GATEWAY_CODES[refusal.fault],
            "message": refusal.message,
        }
    else:
        content = {
            "requestId": request.state.request_id,
            "errors": {str(refusal.status.value): list(_entries(refusal))},
            "type": f"urn:segexport:{refusal.code}",
            "title": refusal.status.phrase,
            "status": refusal.status.value,
        }
    return JSONResponse(content, status_code=refusal.status, headers=dict(refusal.headers))


def _entries(refusal: Refusal) -> Sequence[Mapping[str, str]]:
    code = f"UPAPI-{_NUMBERS.get(refusal.code, '100000')}-{refusal.status.value}"
    if not refusal.problems:
        return [{"code": code, "message": refusal.message}]
    return [
        {"code": code, "message": problem.message, "path": problem.path}
        for problem in refusal.problems
    ]
