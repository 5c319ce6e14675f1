"""How segexport's own interface is described: paths, limits, OpenAPI, examples."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from segexport.clerk import JobDocument
from segexport.commands import MAX_REASON
from segexport.http import openapi
from segexport.http.auth import ORGANIZATION, SANDBOX
from segexport.http.problem_api import REFUSED, TOO_LARGE, TOO_LATE, problem
from segexport.jobs.lifecycle import STATES as JOB_STATES
from segexport.jobs.request import ExportRequest
from segexport.jobs.values import TEXT

JOBS: Final = "/jobs"
JOB: Final = f"{JOBS}/{{id}}"
CANCELLATION: Final = f"{JOB}/cancel"
RETRY: Final = f"{JOB}/retry"
MAX_LIMIT: Final = 1000
STATES: Final = sorted(
    {name for state, facts in JOB_STATES.items() for name in (state, facts.experience_platform)}
)
"""The words for states, and for the statuses that comprise several."""
MAX_DEADLINE: Final = 10**9
"""Seconds; the setting `exports.deadline` bounds what a job may really take."""


class JobPage(BaseModel):
    """Jobs, newest first. Older ones follow behind `next`, which is absent on the last page."""

    jobs: tuple[JobDocument, ...]
    next: str | None = None


class Cancellation(BaseModel):
    """Why a job is to stop; goes into the job and its last event."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(
        default="cancelled on request", json_schema_extra={"maxLength": MAX_REASON, "pattern": TEXT}
    )


_REQUEST: Final[Mapping[str, Any]] = {
    "fields": "person.name,personalEmail.address",
    "filter": {"segments": [{"segmentId": "loyalty-gold"}]},
    "destination": {"datasetId": "gold-members"},
}
_FOR_A_JOURNEY: Final[Mapping[str, Any]] = {
    **_REQUEST,
    "journey": {
        "versionId": "spring-v3",
        "namespace": "Email",
        "testMode": False,
        "id": "spring",
        "name": "Spring sale",
    },
}
_ACCEPTED: Final[Mapping[str, Any]] = {
    "fields": "person.name,personalEmail.address",
    "mergePolicy": {"id": "timestampOrdered-none-mp", "version": 1},
    "filter": {
        "segments": [{"segmentId": "loyalty-gold", "segmentNs": "ups", "status": ["realized"]}],
        "emptyProfiles": False,
    },
    "additionalFields": {},
    "destination": {"datasetId": "gold-members", "segmentPerBatch": False, "format": "parquet"},
    "schema": {"name": "_xdm.context.profile"},
    "evaluationInfo": {"segmentation": False},
}
_NEW: Final[Mapping[str, Any]] = {
    "id": 4711081512342323,
    "organization": "acme",
    "sandbox": "prod",
    "state": "CREATED",
    "status": "NEW",
    "requestId": "nightly-2026-01-01",
    "createdAt": "2026-01-01T00:00:00.000Z",
    "updatedAt": "2026-01-01T00:00:00.000Z",
    "deadline": "2026-01-01T12:00:00.000Z",
    "attempts": 0,
    "request": _ACCEPTED,
    "progress": 0.0,
    "piecesDone": 0,
    "rows": 0,
    "errors": [],
}
_DONE: Final[Mapping[str, Any]] = {
    **_NEW,
    "state": "COMPLETED",
    "status": "SUCCEEDED",
    "updatedAt": "2026-01-01T00:00:10.000Z",
    "startedAt": "2026-01-01T00:00:01.000Z",
    "finishedAt": "2026-01-01T00:00:10.000Z",
    "attempts": 1,
    "snapshot": "00000007-20251231T230000Z",
    "estimate": 5100,
    "pieces": 4,
    "counts": {"total": 5000, "realized": 5000, "failed": 0},
    "namespaces": {"Email": 4902, "ECID": 5000},
    "batchIds": ["da5cfb4de32c4b93a09f7e37fa53ad52"],
    "progress": 1.0,
    "piecesDone": 4,
    "rows": 5000,
}
_CANCELLED: Final[Mapping[str, Any]] = {
    **_NEW,
    "state": "CANCELLED",
    "status": "FAILED",
    "updatedAt": "2026-01-01T00:00:02.000Z",
    "finishedAt": "2026-01-01T00:00:02.000Z",
    "counts": {"total": 0, "realized": 0, "failed": 0},
    "error": {"kind": "cancelled", "message": "wrong segment"},
    "errors": [{"code": "cancelled", "message": "wrong segment"}],
}


_ALWAYS: Final[Mapping[int | str, dict[str, Any]]] = {
    400: problem(
        400,
        "Bad Request",
        "request.invalid",
        "Something in the request is wrong: everything that is, with its path.",
        "the export request is refused: destination.datasetId: is required",
        {"path": "destination.datasetId", "message": "is required"},
    ),
    **REFUSED,
}
_MISSING: Final = problem(
    404,
    "Not Found",
    "job.not_found",
    "There is no such job for this organization and sandbox.",
    "there is no job 4711 in organization acme, sandbox prod; list the jobs there",
)
_CONFLICT: Final = problem(
    409,
    "Conflict",
    "request.conflict",
    "The request id was used before, with another body.",
    "request id 'nightly' was used for job 4711",
)
_BODY: Final[Mapping[int | str, dict[str, Any]]] = {
    408: TOO_LATE,
    413: TOO_LARGE,
    415: problem(
        415,
        "Unsupported Media Type",
        "http.unsupported_media_type",
        "The body is not said to be JSON.",
        "unsupported media type",
    ),
}
_HEADERS: Final = [
    openapi.parameter(name, "header", words, minLength=1)
    for name, words in (
        (ORGANIZATION, "The organization. Required where keys are."),
        (SANDBOX, "The sandbox. Required where keys are."),
    )
]


def _operation(
    operation_id: str,
    summary: str,
    words: str,
    responses: dict[int | str, dict[str, Any]],
    **more: Any,
) -> dict[str, Any]:
    return {
        "operation_id": operation_id,
        "summary": summary,
        "description": words,
        "tags": ["jobs"],
        "response_model": None,
        "responses": {**responses, **_ALWAYS},
        "openapi_extra": {
            "parameters": _HEADERS,
            "security": [{"token": [], "key": []}],
            **more,
        },
    }


def _new(status: str) -> dict[str, Any]:
    return openapi.answer(f"The job, {status}.", JobDocument, _NEW, Location="Where the job is.")


LIST: Final = _operation(
    "listJobs",
    "List jobs, newest first",
    "`state` is a status (NEW, PROCESSING, SUCCEEDED, FAILED) or a state's own name, such as "
    "CANCELLED, and may be repeated. `before` is the `next` of the page before.",
    {
        200: openapi.answer(
            "A page of jobs.", JobPage, {"jobs": [_DONE], "next": "1767225600000_4711081512342323"}
        )
    },
)
SUBMIT: Final = _operation(
    "submitJob",
    "Submit an export request",
    "`requestId`, or else the header `x-request-id`, makes it repeatable: within 24 hours, the "
    "same id with the same body answers with the same job. `deadline` is in seconds.",
    {
        200: _new("as it stands: its request id is known"),
        201: _new("which is new"),
        409: _CONFLICT,
        **_BODY,
    },
    **openapi.body(ExportRequest, {"a segment": _REQUEST, "for a journey": _FOR_A_JOURNEY}),
)
GET: Final = _operation(
    "getJob",
    "Show a job",
    "The job as it stands, and how far it is.",
    {200: openapi.answer("The job.", JobDocument, _DONE), 404: _MISSING},
)
CANCEL: Final = _operation(
    "cancelJob",
    "Ask a job to stop",
    "A job that has ended already is left as it is.",
    {
        200: openapi.answer("The job as it then stands.", JobDocument, _CANCELLED),
        404: _MISSING,
        409: problem(
            409,
            "Conflict",
            "job.too_late_to_cancel",
            "The job is being published, or fails: it can no longer be cancelled.",
            "the job is being published and can no longer be cancelled; delete its batch from the "
            "dataset instead",
        ),
        **_BODY,
    },
    requestBody={
        **openapi.body(Cancellation, {"a reason": {"reason": "wrong segment"}})["requestBody"],
        "required": False,
    },
)
AGAIN: Final = _operation(
    "retryJob",
    "Submit the request of an earlier job again",
    "As a new job, which names the old one. `requestId`, or else the header `x-request-id`, makes "
    "it repeatable.",
    {
        200: _new("as it stands: its request id is known"),
        201: _new("which is new"),
        404: _MISSING,
        409: _CONFLICT,
    },
)

MODELS: Final = (ExportRequest, Cancellation)
"""The models of the bodies."""
