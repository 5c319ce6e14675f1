"""A file of discards becomes one event for each of its rows."""

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segexport.errors import DiscardFileUnusable
from segexport.events.contract import Contract, Verdict, judge
from segexport.events.discards import Discard, DiscardRow, discard_event_id, expand
from segexport.events.service_event import Segment, ServiceEvent
from segexport.events.vocabulary import (
    EVENT_TYPES,
    SEGMENT_EXPORT_JOB,
    SERVICE_EVENTS,
    Dialect,
    EventCode,
    Form,
)
from segexport.events.xdm import to_compact, to_uri
from support.events import (
    CODES,
    EVERY_VOICE,
    JOB_ID,
    SCOPE,
    SOURCE,
    STORE,
    Life,
    expanded,
    request,
    voice,
)
from support.examples import examples

NAMESPACE = uuid5(STORE, "1")
hostile_names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=128)
discards = st.tuples(
    hostile_names, hostile_names, st.integers(1, 2**63 - 1), st.sampled_from(CODES)
)


def built_anew(life: Life, discard: DiscardRow, sequence: int) -> bytes:
    """The value of a discard's event, made in the straightforward way."""
    namespace, segment, person_id, code = discard
    named = namespace is not None and segment is not None
    document = ServiceEvent(
        id=discard_event_id(life.voice.namespace, JOB_ID, discard),
        job_id=JOB_ID,
        sequence=sequence,
        occurred_at=life.discards.occurred_at,
        event_type=EVENT_TYPES[life.voice.dialect].discard,
        event_code=EventCode(code),
        segment=Segment(namespace or "", segment or "") if named else None,
        segments=None if named else (),
        journey=life.job.request.journey,
        profile_id=person_id,
    ).document()
    return orjson.dumps(to_compact(document) if life.voice.form is Form.COMPACT else document)


LIVES = {
    (spoken, journey): Life(request("gold", journey=journey), voice(*spoken)).completed()
    for spoken in EVERY_VOICE
    for journey in (False, True)
}


@settings(max_examples=examples(300), deadline=None)
@given(st.sampled_from(sorted(LIVES)), st.lists(discards, min_size=1, max_size=5))
def test_every_event_is_valid_and_byte_for_byte_what_building_it_anew_gives(
    key: tuple[tuple[Dialect, Form], bool], rows: list[DiscardRow]
) -> None:
    life = LIVES[key]
    records = expanded(life.discards, rows)
    assert [record.value for record in records] == [
        built_anew(life, row, life.discards.sequence + place) for place, row in enumerate(rows)
    ]
    for record in records:
        assert judge(orjson.loads(record.value), Contract.EMITTED).verdict is Verdict.VALID


@pytest.mark.parametrize("form", Form)
def test_a_job_that_exports_everybody_discards_without_a_segment(form: Form) -> None:
    life = Life(request(), voice(form=form)).completed()
    row: DiscardRow = (None, None, 5, CODES[0])
    (record,) = expanded(life.discards, [row])
    assert record.value == built_anew(life, row, 3)
    document = orjson.loads(record.value)
    uri = to_uri(document) if form is Form.COMPACT else document
    assert uri["https://segexport.example/segments"] == []
    assert b"exportSegmentID" not in record.value


def test_a_record_carries_the_event_id_its_sequence_and_the_keys_of_its_job() -> None:
    life = Life(request("gold")).completed()
    first, second = expanded(
        life.discards, [("ups", "gold", 5, CODES[0]), ("ups", "b", 6, CODES[1])]
    )
    document = orjson.loads(second.value)
    assert second.key == str(JOB_ID).encode()
    assert second.timestamp_ms == 1_772_366_405_123
    assert dict(second.headers) == {
        "content-type": b"application/json",
        "ce_specversion": b"1.0",
        "ce_id": document["@id"].encode(),
        "ce_source": SOURCE.encode(),
        "ce_type": b"segexport.segmentExportJob.discarded",
        "ce_time": document["xdm:timestamp"].encode(),
        "ce_subject": str(JOB_ID).encode(),
        "ce_dataschema": b"urn:segexport:schema:emitted:2",
        "ce_organization": SCOPE.organization.encode(),
        "ce_sandbox": SCOPE.sandbox.encode(),
        "ce_sequence": b"000000000004",
    }
    assert dict(first.headers)["ce_sequence"] == b"000000000003"
    assert document["https://segexport.example/sequence"] == 4


def test_beginning_in_the_middle_gives_the_rest_of_the_same_records() -> None:
    life = Life(request("gold")).completed()
    rows: list[DiscardRow] = [("ups", "gold", person, CODES[0]) for person in range(1, 41)]
    assert expanded(life.discards, rows[25:], start=25) == expanded(life.discards, rows)[25:]


def test_records_are_made_one_by_one_as_they_are_asked_for() -> None:
    def endless() -> Any:
        person = 0
        while True:
            person += 1
            yield Discard("ups", "gold", person, CODES[0])

    records = expand(Life(request("gold")).completed().discards, endless(), 0, SOURCE)
    assert len({next(records).value for _ in range(3)}) == 3


@settings(max_examples=examples(300))
@given(discards, discards)
def test_the_id_is_the_same_for_the_same_discard_and_another_for_any_other(
    one: DiscardRow, other: DiscardRow
) -> None:
    ids = [discard_event_id(NAMESPACE, JOB_ID, discard) for discard in (one, one, other)]
    assert ids[0] == ids[1]
    assert (ids[0] == ids[2]) == (one == other)
    assert ids[0].version == 5


def test_a_slash_in_a_name_does_not_make_two_discards_one() -> None:
    one = discard_event_id(NAMESPACE, JOB_ID, ("a/b", "c", 1, CODES[0]))
    other = discard_event_id(NAMESPACE, JOB_ID, ("a", "b/c", 1, CODES[0]))
    assert one != other


def test_the_id_does_not_depend_on_the_place_in_the_file() -> None:
    row = Life(request("gold")).completed().discards
    one: DiscardRow = ("ups", "gold", 5, CODES[0])
    records = expanded(row, [one, one])
    ids = {orjson.loads(record.value)["@id"] for record in records}
    assert ids == {str(discard_event_id(NAMESPACE, JOB_ID, one))}


def test_the_template_alone_decides_so_later_settings_change_nothing() -> None:
    life = Life(request("gold"), voice(Dialect.JOURNEY_OPTIMIZER, Form.COMPACT)).completed()
    stored = orjson.loads(life.discards.value)
    assert stored["form"] == "compact"
    assert UUID(stored["namespace"]) == life.voice.namespace
    assert stored["event"][SEGMENT_EXPORT_JOB][SERVICE_EVENTS + "eventType"] == "error"
    assert "segmenttrigger-orchestrator" in life.last.value.decode()


@pytest.mark.parametrize(
    ("discard", "complaint"),
    [
        (("ups", "gold", 5, "ERROR_EXPORTJOB_FAILED"), r"eventCode: must be one of .* \[enum\]"),
        (("ups", "gold", 0, CODES[0]), r"profile.ID: must match \^\[1-9\]"),
        (("ups", "gold", -5, CODES[0]), r"profile.ID"),
        (("ups", "", 5, CODES[0]), r"exportSegmentID: must not be shorter than 1"),
        (("ups", "x" * 129, 5, CODES[0]), r"exportSegmentID: must not be longer than 128"),
        ((None, None, 5, CODES[0]), r"exportSegmentID: must be of type string"),
        (("ups", "\ud800", 5, CODES[0]), r"is no discard"),
        (("ups", "gold", 5), r"is no discard"),
    ],
)
def test_a_row_that_is_no_valid_discard_is_refused_by_its_number(
    discard: DiscardRow, complaint: str
) -> None:
    row = Life(request("gold")).completed().discards
    good: DiscardRow = ("ups", "gold", 5, CODES[0])
    records = expand(row, [good, discard], 7, SOURCE)
    next(records)
    with pytest.raises(
        DiscardFileUnusable, match=rf"row 8 of the discard file of job {JOB_ID}"
    ) as found:
        next(records)
    assert found.match(complaint)


def test_a_segment_in_the_file_of_a_job_without_segments_is_refused() -> None:
    row = Life(request()).completed().discards
    with pytest.raises(DiscardFileUnusable, match="names a segment, but its job exports everybody"):
        expanded(row, [("ups", "gold", 5, CODES[0])])


def test_a_template_that_was_tampered_with_yields_no_events() -> None:
    life = Life(request("gold")).completed()
    broken = replace(life.discards, value=life.discards.value.replace(b'"error"', b'"info"'))
    with pytest.raises(DiscardFileUnusable, match="eventType"):
        expanded(broken, [("ups", "gold", 5, CODES[0])])
