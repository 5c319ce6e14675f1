"""A job as a JSON document: what `--format json` prints, and what `/jobs` answers with.

Times are in RFC 3339, to the millisecond. Facts that are not known yet are left out. A reader
takes facts that it does not know as they come: later versions may tell more.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

from segexport.commands import JobStatus
from segexport.jobs.job import Job
from segexport.jobs.lifecycle import JobState


def rfc_3339(moment: datetime) -> str:
    """A time of these documents, which is in UTC, as text."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


Moment = Annotated[
    datetime,
    PlainSerializer(rfc_3339),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


def _named(request: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        _dataset_of(request)
        _segments_of(request)
    except (KeyError, TypeError):
        raise ValueError("says neither dataset nor segments") from None
    return request


def _dataset_of(request: Mapping[str, Any]) -> str:
    return str(request["destination"]["datasetId"])


def _segments_of(request: Mapping[str, Any]) -> Sequence[str]:
    return [str(segment["segmentId"]) for segment in request["filter"]["segments"]]


AcceptedRequest = Annotated[
    Mapping[str, Any],
    AfterValidator(_named),
    Field(description="The request as it was accepted: an ExportRequest with every default."),
]
"""A document, and no ExportRequest, because it may have words of later versions."""


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="allow", alias_generator=to_camel, validate_by_name=True
    )


class JobCounts(_Part):
    """Selected profiles: all, those that were exported, and the others."""

    total: int
    realized: int
    failed: int


class JobFault(_Part):
    """Why a job has ended without publishing anything."""

    kind: str
    message: str


class JobError(_Part):
    """What went wrong: with the whole job, or with a try at one of its pieces."""

    code: str
    message: str
    piece: int | None = None
    attempt: int | None = None
    failed_at: Moment | None = None


class JobBatch(_Part):
    """The batch of one segment, in the words of the request."""

    segment_id: str
    batch_id: str


class JobDocument(_Part):
    """A job and how far it is, 0 to 1.

    `errors` are why it has ended as it did, then what its pieces have met. `batches` are
    there where each segment has its own. `unknown_consents`, of a job for Pinpoint, are the
    endpoints with a consent that is none of XDM's values. What is not known is absent.
    """

    id: int
    organization: str
    sandbox: str
    state: str
    status: str
    request_id: str
    created_at: Moment
    updated_at: Moment
    started_at: Moment | None = None
    finished_at: Moment | None = None
    deadline: Moment | None = None
    attempts: int
    retry_of: int | None = None
    snapshot: str | None = None
    estimate: int | None = None
    pieces: int | None = None
    counts: JobCounts | None = None
    namespaces: Mapping[str, int] | None = None
    batch_ids: tuple[str, ...] | None = None
    batches: tuple[JobBatch, ...] | None = None
    unknown_consents: int | None = None
    error: JobFault | None = None
    request: AcceptedRequest
    progress: float
    pieces_done: int
    rows: int
    rows_per_second: float | None = None
    seconds_left: float | None = None
    errors: tuple[JobError, ...]

    @classmethod
    def of(cls, status: JobStatus) -> "JobDocument":
        """What a status tells."""
        facts = {
            **_facts(status.job),
            "progress": round(status.progress, 4),
            "pieces_done": status.pieces_done,
            "rows": status.rows,
            "rows_per_second": None if status.rate is None else round(status.rate, 1),
            "seconds_left": None if status.remaining is None else round(status.remaining, 1),
            "errors": _errors(status),
        }
        return cls.model_validate({name: fact for name, fact in facts.items() if fact is not None})

    @property
    def has_ended(self) -> bool:
        """Whether the job never changes again."""
        return self.finished_at is not None

    @property
    def has_succeeded(self) -> bool:
        """Whether everything is published."""
        return self.state == JobState.COMPLETED

    @property
    def dataset_id(self) -> str:
        """Where the job exports to."""
        return _dataset_of(self.request)

    @property
    def segment_ids(self) -> Sequence[str]:
        """The segments that it exports; none: all profiles."""
        return _segments_of(self.request)

    def document(self) -> dict[str, Any]:
        """The document in JSON's types, with what was said and nothing else."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _facts(job: Job) -> dict[str, Any]:
    counts, publication, fault = job.counts, job.publication, job.fault
    return {
        "id": job.id,
        "organization": job.scope.organization,
        "sandbox": job.scope.sandbox,
        "state": job.state.value,
        "status": job.platform_status,
        "request_id": job.request_id,
        "created_at": job.created_at,
        "updated_at": job.updated_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "deadline": job.deadline,
        "attempts": job.attempts,
        "retry_of": job.retry_of,
        "snapshot": job.snapshot,
        "estimate": job.estimate,
        "pieces": job.pieces,
        "counts": counts
        and {"total": counts.total, "realized": counts.realized, "failed": counts.failed},
        "namespaces": dict(publication.namespaces) if publication else None,
        "batch_ids": [batch.id for batch in publication.batches] if publication else None,
        "batches": _batches(job),
        "unknown_consents": publication.unknown_consents
        if publication and job.request.pinpoint
        else None,
        "error": fault and {"kind": fault.kind.value, "message": fault.message},
        "request": job.request.document(),
    }


def _batches(job: Job) -> list[dict[str, Any]] | None:
    if job.publication is None or not job.request.destination.segment_per_batch:
        return None
    segments = job.request.document()["filter"]["segments"]
    return [
        {**segments[batch.segment], "batchId": batch.id}
        for batch in job.publication.batches
        if batch.segment is not None
    ]


def _errors(status: JobStatus) -> list[dict[str, Any]]:
    fault = status.job.fault
    ended = [{"code": fault.kind.value, "message": fault.message}] if fault else []
    met = [
        {
            "code": "piece",
            "message": failure.message,
            "piece": failure.piece,
            "attempt": failure.attempt,
            "failed_at": failure.failed_at,
        }
        for failure in status.failures
    ]
    return [*ended, *met]
