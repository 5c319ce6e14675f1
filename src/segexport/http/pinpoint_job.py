"""An export job as Amazon Pinpoint's API shows it (ExportJobResponse of its API reference)."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_pascal

from segexport.commands import JobStatus
from segexport.jobs.job import Job
from segexport.jobs.lifecycle import STATES
from segexport.jobs.values import Name, RoleArn, S3Prefix, Version

MAX_FAILURES: Final = 100
"""Failures that are shown."""

_STATUSES: Final = sorted({facts.pinpoint for facts in STATES.values()})


class _Shape(BaseModel):
    model_config = ConfigDict(
        frozen=True, alias_generator=to_pascal, validate_by_name=True, extra="forbid"
    )


class ExportJobRequest(_Shape):
    """What CreateExportJob asks for. Without a segment, everybody is exported."""

    role_arn: RoleArn
    s3_url_prefix: S3Prefix = Field(alias="S3UrlPrefix")
    segment_id: Name | None = None
    segment_version: Version | None = None


class ExportJobResource(_Shape):
    """What was asked for. A job that another interface has created has no role and no prefix."""

    role_arn: str
    s3_url_prefix: str = Field(alias="S3UrlPrefix")
    segment_id: str | None = None
    segment_version: int | None = None


class ExportJobResponse(_Shape):
    """A job. What is not known is absent; times are ISO 8601."""

    application_id: str
    completed_pieces: int | None = None
    completion_date: str | None = None
    creation_date: str
    definition: ExportJobResource
    failed_pieces: int | None = None
    failures: tuple[str, ...] | None = None
    id: str
    job_status: Annotated[str, Field(json_schema_extra={"enum": _STATUSES})]
    total_failures: int | None = None
    total_pieces: int | None = None
    total_processed: int | None = None
    type: Literal["EXPORT"] = "EXPORT"


class ExportJobsResponse(_Shape):
    """A page of jobs, newest first; no token with the last one."""

    item: tuple[ExportJobResponse, ...]
    next_token: str | None = None


def export_job(status: JobStatus, application_id: str) -> ExportJobResponse:
    """How a job is shown to who asks about an application."""
    job = status.job
    counts = job.counts
    return ExportJobResponse(
        application_id=application_id,
        completed_pieces=status.pieces_done if job.pieces else None,
        completion_date=_time(job.finished_at) if job.finished_at else None,
        creation_date=_time(job.created_at),
        definition=_definition(job),
        failed_pieces=status.failed_pieces if job.pieces else None,
        failures=tuple(islice(_failures(status), MAX_FAILURES)) or None,
        id=str(job.id),
        job_status=STATES[job.state].pinpoint,
        total_failures=counts.failed if counts else None,
        total_pieces=job.pieces,
        total_processed=_processed(status) if job.started_at else None,
    )


def in_json(shown: ExportJobResponse | ExportJobsResponse) -> bytes:
    """As it goes out."""
    return shown.model_dump_json(by_alias=True, exclude_none=True).encode()


def platform_request(asked: ExportJobRequest, application_id: str) -> dict[str, Any]:
    """The same request in the words of Experience Platform's API, which all jobs have.

    The batch is kept in a dataset that is named like the application.
    """
    pinpoint = {
        "applicationId": application_id,
        "roleArn": asked.role_arn,
        "s3UrlPrefix": asked.s3_url_prefix,
        "segmentId": asked.segment_id,
        "segmentVersion": asked.segment_version,
    }
    segments = [] if asked.segment_id is None else [{"segmentId": asked.segment_id}]
    return {
        "destination": {"datasetId": application_id},
        "filter": {"segments": segments},
        "pinpoint": pinpoint,
    }


def _definition(job: Job) -> ExportJobResource:
    asked, only = job.request.pinpoint, job.request.only_segment
    return ExportJobResource(
        role_arn=asked.role_arn if asked else "",
        s3_url_prefix=asked.s3_url_prefix if asked else "",
        segment_id=only.segment_id if only else None,
        segment_version=asked.segment_version if asked else None,
    )


def _processed(status: JobStatus) -> int:
    """Endpoint definitions; of a job that another interface has created, profiles."""
    return status.endpoints if status.job.request.pinpoint else status.exported


def _failures(status: JobStatus) -> Iterator[str]:
    if status.job.fault is not None:
        yield status.job.fault.message
    for failure in status.failures:
        yield f"piece {failure.piece}, try {failure.attempt}: {failure.message}"


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def jobs_page(
    found: Sequence[JobStatus], application_id: str, next_token: str | None
) -> ExportJobsResponse:
    """A page of a list."""
    return ExportJobsResponse(
        item=tuple(export_job(one, application_id) for one in found), next_token=next_token
    )
