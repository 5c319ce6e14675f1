"""A `segmentExportJob` service event: what it says, apart from how it is written."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from segexport.events.vocabulary import (
    ORCHESTRATION,
    OWN,
    SEGMENT_EXPORT_JOB,
    SERVICE_EVENTS,
    EventCode,
)
from segexport.jobs.job import Fault
from segexport.jobs.lifecycle import Milestone
from segexport.jobs.request import Journey

SERVICE_TYPE: Final = "serviceEvents.segmentExportJob"
"""What `serviceType` names this kind of event."""

ID: Final = "@id"
TIMESTAMP: Final = "xdm:timestamp"
JOB_ID: Final = SERVICE_EVENTS + "ID"
STATUS: Final = SERVICE_EVENTS + "status"
TOTAL: Final = SERVICE_EVENTS + "exportCountTotal"
REALIZED: Final = SERVICE_EVENTS + "exportCountRealized"
FAILED: Final = SERVICE_EVENTS + "exportCountFailed"
SEGMENT_ID: Final = SERVICE_EVENTS + "exportSegmentID"
EVENT_TYPE: Final = SERVICE_EVENTS + "eventType"
EVENT_CODE: Final = SERVICE_EVENTS + "eventCode"
JOURNEY: Final = ORCHESTRATION + "journey"
JOURNEY_VERSION: Final = ORCHESTRATION + "versionID"
STEP_EVENTS: Final = ORCHESTRATION + "stepEvents"
STEP_JOURNEY_VERSION: Final = ORCHESTRATION + "journeyVersionID"
STEP_EXPORT_JOB: Final = ORCHESTRATION + "exportJobID"
STEP_IN_TEST: Final = ORCHESTRATION + "inTest"
STEP_PROCESSING_TIME: Final = ORCHESTRATION + "processingTime"
PROFILE: Final = ORCHESTRATION + "profile"
PROFILE_NAMESPACE: Final = ORCHESTRATION + "namespace"
ORCHESTRATION_ID: Final = ORCHESTRATION + "ID"
"""The `ID` of journeys and profiles."""
SEQUENCE: Final = OWN + "sequence"
SEGMENT_NAMESPACE: Final = OWN + "segmentNamespace"
SEGMENTS: Final = OWN + "segments"
DATASET: Final = OWN + "dataset"
BATCHES: Final = OWN + "batches"
ROWS: Final = OWN + "rows"
BYTES: Final = OWN + "bytes"
DURATION: Final = OWN + "duration"
ATTEMPT: Final = OWN + "attempt"

PERSON_NAMESPACE: Final = "SegexportPerson"
"""The identity namespace of the profile store's person ids, which no other system gives out."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment by its namespace and id."""

    namespace: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a job has published: its batches by their ids, and the rows and bytes of their files.

    With a batch for each segment, in the order of the request's segments. Files with endpoint
    definitions, which are a copy beside the batch, do not count.
    """

    batches: tuple[str, ...]
    rows: int
    size: int  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """What `finished` says of the way to it.

    `duration` is the time since the job was accepted, `processing` since it first started,
    None if it never did; both in milliseconds. `attempt` is the number of the attempt that
    ended it, 0 if there was none. `output` is there if the job has succeeded.
    """

    dataset: str
    attempt: int
    duration: int
    processing: int | None = None
    output: Output | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceEvent:
    """One event, in the words of the model; absent fields are None.

    Exactly one of `segment` and `segments` is set: the one segment of the job (or of the
    discarded profile), or all of them where the job names none or several. `total`,
    `realized` and `failed` count profiles. `profile_id` is set for a discard, `end` for
    `finished`.
    """

    id: UUID
    job_id: int
    sequence: int
    occurred_at: datetime
    event_type: str
    event_code: EventCode | None = None
    status: Milestone | None = None
    segment: Segment | None = None
    segments: tuple[Segment, ...] | None = None
    total: int | None = None
    realized: int | None = None
    failed: int | None = None
    journey: Journey | None = None
    profile_id: int | None = None
    fault: Fault | None = None
    retry_of: int | None = None
    end: End | None = None

    def document(self) -> dict[str, Any]:
        """The event as a JSON document in URI form."""
        document: dict[str, Any] = {
            ID: str(self.id),
            TIMESTAMP: timestamp(self.occurred_at),
            ORCHESTRATION + "serviceType": SERVICE_TYPE,
            SEGMENT_EXPORT_JOB: _present(
                {
                    JOB_ID: str(self.job_id),
                    STATUS: self.status and self.status.value,
                    SEGMENT_ID: self.segment and self.segment.id,
                    TOTAL: self.total,
                    REALIZED: self.realized,
                    FAILED: self.failed,
                    EVENT_TYPE: self.event_type,
                    EVENT_CODE: self.event_code and self.event_code.value,
                }
            ),
        }
        if self.journey is not None:
            document[JOURNEY] = _present(
                {
                    ORCHESTRATION_ID: self.journey.id,
                    JOURNEY_VERSION: self.journey.version_id,
                    ORCHESTRATION + "name": self.journey.name,
                }
            )
        document[STEP_EVENTS] = self._step()
        if self.profile_id is not None:
            document[PROFILE] = {
                ORCHESTRATION_ID: str(self.profile_id),
                PROFILE_NAMESPACE: PERSON_NAMESPACE,
            }
        document[SEQUENCE] = self.sequence
        if self.segment is not None:
            document[SEGMENT_NAMESPACE] = self.segment.namespace
        if self.segments is not None:
            document[SEGMENTS] = [
                {"namespace": segment.namespace, "segment": segment.id} for segment in self.segments
            ]
        if self.fault is not None:
            document[OWN + "fault"] = self.fault.kind.value
            document[OWN + "reason"] = self.fault.message
        if self.retry_of is not None:
            document[OWN + "retryOf"] = str(self.retry_of)
        if self.end is not None:
            document |= _told(self.end)
        return document

    def _step(self) -> dict[str, Any]:
        """The step of a journey that the job is, in the words of the class of such steps."""
        step: dict[str, Any] = {STEP_EXPORT_JOB: str(self.job_id)}
        if self.journey is not None:
            step[STEP_JOURNEY_VERSION] = self.journey.version_id
            step[STEP_IN_TEST] = self.journey.test_mode
        if self.end is not None and self.end.processing is not None:
            step[STEP_PROCESSING_TIME] = self.end.processing
        return step


def _told(end: End) -> dict[str, Any]:
    told: dict[str, Any] = {
        DATASET: end.dataset,
        ATTEMPT: end.attempt,
        DURATION: end.duration,
    }
    if end.output is not None:
        told[BATCHES] = list(end.output.batches)
        told[ROWS] = end.output.rows
        told[BYTES] = end.output.size
    return told


def timestamp(moment: datetime) -> str:
    """A moment as every event writes it: UTC, microseconds, `Z`."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def _present(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}
