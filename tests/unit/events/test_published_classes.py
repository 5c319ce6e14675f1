"""What is valid to us is valid to XDM's published classes, whose rules the bundle repeats.

The classes are those of the bundle, or with `SEGEXPORT_TEST_XDM` also the published files.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema_rs
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segexport.errors import InvalidEvent
from segexport.events import schema
from segexport.events.compact_schema import compact_schema
from segexport.events.contract import Contract, Verdict, judge
from segexport.events.versions import CURRENT, FIRST
from segexport.events.vocabulary import SEGMENT_EXPORT_JOB, SERVICE_EVENTS, Form
from segexport.events.xdm import (
    form_of,
    table,
    to_compact,
    to_uri,
    without_namespaces,
)
from support.backlog import records
from support.events import EVENTS, GONE, ODD_VALUES, changed
from support.examples import examples
from support.published import CLASSES, EXPERIENCE_EVENT, bundled, fields, judges, published
from support.told import told

JUDGES = judges()
COMPACT_SCHEMA = jsonschema_rs.Draft6Validator(
    compact_schema("service-event"), validate_formats=False, offline=True
)
IDENTITIES = "xdm:identityMap"
CONTEXT = schema.schemas()["extensible"]["definitions"]["@context"]["not"]["properties"]["@context"]
VOCABULARY = {key: about["const"] for key, about in CONTEXT["properties"].items()}

ROOT_KEYS = [
    *(
        "unknown",
        "web",
        "urn:segexport:sequence",
        "urn:x",
        "xdm:other",
        "xdm:",
        "xdm:a b",
        "xdmx:a",
    ),
    *("https://example.com/x", "a://b", "://b", "a://", "x a://b y", "http:/x", "dc:title"),
    *("dcx:title", "schema:", "@type", "@", "a@b", "@context", "_tenant", "_id", "timestamp"),
    *(
        "eventType",
        "identityMap",
        "",
        " ",
        "a:b",
        "xmp",
        "XDM:other",
        " xdm:other",
        "iptc4xmpExt:a",
    ),
]
ODD_KEYS = ["xdm:a\n", "xdm:a\nb", "xdm:\u2028", "\n://x", "a\n://b", "a\r://\r", "x\n@"]
"""With ends of lines, about which the dialects of patterns differ."""
CONTEXTS: list[Any] = [
    *({}, 5, "xdm", {"xdm": "https://ns.adobe.com/xdm/"}, {"xdm": "elsewhere"}),
    *(VOCABULARY, {**VOCABULARY, "more": "x"}, {"dc": VOCABULARY["dc"]}),
]
MAPS: list[Any] = [
    *({}, [], {"Email": {}}, {"Email": []}, {"Email": [5]}, {"Email": [{}]}, {"Email": [[]]}),
    {"Email": [{"xdm:id": "a"}, {"xdm:id": "b", "xdm:primary": True}], "": []},
    {"Email": [{"xdm:id": 5}]},
    {"Email": [{"xdm:primary": "yes"}]},
    {"Email": [{"id": "a"}]},
    {"Email": [{"xdm:authenticatedState": "loggedOut", "xdm:other": 5, "a://b": 5}]},
    {"Email": [{"xdm:authenticatedState": "maybe"}]},
    {"Email": [{"other": 5}]},
]
OBJECTS = [field for field in table().values() if field.short and not field.depth]


def places() -> Iterator[tuple[str, ...]]:
    """Every key that the schemas know, at the root and in the objects."""
    for field in table().values():
        if field.version in (None, CURRENT):
            yield (field.uri,)
    for field in OBJECTS:
        yield from ((field.uri, key) for key in field.short)


PLACES = list(places())
BARE: dict[str, Any] = {SEGMENT_EXPORT_JOB: {SERVICE_EVENTS + "ID": "1"}}
_scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5)
_numbers = st.floats(allow_nan=False, allow_infinity=False)
_json = st.recursive(
    _scalars | _numbers,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)
_right = st.sampled_from([1, 5.0, True, "x", "realized", "exited", "2026-03-01T12:00:00Z", {}])
_values: st.SearchStrategy[Any] = (
    st.sampled_from(ODD_VALUES) | st.sampled_from(MAPS) | _right | _json
)
_contexts: st.SearchStrategy[Any] = st.sampled_from(CONTEXTS)
_keys = st.sampled_from(ROOT_KEYS) | st.text(max_size=8)


@st.composite
def documents(draw: st.DrawFn, keys: st.SearchStrategy[str] = _keys) -> dict[str, Any]:
    """An event, or less, with odd values at known keys, and with keys that nobody knows."""
    name = draw(st.sampled_from(["", *sorted(EVENTS)]))
    document = copy.deepcopy(EVENTS[name] if name else BARE)
    for path in draw(st.lists(st.sampled_from(PLACES), max_size=4)):
        if len(path) == 1 or isinstance(document.get(path[0], {}), dict):
            value = GONE if draw(st.integers(0, 5)) == 0 else copy.deepcopy(draw(_values))
            document = changed(document, *path, to=value)
    if draw(st.booleans()):
        document[IDENTITIES] = copy.deepcopy(draw(st.sampled_from(MAPS)))
    for key in draw(st.lists(keys, max_size=1)):
        if key not in document:
            document[key] = draw(_contexts if key == "@context" else _values)
    return document


def as_experience_event(document: Mapping[str, Any]) -> dict[str, Any]:
    """With the two keys that this class requires and a service event alone need not have."""
    return {"@id": "e1", "xdm:timestamp": "2026-03-01T12:00:00Z", **document}


def refusing(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The judges and classes to which a document in URI form is not valid."""
    return [
        (called, name)
        for called, valid in JUDGES.items()
        for name in CLASSES
        if not valid(as_experience_event(document) if name == EXPERIENCE_EVENT else document, name)
    ]


def require_sound(document: dict[str, Any]) -> int:
    """Fail if a document of either form is valid to us and not to XDM; how often it is valid."""
    valid = 0
    for contract in Contract:
        if judge(document, contract).verdict is Verdict.VALID:
            valid += 1
            converted: Mapping[str, Any] = document
            if form_of(document) is Form.COMPACT:
                converted = without_namespaces(to_uri(document))
            assert refusing(converted) == [], orjson.dumps(document)
    return valid


@settings(
    max_examples=examples(500),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(documents(_keys | st.sampled_from(ODD_KEYS)))
def test_what_is_valid_to_us_is_valid_to_the_published_classes_in_both_forms(
    document: dict[str, Any],
) -> None:
    require_sound(document)
    try:
        compact = to_compact(document)
    except InvalidEvent:
        return
    require_sound(compact)


@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents(st.just("xdm:other")), _keys, _values)
def test_what_is_valid_to_us_in_compact_form_is_so_with_any_key_beside(
    document: dict[str, Any], key: str, value: Any
) -> None:
    try:
        compact = to_compact(document)
    except InvalidEvent:
        return
    require_sound(compact | {key: value})


def test_no_odd_value_at_any_known_key_is_valid_to_us_alone() -> None:
    event = EVENTS["discarded (xdm, everybody)"]
    values = [None, True, 5, 5.5, -(2**63) - 1, "x", "exited", {}, [], MAPS[5], GONE]
    valid = 0
    for path in PLACES:
        for value in values if examples(1) == 1 else [*values, *ODD_VALUES, *MAPS]:
            document = changed(event, *path, to=value)
            valid += require_sound(document)
            valid += require_sound(to_compact(document))
    assert valid > len(PLACES)


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_every_event_is_valid_to_the_published_classes(name: str) -> None:
    assert refusing(EVENTS[name]) == []
    assert require_sound(EVENTS[name]) == len(Contract)
    assert require_sound(to_compact(EVENTS[name])) == len(Contract)
    for valid in JUDGES.values():
        assert valid(EVENTS[name], EXPERIENCE_EVENT)


@pytest.mark.parametrize("form", Form)
def test_every_record_is_valid_to_the_published_classes(form: Form) -> None:
    for record in told(form):
        document = orjson.loads(record.value)
        assert require_sound(document) == len(Contract)


def test_records_of_before_say_what_they_said_and_are_no_events_of_xdm() -> None:
    """That is why the keys were changed: in URI form, their root has keys of no scheme."""
    for record in records():
        document = orjson.loads(record["value"])
        compact = form_of(document) is Form.COMPACT
        assert judge(document, Contract.EMITTED).verdict is Verdict.VALID
        assert (judge(document).verdict is Verdict.VALID) is compact
        if not compact:
            strange = {finding.path[0] for finding in judge(document).findings}
            assert strange == {key for key in document if key.startswith(FIRST.own)}
            assert refusing(document)


@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents())
def test_the_bundled_classes_judge_as_the_published_ones(document: dict[str, Any]) -> None:
    if any(character in key for key in document for character in "\n\r\u2028\u2029"):
        return
    for name in CLASSES:
        ours = schema.fast(str(schema.find(name))).is_valid(document)
        for called, valid in JUDGES.items():
            assert valid(document, name) == ours, (called, name, orjson.dumps(document))


def mixes_forms(document: dict[str, Any]) -> bool:
    """Whether it has keys of both forms, which is found before any schema is asked."""
    return "form" in {finding.rule for finding in judge(document).findings}


@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents(st.just("xdm:other")), _keys, _values)
def test_the_compact_schema_judges_as_the_conversion_does(
    document: dict[str, Any], key: str, value: Any
) -> None:
    if key in table() or mixes_forms(document):
        return
    try:
        compact = to_compact(document)
        compact.setdefault(key, value)
        converted = without_namespaces(to_uri(compact))
    except InvalidEvent:
        return
    if mixes_forms(compact):
        return
    valid = schema.fast("service-event").is_valid(converted)
    assert COMPACT_SCHEMA.is_valid(compact) == valid, orjson.dumps(compact)


def test_the_bundle_has_every_key_with_the_published_type_bounds_and_words() -> None:
    theirs = published() or bundled()
    for name in bundled():
        if name.startswith("https://ns.adobe.com/") and not name.endswith("/common/extensible"):
            assert fields(bundled(), name) == fields(theirs, name), name


def test_a_strange_key_is_named_with_what_would_be_right() -> None:
    (finding,) = judge({SEGMENT_EXPORT_JOB: {SERVICE_EVENTS + "ID": "1"}, "unknown": 5}).findings
    assert (finding.path, finding.rule, finding.value) == (("unknown",), "additionalProperties", 5)
    assert "has a scheme://" in finding.message
