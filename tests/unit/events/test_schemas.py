"""The bundled schemas: what they are, and that both validators read them alike."""

import json
from importlib.resources import files
from typing import Any

import jsonschema
import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings

from segexport.errors import InvalidEvent
from segexport.events import contract, schema
from segexport.events.compact_schema import compact_schema
from segexport.events.mixture import mixed_keys
from segexport.events.parsing import parse
from segexport.events.vocabulary import SEGMENT_EXPORT_JOB, SERVICE_EVENTS, EventCode, Form
from segexport.events.xdm import to_compact
from segexport.jobs.job import FaultKind
from segexport.jobs.lifecycle import Milestone
from segexport.jobs.publication import MAX_COUNT
from support.events import EVENTS, GONE, ODD_VALUES, PATHS, changed, nearly_valid_documents
from support.examples import examples

FIELD_GROUP = schema.schemas()["segment-export-job"]
JOB = FIELD_GROUP["definitions"]["segmentExportJob"]["properties"][SEGMENT_EXPORT_JOB]
KINDS = [kind.value for kind in contract.Kind]


@pytest.mark.parametrize("name", sorted(schema.schemas()))
def test_every_schema_is_valid_draft_06(name: str) -> None:
    document = schema.schemas()[name]
    assert document["$schema"] == "http://json-schema.org/draft-06/schema#"
    jsonschema.Draft6Validator.check_schema(document)


def test_the_field_groups_id_ends_in_a_slash_and_its_property_does_not() -> None:
    assert FIELD_GROUP["$id"] == SEGMENT_EXPORT_JOB + "/"
    assert list(FIELD_GROUP["definitions"]["segmentExportJob"]["properties"]) == [
        SEGMENT_EXPORT_JOB
    ]


def test_the_field_group_has_the_structure_and_keywords_of_xdm() -> None:
    assert FIELD_GROUP["meta:abstract"] is True
    assert FIELD_GROUP["meta:extensible"] is True
    assert FIELD_GROUP["meta:status"] == "stable"
    assert FIELD_GROUP["meta:intendedToExtend"] == [
        "https://ns.adobe.com/experience/journeyOrchestration/stepEvents/journeyStepEvent",
        "https://ns.adobe.com/xdm/context/experienceevent",
    ]
    assert FIELD_GROUP["allOf"] == [{"$ref": "#/definitions/segmentExportJob"}]
    assert "required" not in FIELD_GROUP
    assert "required" not in JOB


def test_the_field_group_has_five_strings_and_three_bounded_integers() -> None:
    count = {"type": "integer", "minimum": 0, "maximum": MAX_COUNT}
    found = {
        key.removeprefix(SERVICE_EVENTS): {
            keyword: value
            for keyword, value in about.items()
            if keyword not in ("title", "description")
        }
        for key, about in JOB["properties"].items()
    }
    assert found == {
        "ID": {"type": "string"},
        "status": {"type": "string"},
        "exportSegmentID": {"type": "string"},
        "eventType": {"type": "string"},
        "eventCode": {"type": "string"},
        "exportCountTotal": count,
        "exportCountRealized": count,
        "exportCountFailed": count,
    }


def test_all_classes_that_the_field_group_extends_are_there() -> None:
    ids = {document["$id"] for document in schema.schemas().values()}
    assert set(FIELD_GROUP["meta:intendedToExtend"]) <= ids


def test_the_words_of_the_contract_are_those_of_the_code() -> None:
    kinds = schema.schemas()["emitted"]["definitions"]
    jobs = [kinds[kind]["properties"][SEGMENT_EXPORT_JOB]["properties"] for kind in KINDS]
    codes: set[str] = set()
    for job in jobs:
        code = job.get(SERVICE_EVENTS + "eventCode", {"enum": []})
        codes |= set(code.get("enum", [code.get("const")]))
    statuses = {
        job[SERVICE_EVENTS + "status"]["const"] for job in jobs if SERVICE_EVENTS + "status" in job
    }
    assert codes == set(EventCode) - {EventCode.ERROR_TOPIC_CREATION}
    assert statuses == set(Milestone)
    assert set(kinds["failed"]["properties"]["https://segexport.example/fault"]["enum"]) == set(
        FaultKind
    )


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_every_event_is_exactly_one_kind(name: str) -> None:
    document = EVENTS[name]
    assert schema.fast("emitted").is_valid(document)
    kinds = [kind for kind in KINDS if schema.fast("emitted", kind).is_valid(document)]
    assert kinds == [contract.kind_of(document)]


def assert_validators_agree(document: Any, name: str, definition: str | None = None) -> None:
    fast = schema.fast(name, definition).is_valid(document)
    reference = schema.reference(name, definition).is_valid(document)
    assert fast == reference, json.dumps(document, indent=1)


@pytest.mark.parametrize(
    "name",
    ["failed (xdm, two segments)", "discarded (journey-optimizer, one segment)"],
)
def test_both_validators_agree_on_every_odd_value_in_every_place(name: str) -> None:
    kind = contract.kind_of(EVENTS[name])
    for path in PATHS:
        for value in [*ODD_VALUES, GONE]:
            document = changed(EVENTS[name], *path, to=value)
            assert_validators_agree(document, "service-event")
            assert_validators_agree(document, "emitted", kind)


@settings(max_examples=examples(1000), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nearly_valid_documents())
def test_both_validators_agree_on_documents_that_are_nearly_valid(document: Any) -> None:
    assert_validators_agree(document, "service-event")
    assert_validators_agree(document, "emitted")
    assert_validators_agree(document, "emitted", contract.kind_of(document))


@settings(max_examples=examples(500), deadline=None)
@given(nearly_valid_documents())
def test_what_is_emitted_is_xdm_and_asking_the_nearest_kind_is_asking_all(document: Any) -> None:
    kind = contract.kind_of(document)
    by_kind = kind is not None and schema.fast("emitted", kind).is_valid(document)
    assert by_kind == schema.fast("emitted").is_valid(document)
    if by_kind:
        assert schema.fast("service-event").is_valid(document)


COMPACT = {
    name: jsonschema_rs.Draft6Validator(compact_schema(name), validate_formats=False, offline=True)
    for name in ("emitted", "service-event")
}


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_every_event_in_compact_form_keeps_the_compact_schema(name: str) -> None:
    assert COMPACT["emitted"].is_valid(to_compact(EVENTS[name]))


@settings(max_examples=examples(1000), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nearly_valid_documents())
def test_the_compact_schema_judges_a_document_like_the_schema_it_is_made_from(
    document: Any,
) -> None:
    try:
        compact = to_compact(document)
    except InvalidEvent:
        return
    if any(mixed_keys(document, Form.URI)):
        return  # judged before any schema: a key of the other form is unknown to one of the two
    for name, validator in COMPACT.items():
        assert validator.is_valid(compact) == schema.fast(name).is_valid(document)


def test_the_compact_schema_says_no_where_the_uri_schema_would_pass_anything() -> None:
    job = {"segmentExportJob": {"exportCountFailed": -5}}
    document = {"_experience": {"journeyOrchestration": {"serviceEvents": job}}}
    assert schema.fast("segment-export-job").is_valid(document)
    assert not schema.fast("service-event").is_valid(document)
    assert not COMPACT["service-event"].is_valid(document)


@pytest.mark.parametrize("name", sorted(schema.schemas()))
def test_every_compact_schema_is_valid_and_stands_alone(name: str) -> None:
    compact = compact_schema(name)
    jsonschema.Draft6Validator.check_schema(compact)
    identifiers = {"emitted": "emitted:2", "emitted-1": "emitted"}
    assert compact["$id"] == f"urn:segexport:schema:{identifiers.get(name, name)}:compact"
    assert '"$ref"' not in json.dumps(compact)
    assert "https://ns.adobe.com/experience/journeyOrchestration/ID" not in json.dumps(compact)


@pytest.mark.parametrize(("value", "valid"), [(1, True), (1.0, True), (1.5, False), (True, False)])
def test_a_whole_float_is_an_integer_and_true_is_not(value: object, valid: bool) -> None:
    document = {SEGMENT_EXPORT_JOB: {SERVICE_EVENTS + "exportCountTotal": value}}
    assert schema.fast("service-event").is_valid(document) is valid
    assert schema.reference("service-event").is_valid(document) is valid


def test_a_schema_is_found_by_name_and_by_id_with_or_without_its_slash() -> None:
    for name in ("segment-export-job", SEGMENT_EXPORT_JOB, SEGMENT_EXPORT_JOB + "/"):
        assert schema.find(name) == "segment-export-job"
    assert schema.find("nothing") is None


def test_no_bundled_schema_has_a_name_twice_in_one_object() -> None:
    folder = files("segexport").joinpath("schemas")
    texts = [file for file in folder.iterdir() if file.name.endswith(".json")]
    assert len(texts) == len(schema.schemas())
    for text in texts:
        assert not parse(text.read_bytes()).repeated, text.name
