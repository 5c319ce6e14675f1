"""Jobs at every milestone, the events that they announce, and documents that are nearly valid."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from hypothesis import strategies as st

from segexport.events.announcement import Voice, announce
from segexport.events.discards import DiscardRow, expand
from segexport.events.outbox import OutboxRow
from segexport.events.record import Record, store_source
from segexport.events.service_event import SERVICE_TYPE
from segexport.events.vocabulary import (
    ORCHESTRATION,
    OWN,
    SEGMENT_EXPORT_JOB,
    SERVICE_EVENTS,
    Dialect,
    Form,
)
from segexport.jobs import job as steps
from segexport.jobs.job import Fault, FaultKind, Scope, Transition
from segexport.jobs.publication import Counts, DataFile, DiscardFile, Publication, PublishedBatch
from segexport.jobs.reading import parse_request
from segexport.jobs.request import ExportRequest

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
STORE = UUID("6c2c1c40-5d3b-4b0a-9a3f-0f6f3a1d2e01")
SOURCE = store_source(STORE)
SCOPE = Scope("acme", "prod")
JOB_ID = 7_205_759_403_792_793
CODES = (
    "ERROR_INSTANCE_DUPLICATION",
    "ERROR_INSTANCE_BAD_NAMESPACE",
    "ERROR_INSTANCE_NO_IDENTITY_MAP",
    "ERROR_INSTANCE_NOT_A_TEST_PROFILE",
    "ERROR_INSTANCE_INTERNAL",
)


def voice(dialect: Dialect = Dialect.XDM, form: Form = Form.URI) -> Voice:
    """A voice of the one store of these tests."""
    return Voice.of(STORE, 1, dialect=dialect, form=form)


def request(*segments: str, journey: bool = False, test_mode: bool = False) -> ExportRequest:
    """An export request for these segments, named `namespace/id` or just `id`."""
    named = [segment.rpartition("/") for segment in segments]
    body: dict[str, Any] = {
        "destination": {"datasetId": "audience"},
        "filter": {
            "segments": [
                {"segmentId": segment, "segmentNs": namespace or "ups"}
                for namespace, _, segment in named
            ]
        },
    }
    if journey:
        body["journey"] = {
            "versionId": "v12",
            "namespace": "Email",
            "id": "j1",
            "name": "Grüße",
            "testMode": test_mode,
        }
    return parse_request(body)


def discard_file(rows: int) -> DiscardFile:
    """A file that nobody reads."""
    return DiscardFile(path="/discards/1.parquet", sha256="ab" * 32, rows=rows)


def _file(rows: int) -> DataFile:
    """A file that nobody reads, of ten bytes a row."""
    return DataFile(name="part-00000.parquet", rows=rows, size=10 * rows, sha256="ab" * 32)


class Life:
    """A job that takes its steps, and the rows that it has announced on its way."""

    def __init__(
        self,
        wanted: ExportRequest,
        speaking: Voice | None = None,
        retry_of: int | None = None,
        job_id: int = JOB_ID,
    ) -> None:
        self.voice = speaking or voice()
        self.rows: list[OutboxRow] = []
        self._take(
            steps.submit(
                wanted,
                job_id=job_id,
                scope=SCOPE,
                request_id="r",
                now=NOW,
                retry_of=retry_of,
            )
        )

    def _take(self, transition: Transition) -> None:
        transition, rows = announce(transition, self.voice)
        self.job = transition.after
        self.rows += rows

    def step(self, step: Callable[..., Transition], *args: Any, **facts: Any) -> "Life":
        """One more step, a second later."""
        self._take(step(self.job, self.job.updated_at + timedelta(seconds=1), *args, **facts))
        return self

    def started(self, estimate: int = 100) -> "Life":
        """As far as `started`."""
        self.step(steps.claim).step(steps.initialize, snapshot="s1")
        return self.step(steps.start, pieces=4, estimate=estimate)

    def later(self, wait: timedelta) -> "Life":
        """Nothing happens for so long."""
        self.job = replace(self.job, updated_at=self.job.updated_at + wait)
        return self

    def completed(self, total: int = 100, discarded: int = 40) -> "Life":
        """As far as `finished`."""
        return self.started().published(total, discarded)

    def published(self, total: int, discarded: int) -> "Life":
        """From `started` as far as `finished`."""
        counts = Counts(total=total, realized=total - discarded, failed=discarded)
        outcome = Publication(
            batches=(PublishedBatch(id="b1", files=(_file(counts.realized),), counts=counts),),
            discards=discard_file(discarded),
        )
        return self.step(steps.publish, outcome).step(steps.complete)

    def failed(
        self, kind: FaultKind = FaultKind.FAILED, message: str = "the disk is full"
    ) -> "Life":
        """As far as `finished`, with nothing published."""
        if kind is FaultKind.CANCELLED:
            self.started().step(steps.cancel, Fault(kind, message))
        else:
            self.started().step(steps.fail, Fault(kind, message))
        return self.step(steps.clean_up)

    @property
    def last(self) -> OutboxRow:
        """The row announced last."""
        return self.rows[-1]

    @property
    def discards(self) -> OutboxRow:
        """The row that stands for the file of discards."""
        return next(row for row in self.rows if row.discards)

    @property
    def documents(self) -> list[dict[str, Any]]:
        """What the rows say, rows of discards left out."""
        return [orjson.loads(row.value) for row in self.rows if row.discards is None]


def expanded(row: OutboxRow, discards: Sequence[DiscardRow], start: int = 0) -> list[Record]:
    """All records of a row of discards."""
    return list(expand(row, discards, start, SOURCE))


def every_kind_of_event() -> Mapping[str, dict[str, Any]]:
    """A URI-form document of each kind of event, in each dialect, with and without journey."""
    found: dict[str, dict[str, Any]] = {}
    for dialect in Dialect:
        for label, wanted in (
            ("one segment", request("gold")),
            ("two segments", request("gold", "crm/new", journey=True)),
            ("everybody", request(journey=True)),
        ):
            name = f"{dialect}, {label}"
            done = Life(wanted, voice(dialect), retry_of=17).completed()
            queued, started, finished = done.documents
            segment = ("ups", "gold") if label != "everybody" else (None, None)
            (record,) = expanded(done.discards, [(*segment, 5, CODES[0])])
            found |= {
                f"queued ({name})": queued,
                f"started ({name})": started,
                f"succeeded ({name})": finished,
                f"discarded ({name})": orjson.loads(record.value),
            }
            for kind in FaultKind:
                life = Life(wanted, voice(dialect)).failed(kind)
                found[f"{kind} ({name})"] = life.documents[-1]
    return found


EVENTS = every_kind_of_event()

_JOB_KEYS = [
    SERVICE_EVENTS + key
    for key in (
        "ID",
        "status",
        "exportSegmentID",
        "exportCountTotal",
        "exportCountRealized",
        "exportCountFailed",
        "eventType",
        "eventCode",
    )
]
PATHS: Sequence[tuple[str, ...]] = [
    *((SEGMENT_EXPORT_JOB, key) for key in [*_JOB_KEYS, "ID", "unknown"]),
    *((ORCHESTRATION + "journey", ORCHESTRATION + key) for key in ("ID", "versionID", "version")),
    *((ORCHESTRATION + "profile", ORCHESTRATION + key) for key in ("ID", "namespace")),
    *(
        (ORCHESTRATION + "stepEvents", ORCHESTRATION + key)
        for key in ("journeyVersionID", "exportJobID", "inTest", "processingTime")
    ),
    *((key,) for key in ("@id", "xdm:timestamp", SEGMENT_EXPORT_JOB, "unknown")),
    *((ORCHESTRATION + key,) for key in ("journey", "profile", "stepEvents", "serviceType")),
    *(
        (OWN + key,)
        for key in ("sequence", "segments", "segmentNamespace", "fault", "reason", "retryOf")
    ),
    *((OWN + key,) for key in ("dataset", "batches", "rows", "bytes", "duration", "attempt")),
]
ODD_VALUES: Sequence[Any] = [
    *(None, True, False, {}, []),
    *(0, 1, -1, 60, 40, 100, 100_000_000_000, 100_000_000_001, 2**53, 2**63, 2**64 - 1),
    *(0.0, -0.0, 1.0, 40.0, 0.5, -5.0, 1e11, 1e11 + 0.5, 1e300, 5e-324),
    *("", "1", "0", "12a", "123\n", "\n123", "\u0661\u0662", "1" * 16, "1" * 17, "1" * 20),
    *("x" * 128, "x" * 129, "\u00e9" * 128, "\U0001f600" * 128, "\U0001f600" * 129),
    *("queued", "started", "finished", "FINISHED", "info", "error", "Info"),
    *("segmenttrigger-orchestrator", "INFO_EXPORTJOB_SUCCEEDED", "ERROR_EXPORTJOB_FAILED"),
    *("ERROR_TOPIC_CREATION", *CODES, SERVICE_TYPE, "failed", "cancelled"),
    *("2026-03-01T12:00:00Z", "2026-02-30T12:00:00Z", "2026-03-01T12:00:00+01:00"),
    "0d2ec7f2-1111-5222-8333-444444444444",
    "0d2ec7f2-1111-5222-8333-444444444444\n",
    [{"namespace": "ups", "segment": "gold"}],
    [{"namespace": "ups", "segment": "gold"}] * 2,
    [{"namespace": "ups", "segment": "gold", "more": 1}] * 2,
    [{"namespace": "ups", "segment": ""}] * 2,
    [{"segment": "gold"}] * 2,
]
"""What somebody may write by mistake or by chance, in the place of anything."""

_VALUES = (
    st.sampled_from(ODD_VALUES)
    | st.integers(min_value=-(2**63), max_value=2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
)
GONE = object()


@st.composite
def nearly_valid_documents(draw: st.DrawFn) -> dict[str, Any]:
    """A valid event of any kind, with up to three of its keys gone or holding something else."""
    document = copy.deepcopy(EVENTS[draw(st.sampled_from(sorted(EVENTS)))])
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(PATHS))
        value = draw(_VALUES | st.just(GONE))
        home: Any = document
        if len(path) == 2:
            home = document.setdefault(path[0], {})
            if not isinstance(home, dict):
                continue
        if value is GONE:
            home.pop(path[-1], None)
        else:
            home[path[-1]] = copy.deepcopy(value)
    return document


def changed(document: Mapping[str, Any], *path: str, to: Any = GONE) -> dict[str, Any]:
    """A copy of a document with another value, or none, at a path."""
    result = copy.deepcopy(dict(document))
    home = result
    for step in path[:-1]:
        home = home.setdefault(step, {})
    if to is GONE:
        home.pop(path[-1], None)
    else:
        home[path[-1]] = to
    return result


EVERY_VOICE = [(dialect, form) for dialect in Dialect for form in Form]
"""All ways to speak."""
