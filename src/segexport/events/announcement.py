"""From a transition to what the world is told of it.

Pure: whoever stores the transition stores these rows with it, in one transaction. Every
event is held against the contract here, so a transition whose event would break it cannot
be stored.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid5

import orjson

from segexport.errors import InvalidEvent
from segexport.events import contract
from segexport.events.discards import DISCARDED, template_of
from segexport.events.outbox import OutboxRow
from segexport.events.service_event import End, Output, Segment, ServiceEvent
from segexport.events.vocabulary import (
    EVENT_TYPES,
    Dialect,
    EventCode,
    Form,
    code_of,
)
from segexport.events.xdm import to_compact
from segexport.jobs.job import Fault, FaultKind, Job, Transition
from segexport.jobs.lifecycle import JobState, Milestone
from segexport.jobs.publication import DiscardFile
from segexport.jobs.request import SegmentFilter

TYPE_OF_STATUS: Final = "segexport.segmentExportJob."
"""The CloudEvents type of an event about the whole job is this and its status."""

_MILLISECOND: Final = timedelta(milliseconds=1)
MAX_REASON: Final = 2000
"""Characters of a fault's message that an event carries."""


@dataclass(frozen=True, slots=True)
class Voice:
    """How a store speaks: eventType's dialect, the form of the keys, the root of event ids."""

    dialect: Dialect
    form: Form
    namespace: UUID

    @classmethod
    def of(cls, store_id: UUID, generation: int, *, dialect: str, form: str) -> "Voice":
        """The voice of one life of a store. `dialect` and `form` are words of the settings."""
        return cls(Dialect(dialect), Form(form), uuid5(store_id, str(generation)))


def announce(transition: Transition, voice: Voice) -> tuple[Transition, tuple[OutboxRow, ...]]:
    """The transition with its events counted, and their rows.

    A transition that reaches no milestone has no rows. A completed job with discards has
    two: the file of discards, which takes up as many sequence numbers as it has rows, and
    `finished` behind them.

    Raises `InvalidEvent` that names the rule an event would break.
    """
    if transition.milestone is None:
        return transition, ()
    rows = tuple(_rows(transition.after, transition.milestone, voice))
    last = rows[-1].sequence
    return replace(transition, after=replace(transition.after, events=last)), rows


def _rows(job: Job, milestone: Milestone, voice: Voice) -> Iterator[OutboxRow]:
    sequence = job.events + 1
    discards = _discards(job)
    if discards:
        any_one = _event(job, sequence, voice, **_discard(job, voice.dialect))
        template = template_of(any_one, voice.namespace, voice.form)
        yield _row(job, any_one, DISCARDED, template, discards)
        sequence += discards.rows
    facts = _outcome(job, voice.dialect)
    event = _event(job, sequence, voice, status=milestone, retry_of=job.retry_of, **facts)
    document = event.document()
    contract.demand(document)
    value = orjson.dumps(to_compact(document) if voice.form is Form.COMPACT else document)
    yield _row(job, event, TYPE_OF_STATUS + milestone, value)


def _discards(job: Job) -> DiscardFile | None:
    """The file of a completed job's discards, where there are any."""
    if job.state is not JobState.COMPLETED or job.publication is None:
        return None
    file, counts = job.publication.discards, job.publication.counts
    rows = file.rows if file else 0
    if counts.failed != rows:
        raise InvalidEvent(
            f"job {job.id} counts {counts.failed} profiles as failed but has {rows} discards; "
            "in a completed job every failed profile is a discard"
        )
    return file if rows else None


def _outcome(job: Job, dialect: Dialect) -> Mapping[str, Any]:
    """What an event about the whole job says besides its status."""
    types = EVENT_TYPES[dialect]
    counts = job.counts
    if counts is None:
        started = job.state is JobState.PROCESSING
        return {"event_type": types.info, "total": job.estimate if started else None}
    facts = {
        "total": counts.total,
        "realized": counts.realized,
        "failed": counts.failed,
        "end": _end(job),
    }
    if job.state is JobState.COMPLETED:
        coded = dialect is Dialect.JOURNEY_OPTIMIZER
        code = EventCode.INFO_EXPORTJOB_SUCCEEDED if coded else None
        return {**facts, "event_type": types.info, "event_code": code}
    fault = job.fault or Fault(FaultKind.FAILED, "")
    return {
        **facts,
        "event_type": types.error,
        "event_code": code_of(fault.kind, dialect, started=job.started_at is not None),
        "fault": replace(fault, message=_writable(fault.message)),
    }


def _end(job: Job) -> End:
    """The way of a job that has ended, and what it has published."""
    published = job.publication if job.state is JobState.COMPLETED else None
    return End(
        dataset=job.request.destination.dataset_id,
        attempt=job.attempts,
        duration=(job.updated_at - job.created_at) // _MILLISECOND,
        processing=(
            None if job.started_at is None else (job.updated_at - job.started_at) // _MILLISECOND
        ),
        output=None
        if published is None
        else Output(
            batches=tuple(batch.id for batch in published.batches),
            rows=published.rows,
            size=published.size,
        ),
    )


def _discard(job: Job, dialect: Dialect) -> Mapping[str, Any]:
    """What any one discard of the job says; only what it shares with all others counts."""
    segments = job.request.filter.segments
    return {
        "event_type": EVENT_TYPES[dialect].discard,
        "event_code": EventCode.ERROR_INSTANCE_INTERNAL,
        "profile_id": 1,
        "segment": _segment(segments[0]) if segments else None,
        "segments": None if segments else (),
    }


def _event(job: Job, sequence: int, voice: Voice, **facts: Any) -> ServiceEvent:
    """An event of the job as it stands; built once, because copies of it cost most here."""
    if "segments" not in facts:
        only = job.request.only_segment
        facts["segment"] = _segment(only) if only else None
        facts["segments"] = None if only else tuple(map(_segment, job.request.filter.segments))
    return ServiceEvent(
        id=event_id(voice.namespace, job.id, sequence),
        job_id=job.id,
        sequence=sequence,
        occurred_at=job.updated_at,
        journey=job.request.journey,
        **facts,
    )


def _segment(segment: SegmentFilter) -> Segment:
    return Segment(segment.segment_ns, segment.segment_id)


def event_id(namespace: UUID, job_id: int, sequence: int) -> UUID:
    """The id of an event about the whole job."""
    return uuid5(namespace, f"{job_id}/{sequence}")


def _row(
    job: Job, event: ServiceEvent, kind: str, value: bytes, discards: DiscardFile | None = None
) -> OutboxRow:
    return OutboxRow(
        job_id=job.id,
        scope=job.scope,
        sequence=event.sequence,
        event_id=event.id,
        type=kind,
        occurred_at=event.occurred_at,
        value=value,
        discards=discards,
    )


def _writable(reason: str) -> str:
    """A reason that fits into an event, whatever an exception's text was made of."""
    text = reason.encode(errors="replace").decode().strip() or "no reason was recorded"
    return text if len(text) <= MAX_REASON else text[: MAX_REASON - 1] + "…"
