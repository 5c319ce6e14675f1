"""How Experience Platform's interface is described: paths, limits, OpenAPI, examples."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from segexport.http import openapi, places
from segexport.http.auth import ORGANIZATION, SANDBOX
from segexport.http.experience_platform_job import PlatformJob, PlatformJobs
from segexport.jobs.request import ExportRequest

BASE: Final = "/data/core/ups"
JOBS: Final = "/export/jobs"
MAX_LIMIT: Final = 1000
OFFSET: Final = f"^({places.PLACE})?$"
JOB_ID: Final = f"^{places.JOB_ID}$"
ID_WORDS: Final = "The job."
LIMIT_WORDS: Final = "How many jobs a page has."
OFFSET_WORDS: Final = "Where the page begins, as `link.next` of the page before has it."
STATUS_WORDS: Final = "Only jobs of this status."

CANCELLING: Final = "Export job has been marked for cancelling"
ENDED: Final = "Export job had ended already; nothing was changed"


class Cancelled(BaseModel):
    """What came of a cancel."""

    status: bool
    message: str


class GatewayError(BaseModel):
    """Whoever asks may not come in."""

    error_code: str
    message: str


class ServiceErrorEntry(BaseModel):
    """One thing that is wrong; `path` says where in the request."""

    code: str
    message: str
    path: str | None = None


class ServiceError(BaseModel):
    """What was asked for cannot be done; the entries stand under the HTTP status."""

    model_config = ConfigDict(populate_by_name=True)

    request_id: str = Field(alias="requestId")
    errors: dict[str, list[ServiceErrorEntry]]
    type: str
    title: str
    status: int


SEGMENT: Final = "52c26d0d-45f2-47a2-ab30-ed06abc981ff"
_REQUEST: Final[Mapping[str, Any]] = {
    "fields": "identities.id,personalEmail.address",
    "mergePolicy": {"id": "timestampOrdered-none-mp", "version": 1},
    "filter": {
        "segments": [
            {
                "segmentId": SEGMENT,
                "segmentNs": "ups",
                "status": ["realized"],
            }
        ],
        "fromIngestTimestamp": "2026-01-01T00:00:00Z",
    },
    "destination": {"datasetId": "5b7c86968f7b6501e21ba9df", "segmentPerBatch": False},
    "schema": {"name": "_xdm.context.profile"},
    "evaluationInfo": {"segmentation": False},
}
_FOR_A_JOURNEY: Final[Mapping[str, Any]] = {
    **_REQUEST,
    "journey": {
        "versionId": "f3485959-0a9e-4004-82d9-f11bd6c4585b",
        "namespace": "Email",
        "testMode": False,
        "id": "fc0b645e-b3e3-4441-99e1-faf3f9c7064f",
        "name": "Spring sale",
    },
}
_NEW: Final[Mapping[str, Any]] = {
    "id": 4711081512342323,
    "jobType": "BATCH",
    "destination": {"datasetId": "5b7c86968f7b6501e21ba9df", "segmentPerBatch": False},
    "fields": "identities.id,personalEmail.address",
    "schema": {"name": "_xdm.context.profile"},
    "imsOrgId": "1BD6382559DF0C130A49422D@AdobeOrg",
    "status": "NEW",
    "filter": _REQUEST["filter"],
    "mergePolicy": _REQUEST["mergePolicy"],
    "profileInstanceId": "ups",
    "metrics": {"totalTime": {"startTimeInMs": 1767225600000}},
    "computeGatewayJobId": {"exportJob": ""},
    "creationTime": 1767225600000,
    "updateTime": 1767225600000,
    "requestId": "nightly-2026-01-01",
}
_DONE: Final[Mapping[str, Any]] = {
    **_NEW,
    "destination": {
        **_NEW["destination"],
        "batchId": "da5cfb4de32c4b93a09f7e37fa53ad52",
    },
    "status": "SUCCEEDED",
    "metrics": {
        "totalTime": {
            "startTimeInMs": 1767225600000,
            "endTimeInMs": 1767225610000,
            "totalTimeInMs": 10000,
        },
        "profileExportTime": {
            "startTimeInMs": 1767225601000,
            "endTimeInMs": 1767225610000,
            "totalTimeInMs": 9000,
        },
        "totalExportedProfileCounter": 20,
        "exportedProfileByNamespaceCounter": {"Email": 19, "ECID": 20},
    },
    "computeGatewayJobId": {"exportJob": "f3058161-7349-4ca9-807d-212cee2c2e94"},
    "updateTime": 1767225610000,
}
_PAGE: Final = {
    "records": [_DONE],
    "page": {
        "sortField": "createdTime",
        "sort": "desc",
        "pageOffset": "1767225600000_0",
        "pageSize": 1,
    },
    "link": {"next": "/export/jobs/?limit=1&offset=1767225600000_4711081512342323"},
}


def _service_error(status: int, title: str, code: str, message: str, **more: str) -> dict[str, Any]:
    return {
        "requestId": "nightly-2026-01-01",
        "errors": {
            str(status): [{"code": f"UPAPI-{code}-{status}", "message": message, **more}],
        },
        "type": "urn:segexport:error",
        "title": title,
        "status": status,
    }


_REFUSED: Final[dict[int | str, dict[str, Any]]] = {
    401: openapi.answer(
        "The token is not valid.",
        GatewayError,
        {"error_code": "401013", "message": "Oauth token is not valid"},
        WWW_Authenticate="Bearer.",
    ),
    403: openapi.answer(
        "Token or API key are missing, or the key may not act here.",
        GatewayError,
        {"error_code": "403010", "message": "Oauth token is missing."},
    ),
    429: openapi.answer(
        "The organization has used up its rate.",
        ServiceError,
        _service_error(429, "Too Many Requests", "100301", "try again in 1 s"),
        Retry_After="Seconds until it is worth another try.",
    ),
    503: openapi.answer(
        "Something that is needed is not available.",
        ServiceError,
        _service_error(503, "Service Unavailable", "100000", "try again later"),
        Retry_After="Seconds until it is worth another try.",
    ),
}


def _wrong(message: str, path: str) -> dict[int | str, dict[str, Any]]:
    """A 400 of the service; a missing header has the gateway's form."""
    told = openapi.answer(
        "Something in the request is wrong: everything that is, with its path.",
        ServiceError,
        _service_error(400, "Bad Request", "100101", message, path=path),
    )
    told["model"] = ServiceError | GatewayError
    return {400: told}


_MISSING: Final[dict[int | str, dict[str, Any]]] = {
    404: openapi.answer(
        "There is no such job for this organization and sandbox.",
        ServiceError,
        _service_error(404, "Not Found", "100201", "there is no job 4711"),
    )
}
_HEADERS: Final = [
    openapi.parameter(name, "header", words, required=True, minLength=1)
    for name, words in ((ORGANIZATION, "The organization."), (SANDBOX, "The sandbox."))
]
_REQUEST_ID: Final = openapi.parameter(
    "x-request-id",
    "header",
    "Makes the creation repeatable: within 24 hours, the same id with the same body answers with "
    "the same job; with another body it is a conflict. Without it, every call creates a job.",
    minLength=1,
    maxLength=128,
    pattern="^[!-~]+$",
)
_JOB: Final = {"parameters": {"id": "$response.body#/id"}}
_LINKS: Final = {
    "show": {"operationId": "getExportJob", **_JOB},
    "cancel": {"operationId": "cancelExportJob", **_JOB},
}


def _operation(
    operation_id: str,
    summary: str,
    responses: dict[int | str, dict[str, Any]],
    *,
    parameters: tuple[Mapping[str, Any], ...] = (),
    **more: Any,
) -> dict[str, Any]:
    return {
        "operation_id": operation_id,
        "summary": summary,
        "response_model": None,
        "responses": {**responses, **_REFUSED},
        "openapi_extra": {"parameters": [*_HEADERS, *parameters], **more},
    }


CREATE: Final = _operation(
    "createExportJob",
    "Create an export job",
    {
        200: openapi.linked(
            openapi.answer(
                "The job, new; or as it stands, where its request id is known.",
                PlatformJob,
                _NEW,
                X_Location="Where the job is.",
            ),
            _LINKS,
        ),
        409: openapi.answer(
            "The request id was used before, with another body.",
            ServiceError,
            _service_error(409, "Conflict", "100102", "request id 'nightly' was used for job 4711"),
        ),
        408: openapi.answer(
            "The body did not arrive in time.",
            ServiceError,
            _service_error(408, "Request Timeout", "100000", "the body did not arrive in time"),
        ),
        413: openapi.answer(
            "The body is too large.",
            ServiceError,
            _service_error(413, "Content Too Large", "100000", "the body is too large"),
        ),
        415: openapi.answer(
            "The body is not said to be JSON.",
            ServiceError,
            _service_error(415, "Unsupported Media Type", "100000", "unsupported media type"),
        ),
        **_wrong("is required", "destination.datasetId"),
    },
    parameters=(_REQUEST_ID,),
    **openapi.body(ExportRequest, {"a segment": _REQUEST, "for a journey": _FOR_A_JOURNEY}),
)
LIST: Final = _operation(
    "listExportJobs",
    "List export jobs, newest first",
    {
        200: openapi.answer("A page of jobs.", PlatformJobs, _PAGE),
        **_wrong("must be <creationTime in ms>_<job id>, as link.next has it", "offset"),
    },
)
GET: Final = _operation(
    "getExportJob",
    "Show an export job",
    {
        200: openapi.answer("The job as it stands.", PlatformJob, _DONE),
        **_wrong("", ""),
        **_MISSING,
    },
)
CANCEL: Final = _operation(
    "cancelExportJob",
    "Cancel an export job",
    {
        200: openapi.answer(
            "The job will stop; or it has ended already, and nothing was changed.",
            Cancelled,
            {"status": True, "message": CANCELLING},
        ),
        409: openapi.answer(
            "The job is being published, or fails: it can no longer be cancelled.",
            ServiceError,
            _service_error(409, "Conflict", "100203", "the job is being published"),
        ),
        **_wrong("", ""),
        **_MISSING,
    },
)


def described(app: FastAPI) -> FastAPI:
    """The same app, with its OpenAPI document finished."""
    openapi.describe(
        app,
        title="Experience Platform export jobs",
        words="Audience export jobs, as the Segmentation API of Experience Platform has them.",
        base=BASE,
        models=(ExportRequest,),
        security=openapi.TOKEN_AND_KEY,
        required=tuple(openapi.TOKEN_AND_KEY),
    )
    return app
