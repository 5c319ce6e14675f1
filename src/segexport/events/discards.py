"""From a file of discards to one event each.

A job can discard millions of profiles. They never enter the store row by row: the outbox
holds one row for the whole file, whose value is a template, and the relay expands it here.
The template says everything that the events share, so a setting that changes between the
end of a job and its delivery changes nothing:

    {"namespace": …, "form": "uri", "event": {…}}

`namespace` is the root of the event ids, `form` how the values are written, `event` the
document in URI form with null wherever the file or the event's place in it speaks. Its keys are
those of the version of the contract that the row keeps.

This is the hottest path of the product, which shows in two ways: one document is filled
again and again instead of built anew, and the ids are put together from the digest.
"""

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha1
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid5

import orjson

from segexport.errors import DiscardFileUnusable
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
from segexport.events.versions import VERSIONS, Version
from segexport.events.vocabulary import OWN, SEGMENT_EXPORT_JOB, Form

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
    `DiscardFileUnusable`, naming the row, for one that breaks the contract.
    """
    template = orjson.loads(row.value)
    root = UUID(template["namespace"]).bytes
    event = template["event"]
    has_segment = SEGMENT_ID in event[SEGMENT_EXPORT_JOB]
    version = VERSIONS[row.contract]
    fill = _filler(event, Form.URI, version)
    is_valid = schema.fast(version.schema, Kind.DISCARDED).is_valid
    compact = template["form"] == Form.COMPACT
    written = xdm.to_compact(event) if compact else event
    fill_written = _filler(written, Form.COMPACT, version) if compact else None
    key = job_key(row.job_id)
    schema_header = ("ce_dataschema", data_schema(row.contract, compact=compact))
    shared = (*shared_headers(row, source), schema_header)
    timestamp_ms = milliseconds(row.occurred_at)
    for place, discard in enumerate(discards, start):
        sequence = row.sequence + place
        try:
            event_id = _id_text(root + _name(row.job_id, discard).encode())
            fill(event_id, sequence, discard)
            if not is_valid(event) or (discard[1] is not None and not has_segment):
                raise _refusal(row, place, event, discard)
            if fill_written:
                fill_written(event_id, sequence, discard)
            value = orjson.dumps(written)
        except (TypeError, ValueError) as error:
            raise DiscardFileUnusable(
                f"row {place} of the discard file of job {row.job_id} is no discard ({error}); "
                "the file is damaged, or something else has written it"
            ) from error
        headers = (*shared, ("ce_id", event_id.encode()), ("ce_sequence", b"%012d" % sequence))
        yield Record(key, value, headers, timestamp_ms)


def _filler(
    document: dict[str, Any], form: Form, version: Version
) -> Callable[[str, int, DiscardRow], None]:
    """A function that makes the document the event of one discard after the other."""
    ids, id_key = _slot(document, form, ID)
    sequences, sequence_key = _slot(document, form, _of(version, SEQUENCE))
    codes, code_key = _slot(document, form, SEGMENT_EXPORT_JOB, EVENT_CODE)
    persons, person_key = _slot(document, form, PROFILE, ORCHESTRATION_ID)
    segments, segment_key = _slot(document, form, SEGMENT_EXPORT_JOB, SEGMENT_ID)
    namespaces, namespace_key = _slot(document, form, _of(version, SEGMENT_NAMESPACE))

    def fill(event_id: str, sequence: int, discard: DiscardRow) -> None:
        namespace, segment, person_id, code = discard
        ids[id_key] = event_id
        sequences[sequence_key] = sequence
        codes[code_key] = code
        persons[person_key] = str(person_id)
        segments[segment_key] = segment
        namespaces[namespace_key] = namespace

    return fill


def _of(version: Version, key: str) -> str:
    """What a key of our own is called in a version."""
    return version.own + key.removeprefix(OWN)


def _slot(document: dict[str, Any], form: Form, *path: str) -> tuple[dict[str, Any], str]:
    """The object and the key in it where a value of the URI form stands in this form.

    What the document does not have (the segment, where the job has none) is written into an
    object that nobody reads.
    """
    *parents, leaf = map(str, path if form is Form.URI else xdm.compact_path(path))
    for step in parents:
        document = document[step]
    return (document if leaf in document else {}), leaf


def _id_text(name: bytes) -> str:
    """What `str(uuid5(…))` gives for the namespace's bytes and the name, five times as fast."""
    text = sha1(name, usedforsecurity=False).hexdigest()
    variant = _VARIANT[text[16]]
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{variant}{text[17:20]}-{text[20:32]}"


_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""A hex digit with its upper two bits set to 10, the variant of RFC 9562."""


def _refusal(
    row: OutboxRow, place: int, event: xdm.Document, discard: DiscardRow
) -> DiscardFileUnusable:
    version = VERSIONS[row.contract]
    findings = [str(finding) for finding in violations(event, Contract.EMITTED, version)]
    if discard[1] is not None and not findings:
        findings = ["it names a segment, but its job exports everybody"]
    return DiscardFileUnusable(
        f"row {place} of the discard file of job {row.job_id} breaks the contract 'emitted': "
        + "; ".join(findings)
    )


def _blank(document: dict[str, Any], key: str) -> None:
    if key in document:
        document[key] = None
