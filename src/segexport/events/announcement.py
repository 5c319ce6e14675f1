"""From a transition to what the world is told of it.

Pure: whoever stores the transition stores these rows with it, in one transaction. Every
event is held against the contract here, so a transition whose event would break it cannot
be stored.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID, uuid5

import orjson

from segexport.errors import InvalidEvent
from segexport.events import contract
from segexport.events.discards import DISCARDED, template_of
from segexport.events.outbox import OutboxRow
from segexport.events.service_event import Segment, ServiceEvent
from segexport.events.vocabulary import (
    CODE_OF_FAULT,
    EVENT_TYPES,
    Dialect,
    EventCode,
    Form,
)
from segexport.events.xdm import to_compact
from segexport.jobs.job import Fault, FaultKind, Job, Transition
from segexport.jobs.lifecycle import JobState, Milestone
from segexport.jobs.publication import DiscardFile

TYPE_OF_STATUS: Final = "segexport.segmentExportJob."
"""The CloudEvents type of an event about the whole job is this and its status."""

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
        template = template_of(_discard_of(job, sequence, voice), voice.namespace, voice.form)
        row = _row(job, sequence, voice, DISCARDED, template)
        yield replace(row, discards=discards)
        sequence += discards.rows
    document = _event_of(job, milestone, sequence, voice).document()
    contract.demand(document)
    value = orjson.dumps(to_compact(document) if voice.form is Form.COMPACT else document)
    yield _row(job, sequence, voice, TYPE_OF_STATUS + milestone, value)


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


def _row(job: Job, sequence: int, voice: Voice, cloud_event: str, value: bytes) -> OutboxRow:
    return OutboxRow(
        job_id=job.id,
        scope=job.scope,
        sequence=sequence,
        event_id=event_id(voice.namespace, job.id, sequence),
        type=cloud_event,
        occurred_at=job.updated_at,
        value=value,
    )


def event_id(namespace: UUID, job_id: int, sequence: int) -> UUID:
    """The id of an event about the whole job."""
    return uuid5(namespace, f"{job_id}/{sequence}")


def _event_of(job: Job, milestone: Milestone, sequence: int, voice: Voice) -> ServiceEvent:
    types = EVENT_TYPES[voice.dialect]
    about = _about(job, sequence, voice)
    event = replace(about, status=milestone, retry_of=job.retry_of)
    if milestone is Milestone.STARTED:
        return replace(event, total=job.estimate)
    counts = job.counts
    if counts is None:
        return event
    event = replace(event, total=counts.total, realized=counts.realized, failed=counts.failed)
    if job.state is JobState.COMPLETED:
        spoken = voice.dialect is Dialect.JOURNEY_OPTIMIZER
        return replace(event, event_code=EventCode.INFO_EXPORTJOB_SUCCEEDED if spoken else None)
    fault = job.fault or Fault(FaultKind.FAILED, "")
    return replace(
        event,
        event_type=types.error,
        event_code=CODE_OF_FAULT[fault.kind],
        fault=replace(fault, message=_writable(fault.message)),
    )


def _discard_of(job: Job, sequence: int, voice: Voice) -> ServiceEvent:
    """Any one discard of the job: what it shares with all others is what counts."""
    segments = job.request.filter.segments
    return replace(
        _about(job, sequence, voice),
        event_type=EVENT_TYPES[voice.dialect].error,
        event_code=EventCode.ERROR_INSTANCE_INTERNAL,
        profile_id=1,
        segment=Segment(segments[0].segment_ns, segments[0].segment_id) if segments else None,
        segments=None if segments else (),
    )


def _about(job: Job, sequence: int, voice: Voice) -> ServiceEvent:
    only = job.request.only_segment
    segments = tuple(Segment(it.segment_ns, it.segment_id) for it in job.request.filter.segments)
    return ServiceEvent(
        id=event_id(voice.namespace, job.id, sequence),
        job_id=job.id,
        sequence=sequence,
        occurred_at=job.updated_at,
        event_type=EVENT_TYPES[voice.dialect].info,
        segment=segments[0] if only else None,
        segments=None if only else segments,
        journey=job.request.journey,
    )


def _writable(reason: str) -> str:
    """A reason that fits into an event, whatever an exception's text was made of."""
    text = reason.encode(errors="replace").decode().strip() or "no reason was recorded"
    return text if len(text) <= MAX_REASON else text[: MAX_REASON - 1] + "…"
