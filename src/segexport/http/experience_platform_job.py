"""An export job as the Experience Platform Segmentation API shows it.

Field by field the shape of that API's documentation ("Segment export jobs endpoint"): ids are
numbers, times are milliseconds since 1970, what is not known is absent. `journey`, `pinpoint`
and `destination.format` are segexport's own and only there where they say something.
"""

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, WrapSerializer
from pydantic.alias_generators import to_camel

from segexport.commands import JobStatus
from segexport.events.announcement import Voice
from segexport.events.record import milliseconds
from segexport.jobs.job import Fault, Job
from segexport.jobs.lifecycle import STATES
from segexport.jobs.request import (
    AdditionalFields,
    EvaluationInfo,
    FileFormat,
    Filter,
    Journey,
    MergePolicy,
    Pinpoint,
    SchemaName,
    SegmentStatus,
)

PROFILE_INSTANCE: Final = "ups"
CODES: Final = {
    "failed": "0100000001",
    "unreachable": "0100000002",
    "deadline": "0100000003",
    "cancelled": "0100000004",
}
"""Ten digits for each kind of fault, as that API has them; the words say the same."""
_NO_FILTER: Final = Filter()
_NO_FIELDS: Final = AdditionalFields()
_STATUSES: Final = sorted({facts.experience_platform for facts in STATES.values()})


class _Shown(BaseModel):
    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, validate_by_name=True, extra="forbid"
    )


def _without_defaults(value: Any, dump: SerializerFunctionWrapHandler) -> Any:
    """An empty list or a false in a filter only repeats what is the case anyway."""
    return {name: part for name, part in dump(value).items() if part}


class ShownBatch(_Shown):
    """The batch of one segment."""

    segment_id: str
    segment_ns: str
    status: tuple[SegmentStatus, ...]
    batch_id: str


class ShownDestination(_Shown):
    """Where the export goes; the batches are known once they are being published."""

    dataset_id: str
    segment_per_batch: bool
    format: FileFormat | None = None
    batch_id: str | None = None
    batches: tuple[ShownBatch, ...] | None = None


class ShownError(_Shown):
    """Why a job has failed."""

    code: str
    msg: str
    call_stack: str


class ShownTime(_Shown):
    """A span of time; while it lasts, only its beginning."""

    start_time_in_ms: int
    end_time_in_ms: int | None = None
    total_time_in_ms: int | None = None


class ShownMetrics(_Shown):
    """How long it takes, and how many profiles are exported: grows while the job runs."""

    total_time: ShownTime
    profile_export_time: ShownTime | None = None
    total_exported_profile_counter: int | None = None
    exported_profile_by_namespace_counter: dict[str, int] | None = None


class ShownCompute(_Shown):
    """The id of the work itself; empty until a worker has taken it up."""

    export_job: str


class PlatformJob(_Shown):
    """An export job."""

    id: int
    job_type: Literal["BATCH"] = "BATCH"
    destination: ShownDestination
    fields: str | None = None
    schema_: SchemaName = Field(alias="schema")
    ims_org_id: str
    status: Annotated[str, Field(json_schema_extra={"enum": _STATUSES})]
    filter: Annotated[Filter, WrapSerializer(_without_defaults)] | None = None
    additional_fields: AdditionalFields | None = None
    merge_policy: MergePolicy | None = None
    evaluation_info: EvaluationInfo | None = None
    journey: Journey | None = None
    pinpoint: Pinpoint | None = None
    profile_instance_id: str = PROFILE_INSTANCE
    errors: tuple[ShownError, ...] | None = None
    metrics: ShownMetrics
    compute_gateway_job_id: ShownCompute
    creation_time: int
    update_time: int
    request_id: str


class Page(_Shown):
    """Where a list stands: `pageOffset` is what gives this page again."""

    sort_field: Literal["createdTime"] = "createdTime"
    sort: Literal["desc"] = "desc"
    page_offset: str
    page_size: int


class Link(_Shown):
    """`next` is relative to the API's base path, and empty at the end."""

    next: str


class PlatformJobs(_Shown):
    """A page of jobs, newest first."""

    records: tuple[PlatformJob, ...]
    page: Page
    link: Link


def platform_job(status: JobStatus, voice: Voice) -> PlatformJob:
    """How a job is shown."""
    job, request = status.job, status.job.request
    return PlatformJob(
        id=job.id,
        destination=_destination(job),
        fields=request.fields or None,
        schema_=request.schema_,
        ims_org_id=job.scope.organization,
        status=job.platform_status,
        filter=None if request.filter == _NO_FILTER else request.filter,
        additional_fields=(
            None if request.additional_fields == _NO_FIELDS else request.additional_fields
        ),
        merge_policy=request.merge_policy,
        evaluation_info=request.evaluation_info if request.evaluation_info.segmentation else None,
        journey=request.journey,
        pinpoint=request.pinpoint,
        errors=_errors(job.fault),
        metrics=_metrics(status),
        compute_gateway_job_id=ShownCompute(export_job=_compute_id(voice.namespace, job)),
        creation_time=milliseconds(job.created_at),
        update_time=milliseconds(job.updated_at),
        request_id=job.request_id,
    )


def in_json(shown: PlatformJob | PlatformJobs) -> bytes:
    """As it goes out."""
    return shown.model_dump_json(by_alias=True, exclude_none=True).encode()


def _destination(job: Job) -> ShownDestination:
    asked = job.request.destination
    own = asked.format if asked.format is not FileFormat.PARQUET else None
    batches = job.publication.batches if job.publication else ()
    segments = job.request.filter.segments
    return ShownDestination(
        dataset_id=asked.dataset_id,
        segment_per_batch=asked.segment_per_batch,
        format=own,
        batch_id=batches[0].id if batches and not asked.segment_per_batch else None,
        batches=tuple(
            ShownBatch(
                segment_id=segments[batch.segment].segment_id,
                segment_ns=segments[batch.segment].segment_ns,
                status=segments[batch.segment].status,
                batch_id=batch.id,
            )
            for batch in batches
            if batch.segment is not None
        )
        or None,
    )


def _errors(fault: Fault | None) -> tuple[ShownError, ...] | None:
    if fault is None:
        return None
    return (
        ShownError(
            code=CODES[fault.kind],
            msg=fault.message,
            call_stack=f"segexport.jobs.{fault.kind.value}",
        ),
    )


def _metrics(status: JobStatus) -> ShownMetrics:
    job = status.job
    # What has ended before it began has exported nobody, and says so as what has failed later.
    counts = job.started_at is not None or job.is_terminal
    return ShownMetrics(
        total_time=_span(job.created_at, job.finished_at),
        profile_export_time=_span(job.started_at, job.finished_at) if job.started_at else None,
        total_exported_profile_counter=status.exported if counts else None,
        exported_profile_by_namespace_counter=dict(status.namespaces) if counts else None,
    )


def _span(start: datetime, end: datetime | None) -> ShownTime:
    began = milliseconds(start)
    ended = milliseconds(end) if end else None
    return ShownTime(
        start_time_in_ms=began,
        end_time_in_ms=ended,
        total_time_in_ms=None if ended is None else ended - began,
    )


def _compute_id(namespace: UUID, job: Job) -> str:
    return str(uuid5(namespace, f"{job.id}/compute")) if job.attempts else ""
