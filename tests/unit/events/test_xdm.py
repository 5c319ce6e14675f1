"""URI form and compact form: two ways to write the same document."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segexport.errors import InvalidEvent
from segexport.events.versions import CURRENT, FIRST, VERSIONS, Version
from segexport.events.vocabulary import ORCHESTRATION, SEGMENT_EXPORT_JOB, SERVICE_EVENTS, Form
from segexport.events.xdm import Field, compact_path, form_of, table, to_compact, to_uri
from support.events import EVENTS
from support.examples import examples

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
COMPACT_NAMES = {field.compact[0] for field in table().values()}
UNKNOWN = st.text().filter(lambda key: key not in table() and key not in COMPACT_NAMES)


def field_values(uri: str) -> st.SearchStrategy[Any]:
    """Anything, and objects with some known and some unknown keys."""
    field = table()[uri]
    if not field.short:
        return JSON
    unknown = st.text().filter(lambda key: key not in field.short and key not in field.long)
    keys = st.sampled_from(sorted(field.short)) | unknown
    return JSON.filter(lambda value: not isinstance(value, dict)) | st.dictionaries(keys, JSON)


def uri_documents(version: Version) -> st.SearchStrategy[dict[str, Any]]:
    """Any values at keys of this version, and of none."""
    return st.builds(
        lambda known, unknown: known | unknown,
        st.fixed_dictionaries(
            {}, optional={field.uri: field_values(field.uri) for field in fields_of(version)}
        ),
        st.dictionaries(UNKNOWN, JSON, max_size=3),
    )


def fields_of(version: Version) -> list[Field]:
    return [field for field in table().values() if field.version in (None, version)]


versioned_documents = st.sampled_from([FIRST, CURRENT]).flatmap(
    lambda version: st.tuples(st.just(version), uri_documents(version))
)


@settings(max_examples=examples(500), deadline=None)
@given(versioned_documents)
def test_a_document_survives_the_way_to_compact_form_and_back(
    versioned: tuple[Version, dict[str, Any]],
) -> None:
    version, document = versioned
    before = copy.deepcopy(document)
    compact = to_compact(document)
    assert to_uri(compact, version) == document
    assert to_compact(to_uri(compact, version)) == compact
    assert to_compact(to_uri(compact)) == compact
    assert document == before


@settings(max_examples=examples(200), deadline=None)
@given(uri_documents(CURRENT))
def test_unknown_keys_stay_beside_the_known_ones_on_every_level(document: dict[str, Any]) -> None:
    compact = to_compact(document)
    home = compact.setdefault("_experience", {}).setdefault("journeyOrchestration", {})
    home["unknown"] = {"deep": 1}
    back = to_uri(compact)
    assert back.pop("_experience") == {"journeyOrchestration": {"unknown": {"deep": 1}}}
    assert back == document


def test_an_object_that_is_partly_known_is_completed_in_a_copy() -> None:
    document = {
        "_experience": {"journeyOrchestration": {"unknown": 1}, "other": 2},
        SEGMENT_EXPORT_JOB: {SERVICE_EVENTS + "ID": "1"},
    }
    before = copy.deepcopy(document)
    compact = to_compact(document)
    home = {"unknown": 1, "serviceEvents": {"segmentExportJob": {"ID": "1"}}}
    assert compact == {"_experience": {"journeyOrchestration": home, "other": 2}}
    assert document == before


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_every_event_survives_both_ways(name: str) -> None:
    assert to_uri(to_compact(EVENTS[name])) == EVENTS[name]


def test_the_compact_form_nests_short_names() -> None:
    document = {
        "@id": "e1",
        "xdm:timestamp": "2026-03-01T12:00:00Z",
        ORCHESTRATION + "serviceType": "serviceEvents.segmentExportJob",
        SEGMENT_EXPORT_JOB: {SERVICE_EVENTS + "ID": "1"},
        ORCHESTRATION + "journey": {ORCHESTRATION + "versionID": "v1"},
        ORCHESTRATION + "profile": {ORCHESTRATION + "ID": "5"},
        ORCHESTRATION + "stepEvents": {ORCHESTRATION + "journeyVersionID": "v1"},
        "https://segexport.example/sequence": 1,
    }
    assert to_compact(document) == {
        "_id": "e1",
        "timestamp": "2026-03-01T12:00:00Z",
        "_experience": {
            "journeyOrchestration": {
                "serviceType": "serviceEvents.segmentExportJob",
                "serviceEvents": {"segmentExportJob": {"ID": "1"}},
                "journey": {"versionID": "v1"},
                "profile": {"ID": "5"},
                "stepEvents": {"journeyVersionID": "v1"},
            }
        },
        "_segexport": {"sequence": 1},
    }


def test_no_two_fields_share_a_home_and_no_home_lies_inside_another() -> None:
    for version in VERSIONS.values():
        homes = [field.compact for field in fields_of(version)]
        for home in homes:
            others = [other for other in homes if other is not home]
            assert not [other for other in others if other[: len(home)] == home]
    for field in table().values():
        assert len(set(field.short.values())) == len(field.short)


def test_the_form_is_told_by_where_the_job_stands() -> None:
    uri = {SEGMENT_EXPORT_JOB: {SERVICE_EVENTS + "ID": "1"}}
    assert form_of(uri) is Form.URI
    assert form_of(to_compact(uri)) is Form.COMPACT
    assert form_of({}) is None
    assert form_of({"_experience": {"journeyOrchestration": 5}}) is None
    with pytest.raises(InvalidEvent, match="keep one of them"):
        form_of({**uri, **to_compact(uri)})


@pytest.mark.parametrize(
    "document",
    [
        {"@id": "1", "_id": "2"},
        {"_experience": 5, SEGMENT_EXPORT_JOB: {}},
        {"_experience": {"journeyOrchestration": []}, SEGMENT_EXPORT_JOB: {}},
        {SEGMENT_EXPORT_JOB: {SERVICE_EVENTS + "ID": "1", "ID": "2"}},
        {FIRST.own + "sequence": 1, CURRENT.own + "sequence": 1},
        {CURRENT.own + "sequence": 1, FIRST.own + "segmentNamespace": "ups"},
    ],
)
def test_a_document_that_mixes_the_forms_is_not_converted(document: dict[str, Any]) -> None:
    with pytest.raises(InvalidEvent):
        to_compact(document)


def test_a_compact_document_with_uri_keys_in_the_way_is_not_converted() -> None:
    with pytest.raises(InvalidEvent, match="already stands in its place"):
        to_uri({"_id": "1", "@id": "2"})
    job = {"ID": "1", SERVICE_EVENTS + "ID": "2"}
    home = {"serviceEvents": {"segmentExportJob": job}}
    document = {"_experience": {"journeyOrchestration": home}}
    with pytest.raises(InvalidEvent, match="same key in two forms"):
        to_uri(document)


def test_paths_are_converted_like_the_values_they_lead_to() -> None:
    home = ("_experience", "journeyOrchestration", "serviceEvents", "segmentExportJob")
    assert compact_path((SEGMENT_EXPORT_JOB,)) == home
    assert compact_path((SEGMENT_EXPORT_JOB, SERVICE_EVENTS + "ID")) == (*home, "ID")
    assert compact_path(("https://segexport.example/segments", 3, "segment")) == (
        *("_segexport", "segments", 3),
        "segment",
    )
    assert compact_path(("unknown", "x")) == ("unknown", "x")
    assert compact_path(()) == ()
