"""How Pinpoint's interface is described: paths, limits, OpenAPI, examples."""

from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from segexport.http import openapi
from segexport.http.pinpoint_job import ExportJobRequest, ExportJobResponse, ExportJobsResponse

BASE: Final = "/v1"
JOBS: Final = "/apps/{application_id}/jobs/export"
JOBS_OF_SEGMENT: Final = "/apps/{application_id}/segments/{segment_id}/jobs/export"
MAX_PAGE: Final = 200
APPLICATION_WORDS: Final = "The application, as the settings name it."
JOB_WORDS: Final = "The job."
SEGMENT_WORDS: Final = "The segment."
PAGE_SIZE_WORDS: Final = "How many jobs a page has."
NEXT_WORDS: Final = "The `NextToken` of the page before."
METHODS: Final = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"]


class PinpointError(BaseModel):
    """What went wrong. The header `x-amzn-ErrorType` names the exception."""

    model_config = ConfigDict(populate_by_name=True)

    message: str = Field(alias="Message")
    request_id: str = Field(alias="RequestID")


_REQUEST: Final = {
    "RoleArn": "arn:aws:iam::111122223333:role/exports",
    "S3UrlPrefix": "s3://exports/spring/",
    "SegmentId": "52c26d0d-45f2-47a2-ab30-ed06abc981ff",
    "SegmentVersion": 3,
}
_NEW: Final = {
    "ApplicationId": "810c7aab86d42fb2b56c8c966example",
    "CreationDate": "2026-01-01T00:00:00.000Z",
    "Definition": _REQUEST,
    "Id": "4711081512342323",
    "JobStatus": "CREATED",
    "Type": "EXPORT",
}
_DONE: Final = {
    **_NEW,
    "CompletedPieces": 4,
    "CompletionDate": "2026-01-01T00:00:10.000Z",
    "FailedPieces": 0,
    "JobStatus": "COMPLETED",
    "TotalFailures": 0,
    "TotalPieces": 4,
    "TotalProcessed": 39,
}


def _refused(description: str, message: str, **headers: str) -> dict[str, Any]:
    return openapi.answer(
        description,
        PinpointError,
        {"Message": message, "RequestID": "3f2c7f0e4c1d4e5c9d6b0a1f2e3d4c5b"},
        x_amzn_ErrorType="The name of the exception.",
        **headers,
    )


_ALWAYS: Final[dict[int | str, dict[str, Any]]] = {
    400: _refused("BadRequestException", "S3UrlPrefix: is required"),
    403: _refused(
        "ForbiddenException. RequestTimeTooSkewed: the clocks differ by more than five minutes. "
        "ExpiredTokenException: the temporary credentials have ended.",
        "the signature does not match",
    ),
    404: _refused("NotFoundException", "there is no job 4711"),
    429: _refused(
        "TooManyRequestsException",
        "too many requests of this organization; try again in 1 s",
        Retry_After="Seconds until it is worth another try.",
    ),
    503: _refused(
        "InternalServerErrorException",
        "this part of segexport is not available at the moment; try again later",
        Retry_After="Seconds until it is worth another try.",
    ),
}


def _operation(
    name: str, responses: dict[int | str, dict[str, Any]], **more: Any
) -> dict[str, Any]:
    return {
        "operation_id": name,
        "summary": name,
        "response_model": None,
        "responses": {**responses, **_ALWAYS},
        "openapi_extra": more,
    }


_LINKS: Final = {
    "show": {
        "operationId": "GetExportJob",
        "parameters": {
            "application_id": "$response.body#/ApplicationId",
            "job_id": "$response.body#/Id",
        },
    }
}
_INVOCATION_ID: Final = openapi.parameter(
    "amz-sdk-invocation-id",
    "header",
    "Makes the creation repeatable: within 24 hours, the same id with the same body answers with "
    "the same job. AWS's clients send it by themselves. One that is not 1 to 128 printable ASCII "
    "characters is not heeded.",
)

CREATE: Final = _operation(
    "CreateExportJob",
    {
        202: openapi.linked(openapi.answer("The job.", ExportJobResponse, _NEW), _LINKS),
        408: _refused("BadRequestException", "the body did not arrive in time"),
        413: _refused("PayloadTooLargeException", "the body is too large"),
    },
    parameters=[_INVOCATION_ID],
    **openapi.body(ExportJobRequest, {"a segment": _REQUEST}),
) | {"status_code": 202}
GET: Final = _operation(
    "GetExportJob", {200: openapi.answer("The job as it stands.", ExportJobResponse, _DONE)}
)
LIST: Final = _operation(
    "GetExportJobs",
    {200: openapi.answer("A page of jobs, newest first.", ExportJobsResponse, {"Item": [_DONE]})},
)
LIST_OF_SEGMENT: Final = _operation(
    "GetSegmentExportJobs",
    {
        200: openapi.answer(
            "A page of the jobs that name a segment, newest first.",
            ExportJobsResponse,
            {"Item": [_DONE]},
        )
    },
)

_SECURITY: Final = {
    "sigv4": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": (
            "AWS Signature Version 4, service `mobiletargeting`; with temporary credentials their "
            "session token in `X-Amz-Security-Token`."
        ),
        "x-amazon-apigateway-authtype": "awsSigv4",
    }
}


def described(app: FastAPI) -> FastAPI:
    """The same app, with its OpenAPI document finished."""
    openapi.describe(
        app,
        title="Pinpoint export jobs",
        words="Audience export jobs, as the API of Amazon Pinpoint has them.",
        base=BASE,
        models=(ExportJobRequest,),
        security=_SECURITY,
        required=tuple(_SECURITY),
    )
    return app
