"""The words of a `segmentExportJob` service event.

Sources: the XDM field group `segmentExportJob` (its properties and examples), the Journey
Optimizer step event documentation (codes) and its published dashboard queries (the
`segmenttrigger-orchestrator` dialect).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from segexport.jobs.job import FaultKind

ORCHESTRATION: Final = "https://ns.adobe.com/experience/journeyOrchestration/"
"""Prefix of the keys of journeys and profiles."""
SERVICE_EVENTS: Final = ORCHESTRATION + "serviceEvents/"
"""Prefix of the keys inside a service event object."""
SEGMENT_EXPORT_JOB: Final = SERVICE_EVENTS + "segmentExportJob"
"""The property key of the event's object; the schema's `$id` is this with a slash behind it."""
OWN: Final = "https://segexport.example/"
"""Prefix of the keys that this product adds; their compact home is `_segexport`.

It has a `scheme://`, for XDM's classes admit no other keys of strangers at the root of an event.
"""


class EventCode(StrEnum):
    """Why: at the level of the job, or of one discarded profile."""

    INFO_EXPORTJOB_SUCCEEDED = "INFO_EXPORTJOB_SUCCEEDED"
    ERROR_EXPORTJOB_FAILED = "ERROR_EXPORTJOB_FAILED"
    ERROR_TOPIC_CREATION = "ERROR_TOPIC_CREATION"  # understood when read, never emitted
    ERROR_EXPORTJOB_APICALL = "ERROR_EXPORTJOB_APICALL"
    ERROR_EXPORTJOB_APICALL_TIMEOUT = "ERROR_EXPORTJOB_APICALL_TIMEOUT"
    ERROR_INSTANCE_DUPLICATION = "ERROR_INSTANCE_DUPLICATION"
    ERROR_INSTANCE_BAD_NAMESPACE = "ERROR_INSTANCE_BAD_NAMESPACE"
    ERROR_INSTANCE_NO_IDENTITY_MAP = "ERROR_INSTANCE_NO_IDENTITY_MAP"
    ERROR_INSTANCE_NOT_A_TEST_PROFILE = "ERROR_INSTANCE_NOT_A_TEST_PROFILE"
    ERROR_INSTANCE_INTERNAL = "ERROR_INSTANCE_INTERNAL"


CODE_OF_FAULT: Mapping[FaultKind, EventCode] = MappingProxyType(
    {
        FaultKind.FAILED: EventCode.ERROR_EXPORTJOB_FAILED,
        FaultKind.CANCELLED: EventCode.ERROR_EXPORTJOB_FAILED,
        FaultKind.UNREACHABLE: EventCode.ERROR_EXPORTJOB_APICALL,
        FaultKind.DEADLINE: EventCode.ERROR_EXPORTJOB_APICALL_TIMEOUT,
    }
)


class Dialect(StrEnum):
    """How eventType is spoken, which code success carries, and which a job that ran and failed."""

    XDM = "xdm"  # info and error, as in the schema's examples
    JOURNEY_OPTIMIZER = "journey-optimizer"  # what the published dashboard queries filter on


class Form(StrEnum):
    """How the keys of a record's value are written."""

    URI = "uri"
    COMPACT = "compact"


def code_of(fault: FaultKind, dialect: Dialect, *, started: bool) -> EventCode:
    """The code of a job that has published nothing; `started`: its event `started` was told.

    The published queries take a job that started for running until its code is one of
    INFO_EXPORTJOB_SUCCEEDED and ERROR_EXPORTJOB_FAILED.
    """
    if started and dialect is Dialect.JOURNEY_OPTIMIZER:
        return EventCode.ERROR_EXPORTJOB_FAILED
    return CODE_OF_FAULT[fault]


@dataclass(frozen=True, slots=True)
class EventTypes:
    """The values of eventType in one dialect: of events about a job, and of a discard."""

    info: str
    error: str
    discard: str


EVENT_TYPES: Mapping[Dialect, EventTypes] = MappingProxyType(
    {
        Dialect.XDM: EventTypes("info", "error", "error"),
        Dialect.JOURNEY_OPTIMIZER: EventTypes(
            # What the published queries take for a row about a job; discards must not be any.
            "segmenttrigger-orchestrator",
            "segmenttrigger-orchestrator",
            "error",
        ),
    }
)
