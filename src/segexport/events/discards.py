"""From a file of discards to one event each.

A job can discard millions of profiles. They never enter the store row by row: the outbox
holds one row for the whole file, whose value is a template, and the relay expands it here.
The template says everything that the events share, so a setting that changes between the
end of a job and its delivery changes nothing:

    {"namespace": …, "form": "uri", "event": {…}}

`namespace` is the root of the event ids, `form` how the values are written, `event` the
document in URI form with null wherever the file or the event's place in it speaks.

This is the hottest path of the product, which shows in two ways: one document is filled
again and again instead of built anew, and the ids are put together from the digest.
"""

from collections.abc import Iterable, Iterator
from hashlib import sha1
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid5

import orjson

from segexport.errors import InvalidEvent
from segexport.events import schema, xdm
from segexport.events.contract import Contract, Kind, demand, violations
from segexport.events.outbox import OutboxRow
from segexport.events.record import Record, data_schema, job_key, milliseconds, shared_headers
from segexport.events.service_event import (
    EVENT_CODE,
    ID,
    ORCHESTRATION_ID,
    PROFILE,
    SEGMENT_ID,
    SEGMENT_NAMESPACE,
    SEQUENCE,
    ServiceEvent,
)
from segexport.events.vocabulary import SEGMENT_EXPORT_JOB, Form

DISCARDED: Final = "segexport.segmentExportJob.discarded"
"""The CloudEvents type of a discard, and of the row that stands for a file of them."""


class Discard(NamedTuple):
    """A row of a discard file, its columns in this order.

    Which segment selected the profile (both None where the job exports everybody), the
    person id of the profile store, and the `ERROR_INSTANCE_…` code.
    """

    namespace: str | None
    segment: str | None
    person_id: int
    code: str


DiscardRow = tuple[str | None, str | None, int, str]
"""What a `Discard` is to whoever reads a file: a plain tuple will do."""


def template_of(event: ServiceEvent, namespace: UUID, form: Form) -> bytes:
    """The value of a row of discards, from any one discard of the job.

    Raises `InvalidEvent` if that one breaks the contract: then all would.
    """
    document = event.document()
    demand(document)
    for key in (ID, SEQUENCE, SEGMENT_NAMESPACE):
        _blank(document, key)
    _blank(document[SEGMENT_EXPORT_JOB], SEGMENT_ID)
    _blank(document[SEGMENT_EXPORT_JOB], EVENT_CODE)
    _blank(document[PROFILE], ORCHESTRATION_ID)
    return orjson.dumps({"namespace": str(namespace), "form": form.value, "event": document})


def discard_event_id(namespace: UUID, job_id: int, discard: DiscardRow) -> UUID:
    """The id of a discard's event: depends on job, segment, person and code, on nothing else.

    The length in front of the segment's namespace keeps `a/b` + `c` and `a` + `b/c` apart.
    """
    return uuid5(namespace, _name(job_id, discard))


def _name(job_id: int, discard: DiscardRow) -> str:
    segment_namespace, segment, person_id, code = discard
    if segment_namespace is None:
        return f"{job_id}/{person_id}/{code}"
    return f"{job_id}/{person_id}/{code}/{len(segment_namespace)}/{segment_namespace}/{segment}"


def expand(
    row: OutboxRow, discards: Iterable[DiscardRow], start: int, source: str
) -> Iterator[Record]:
    """The records of a file's discards from its row `start` (from 0) on, in order.

    `discards` begins with that row. `source` is the store's CloudEvents source. Raises
    `InvalidEvent`, naming the row, for one that breaks the contract.
    """
    template = orjson.loads(row.value)
    root = UUID(template["namespace"]).bytes
    compact = template["form"] == Form.COMPACT
    judged = _Mould(template["event"], Form.URI)
    written = _Mould(xdm.to_compact(template["event"]), Form.COMPACT) if compact else judged
    is_valid = schema.fast(schema.EMITTED, Kind.DISCARDED).is_valid
    key = job_key(row.job_id)
    shared = (*shared_headers(row, source), ("ce_dataschema", data_schema(compact=compact)))
    timestamp_ms = milliseconds(row.occurred_at)
    for place, discard in enumerate(discards, start):
        sequence = row.sequence + place
        try:
            event_id = _id_text(root + _name(row.job_id, discard).encode())
            judged.fill(event_id, sequence, discard)
            if not is_valid(judged.document) or judged.has_no_room(discard):
                raise _refusal(row, place, judged, discard)
            if compact:
                written.fill(event_id, sequence, discard)
            value = orjson.dumps(written.document)
        except (TypeError, ValueError) as error:
            raise InvalidEvent(
                f"row {place} of the discard file of job {row.job_id} is no discard: {error}; "
                "the file was written by something else, or damaged"
            ) from error
        headers = (*shared, ("ce_id", event_id.encode()), ("ce_sequence", b"%012d" % sequence))
        yield Record(key, value, headers, timestamp_ms)


class _Mould:
    """A document in one form that takes on one discard after the other."""

    __slots__ = ("_slots", "document")

    def __init__(self, document: dict[str, Any], form: Form) -> None:
        self.document = document
        slots = [_slot(document, form, *path) for path in _VARIED]
        self._slots = [slot for slot in slots if slot is not None]

    def fill(self, event_id: str, sequence: int, discard: DiscardRow) -> None:
        """Let the document be the event of this discard."""
        namespace, segment, person_id, code = discard
        values = (event_id, sequence, code, str(person_id), segment, namespace)
        for (home, key), value in zip(self._slots, values, strict=False):
            home[key] = value

    def has_no_room(self, discard: DiscardRow) -> bool:
        """Whether the discard names a segment although the job exports everybody."""
        return discard[1] is not None and len(self._slots) < len(_VARIED)


_VARIED: Final = (
    (ID,),
    (SEQUENCE,),
    (SEGMENT_EXPORT_JOB, EVENT_CODE),
    (PROFILE, ORCHESTRATION_ID),
    (SEGMENT_EXPORT_JOB, SEGMENT_ID),
    (SEGMENT_NAMESPACE,),
)
"""What differs from discard to discard. The last two are absent where the job has no segment."""


def _slot(
    document: dict[str, Any], form: Form, key: str, inner: str | None = None
) -> tuple[dict[str, Any], str] | None:
    """The object and the key in it where a value of the URI form stands in this form."""
    path = (key,) if inner is None else (key, inner)
    *parents, leaf = map(str, path if form is Form.URI else xdm.compact_path(path))
    for step in parents:
        document = document[step]
    return (document, leaf) if leaf in document else None


def _id_text(name: bytes) -> str:
    """What `str(uuid5(…))` gives for the namespace's bytes and the name, in a third of the time."""
    text = sha1(name, usedforsecurity=False).hexdigest()
    variant = "89ab"[int(text[16], 16) & 3]
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{variant}{text[17:20]}-{text[20:32]}"


def _refusal(row: OutboxRow, place: int, mould: _Mould, discard: DiscardRow) -> InvalidEvent:
    findings = [str(finding) for finding in violations(mould.document, Contract.EMITTED)]
    if mould.has_no_room(discard):
        findings.append("it names a segment, but the job has none")
    return InvalidEvent(
        f"row {place} of the discard file of job {row.job_id} breaks the contract 'emitted': "
        + "; ".join(findings)
    )


def _blank(document: dict[str, Any], key: str) -> None:
    if key in document:
        document[key] = None
