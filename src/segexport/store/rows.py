"""Jobs, pieces and event rows as the columns of a database, and back.

Shared by all stores. Times are integers, microseconds since 1970 UTC: they compare and
sort alike everywhere. Request, publication, fault and files are JSON text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import orjson
from pydantic import ValidationError

from segexport.disclosure import may_name_a_place
from segexport.errors import StoreError, StoreTooNew
from segexport.events.outbox import NumberedRow, OutboxRow
from segexport.events.versions import CURRENT, VERSIONS
from segexport.jobs.job import MAX_JOB_ID, Fault, FaultKind, Job, Scope, Transition
from segexport.jobs.lifecycle import JobState
from segexport.jobs.publication import Counts, DataFile, DiscardFile, Publication, PublishedBatch
from segexport.jobs.request import ExportRequest
from segexport.store.store import FinishedPart, FinishedPiece
from segexport.validation import all_words

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

_SHORT: Final = 4096
"""Characters of a request that is kept, at most: parsed it takes up to 32 kB."""
KEPT_REQUESTS: Final = 256
"""As many as two pages of a list have; 8 MB at most, and 1.6 MB of the usual ones."""

_EARLIER_FAULT: Final = (
    "the export could not be done; whoever runs the service sees the cause with "
    "`segexport status {job_id}`"
)
_EARLIER_FAILURE: Final = "it could not be run; whoever runs the service finds the cause in its log"

FIXED_COLUMNS: Final = (
    "id",
    "organization",
    "sandbox",
    "request_id",
    "request",
    "created_at",
    "deadline",
    "retry_of",
)
"""What a job is created with and keeps."""

CHANGING_COLUMNS: Final = (
    "state",
    "updated_at",
    "started_at",
    "finished_at",
    "not_before",
    "attempts",
    "events",
    "snapshot",
    "pieces",
    "estimate",
    "publication",
    "fault",
)
"""What a transition may change."""

LEASE_COLUMNS: Final = ("owner", "epoch", "lease_until")
"""What only claim, renew and release change."""

JOB_COLUMNS: Final = FIXED_COLUMNS + CHANGING_COLUMNS + LEASE_COLUMNS

ROW_COLUMNS: Final = (
    "job_id",
    "organization",
    "sandbox",
    "sequence",
    "event_id",
    "type",
    "occurred_at",
    "value",
    "discards",
    "contract",
)

SEGMENT_COLUMNS: Final = ("organization", "sandbox", "segment", "created_at", "job_id")
"""A segment that a job's request names, with the key that lists of jobs are sorted by."""

PIECE_COLUMNS: Final = ("piece", "epoch", "parts", "discards", "saved_at")


def job_key(job_id: int) -> int:
    """What a job is looked up by: 0, which none has, for a number too large for a job's id."""
    return job_id if 0 < job_id <= MAX_JOB_ID else 0


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970 UTC; exact. A time without a zone is a TypeError."""
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The UTC time that `to_micros` was given."""
    return _EPOCH + timedelta(microseconds=micros)


def _micros(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // _MICROSECOND


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)


def fixed_values(job: Job) -> tuple[Any, ...]:
    """The values of `FIXED_COLUMNS`."""
    return (
        job.id,
        job.scope.organization,
        job.scope.sandbox,
        job.request_id,
        job.request.model_dump_json(by_alias=True, exclude_none=True),
        to_micros(job.created_at),
        _micros(job.deadline),
        job.retry_of,
    )


def changing_values(job: Job) -> tuple[Any, ...]:
    """The values of `CHANGING_COLUMNS`."""
    return (
        job.state.value,
        to_micros(job.updated_at),
        _micros(job.started_at),
        _micros(job.finished_at),
        _micros(job.not_before),
        job.attempts,
        job.events,
        job.snapshot,
        job.pieces,
        job.estimate,
        None if job.publication is None else _publication_text(job.publication),
        None if job.fault is None else _fault_text(job.fault),
    )


def segment_values(job: Job) -> Sequence[tuple[Any, ...]]:
    """The values of `SEGMENT_COLUMNS`, for each id that the request names in any namespace."""
    organization, sandbox = job.scope.organization, job.scope.sandbox
    created_at = to_micros(job.created_at)
    named = dict.fromkeys(segment.segment_id for segment in job.request.filter.segments)
    return [(organization, sandbox, segment, created_at, job.id) for segment in named]


def read_job(values: Sequence[Any]) -> Job:
    """The job of a row of `JOB_COLUMNS`.

    Raises `StoreError` if its texts are not understood: somebody else wrote them.
    """
    (
        job_id, organization, sandbox, request_id, request, created_at, deadline, retry_of,
        state, updated_at, started_at, finished_at, not_before, attempts, events, snapshot,
        pieces, estimate, publication, fault, owner, epoch, lease_until,
    ) = values  # fmt: skip
    try:
        return Job(
            id=job_id,
            scope=_scope(organization, sandbox),
            request=_request(request),
            request_id=request_id,
            state=JobState(state),
            created_at=from_micros(created_at),
            updated_at=from_micros(updated_at),
            started_at=_moment(started_at),
            finished_at=_moment(finished_at),
            deadline=_moment(deadline),
            not_before=_moment(not_before),
            retry_of=retry_of,
            attempts=attempts,
            events=events,
            owner=owner,
            epoch=epoch,
            lease_until=_moment(lease_until),
            snapshot=snapshot,
            pieces=pieces,
            estimate=estimate,
            publication=None if publication is None else _publication(publication),
            fault=None if fault is None else _fault(fault, job_id),
        )
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"job {job_id} is stored in a form that this version does not understand "
            f"({_reason(error)}); "
            "restore the store from a backup, or read it with the version that wrote it"
        ) from error


def _reason(error: Exception) -> str:
    return all_words(error) if isinstance(error, ValidationError) else str(error)


def event_values(row: OutboxRow) -> tuple[Any, ...]:
    """The values of `ROW_COLUMNS`; the event's id as its 16 bytes."""
    return (
        row.job_id,
        row.scope.organization,
        row.scope.sandbox,
        row.sequence,
        row.event_id.bytes,
        row.type,
        (row.occurred_at - _EPOCH) // _MICROSECOND,
        row.value,
        None if row.discards is None else discards_text(row.discards),
        row.contract,
    )


def read_event(values: Sequence[Any]) -> NumberedRow:
    """The event row of its number and `ROW_COLUMNS`.

    Raises `StoreTooNew` for a row of a version of the contract that is not known here.
    """
    (
        number, job_id, organization, sandbox, sequence, event_id, event_type, occurred_at, value,
        discards, contract,
    ) = values  # fmt: skip
    if contract not in VERSIONS:
        raise StoreTooNew(
            f"event {sequence} of job {job_id} keeps version {contract} of the contract 'emitted', "
            f"written by a later segexport; this one knows versions up to {CURRENT.number}. "
            "Run the later segexport"
        )
    return NumberedRow(
        number,
        OutboxRow(
            job_id=job_id,
            scope=_scope(organization, sandbox),
            sequence=sequence,
            event_id=UUID(bytes=event_id),
            type=event_type,
            occurred_at=from_micros(occurred_at),
            value=value,
            discards=None if discards is None else read_discards(discards),
            contract=contract,
        ),
    )


def discards_text(discards: DiscardFile) -> str:
    """A discard file as a column of an event row."""
    return _text(_discards_document(discards))


def read_discards(text: str) -> DiscardFile:
    """The discard file of such a column."""
    return DiscardFile(**orjson.loads(text))


def with_discards(publication: str, discards: DiscardFile) -> str:
    """The column of a publication, with another discard file."""
    return _publication_text(replace(_publication(publication), discards=discards))


def piece_values(piece: FinishedPiece, now: datetime) -> tuple[Any, ...]:
    """The values of `PIECE_COLUMNS`, of a piece that is saved `now`."""
    return (
        piece.index,
        piece.epoch,
        _text([_part_document(part) for part in piece.parts]),
        None if piece.discards is None else _text(_file_document(piece.discards)),
        to_micros(now),
    )


def read_piece(values: Sequence[Any]) -> FinishedPiece:
    """The piece of a row of `PIECE_COLUMNS`."""
    index, epoch, parts, discards, saved_at = values
    return FinishedPiece(
        index=index,
        epoch=epoch,
        parts=tuple(map(_part, orjson.loads(parts))),
        saved_at=from_micros(saved_at),
        discards=None if discards is None else DataFile(**orjson.loads(discards)),
    )


def require_matching(transition: Transition, rows: Sequence[OutboxRow]) -> None:
    """Raise ValueError unless `rows` are just the events that the transition has counted.

    The last line of defence of "no transition without its event, no event without its
    transition": a mistake above the store stops here, with nothing written.
    """
    job = transition.after
    sequence = transition.before.events if transition.before is not None else 0
    for row in rows:
        sequence += 1
        if row.job_id != job.id or row.scope != job.scope or row.sequence != sequence:
            raise ValueError(
                f"row {row.sequence} of job {row.job_id} where event {sequence} of job {job.id} "
                "must stand"
            )
        if row.discards is not None:
            sequence += row.discards.rows - 1
    if sequence != job.events:
        raise ValueError(
            f"job {job.id} counts {job.events} events after '{transition.trigger}', "
            f"its rows end at {sequence}"
        )
    if transition.milestone is not None and not rows:
        raise ValueError(f"job {job.id}: '{transition.milestone}' must be announced by a row")


def _request(text: str) -> ExportRequest:
    """Parsed once where it is short: it never changes, and who waits for a job asks often."""
    return _kept_request(text) if len(text) <= _SHORT else _parsed_request(text)


def _parsed_request(text: str) -> ExportRequest:
    return ExportRequest.model_validate_json(text)


_kept_request: Final = lru_cache(maxsize=KEPT_REQUESTS)(_parsed_request)


@lru_cache(maxsize=1024)
def _scope(organization: str, sandbox: str) -> Scope:
    return Scope(organization, sandbox)


def _text(document: Mapping[str, Any] | Sequence[Any]) -> str:
    return orjson.dumps(document).decode()


def _file_document(file: DataFile) -> dict[str, Any]:
    return {"name": file.name, "rows": file.rows, "size": file.size, "sha256": file.sha256}


def _part_document(part: FinishedPart) -> dict[str, Any]:
    return {
        "selected": part.selected,
        "discarded": part.discarded,
        "data": None if part.data is None else _file_document(part.data),
        "namespaces": dict(part.namespaces),
        "endpoints": None if part.endpoints is None else _file_document(part.endpoints),
        "unknown_consents": part.unknown_consents,
    }


def _part(document: Mapping[str, Any]) -> FinishedPart:
    data = document["data"]
    endpoints = document.get("endpoints")  # rows of earlier versions lack it
    return FinishedPart(
        selected=document["selected"],
        discarded=document["discarded"],
        data=None if data is None else DataFile(**data),
        namespaces=document["namespaces"],
        endpoints=None if endpoints is None else DataFile(**endpoints),
        unknown_consents=document.get("unknown_consents", 0),
    )


def _discards_document(discards: DiscardFile) -> dict[str, Any]:
    return {"path": discards.path, "sha256": discards.sha256, "rows": discards.rows}


def _publication_text(publication: Publication) -> str:
    discards = publication.discards
    return _text(
        {
            "batches": [_batch_document(batch) for batch in publication.batches],
            "discards": None if discards is None else _discards_document(discards),
            "endpoints": [_file_document(file) for file in publication.endpoints],
            "unknown_consents": publication.unknown_consents,
        }
    )


def _batch_document(batch: PublishedBatch) -> dict[str, Any]:
    counts = batch.counts
    return {
        "id": batch.id,
        "files": [_file_document(file) for file in batch.files],
        "counts": {
            "total": counts.total,
            "realized": counts.realized,
            "failed": counts.failed,
        },
        "namespaces": dict(batch.namespaces),
        "segment": batch.segment,
    }


def _publication(text: str) -> Publication:
    document = orjson.loads(text)
    discards = document["discards"]
    return Publication(
        batches=tuple(map(_batch, document["batches"])),
        discards=None if discards is None else DiscardFile(**discards),
        endpoints=tuple(DataFile(**file) for file in document.get("endpoints", ())),
        unknown_consents=document.get("unknown_consents", 0),
    )


def _batch(document: Mapping[str, Any]) -> PublishedBatch:
    return PublishedBatch(
        id=document["id"],
        files=tuple(DataFile(**file) for file in document["files"]),
        counts=Counts(**document["counts"]),
        namespaces=document["namespaces"],
        segment=document["segment"],
    )


def failure_words(stored: str) -> str:
    """Why a piece has failed, as everybody is told.

    Earlier versions stored what was for whoever runs the service.
    """
    return _EARLIER_FAILURE if may_name_a_place(stored) else stored


def _fault_text(fault: Fault) -> str:
    return _text({"kind": fault.kind, "message": fault.message, "detail": fault.detail})


def _fault(text: str, job_id: int) -> Fault:
    document = orjson.loads(text)
    kind, message = FaultKind(document["kind"]), document["message"]
    if "detail" in document:
        return Fault(kind, message, document["detail"])
    # Of an earlier version, which had the same words for everybody.
    if kind is FaultKind.CANCELLED or not may_name_a_place(message):
        return Fault(kind, message)
    return Fault(kind, _EARLIER_FAULT.format(job_id=job_id), message)
