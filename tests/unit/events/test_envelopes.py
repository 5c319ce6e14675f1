"""Envelopes of other systems, and the events in them."""

import base64
import json
from typing import Any

import pytest

from segexport.events.contract import Verdict, judge
from segexport.events.envelopes import enclosed, envelope_of
from segexport.events.vocabulary import SEGMENT_EXPORT_JOB, SERVICE_EVENTS
from segexport.events.xdm import to_compact

EVENT: dict[str, Any] = {SEGMENT_EXPORT_JOB: {SERVICE_EVENTS + "ID": "1"}}
CLOUD = {"specversion": "1.0", "id": "1", "source": "/jobs", "type": "finished"}
RECORD = {"topic": "events", "partition": 0, "offset": 5, "key": "1"}
STREAMED = {"header": {"schemaRef": {"id": "s"}}, "body": {"xdmMeta": {}, "xdmEntity": EVENT}}
BASE64 = base64.b64encode(json.dumps(EVENT).encode()).decode()

ENVELOPES: list[tuple[str, dict[str, Any], tuple[str | int, ...]]] = [
    ("CloudEvents", {**CLOUD, "datacontenttype": "application/json", "data": EVENT}, ("data",)),
    ("CloudEvents", {**CLOUD, "data": json.dumps(EVENT)}, ("data",)),
    ("CloudEvents", {**CLOUD, "data_base64": BASE64}, ("data_base64",)),
    ("CloudEvents", {**CLOUD, "data_base64": None, "data": EVENT}, ("data",)),
    ("Kafka Connect", {"schema": {"type": "struct", "fields": []}, "payload": EVENT}, ("payload",)),
    ("Kafka Connect", {"schema": None, "payload": EVENT}, ("payload",)),
    ("Kafka Connect", {"schema": {"type": "string"}, "payload": json.dumps(EVENT)}, ("payload",)),
    ("kcat", {**RECORD, "tstype": "create", "ts": 5, "payload": json.dumps(EVENT)}, ("payload",)),
    ("Kafka REST Proxy", {**RECORD, "value": EVENT}, ("value",)),
    ("Kafka REST Proxy", {**RECORD, "value": BASE64}, ("value",)),
    ("Experience Platform streaming", STREAMED, ("body", "xdmEntity")),
    ("Experience Platform streaming", {"body": {"xdmEntity": EVENT}}, ("body", "xdmEntity")),
    (
        "Experience Platform streaming",
        {"messages": [STREAMED]},
        ("messages", 0, "body", "xdmEntity"),
    ),
]


@pytest.mark.parametrize(("name", "document", "path"), ENVELOPES)
def test_an_envelope_is_known_by_its_name_and_opened(
    name: str, document: dict[str, Any], path: tuple[str | int, ...]
) -> None:
    assert judge(document).verdict is Verdict.SAYS_NOTHING
    assert envelope_of(document) == name
    (found,) = enclosed(document)
    assert (found.path, found.envelope, found.document) == (path, name, EVENT)


@pytest.mark.parametrize(
    "document",
    [
        *({}, [], None, 5, "payload", EVENT, to_compact(EVENT)),
        {**EVENT, **CLOUD, "data": {}},
        {**EVENT, **to_compact(EVENT), **CLOUD},
        {"payload": EVENT},
        {"schema": 1, "payload": EVENT, "more": 1},
        {"data": EVENT, "id": "1", "type": "x"},
        {"body": EVENT},
        {"messages": [EVENT]},
        RECORD,
        {"messages": EVENT},
    ],
)
def test_what_is_an_event_or_something_else_is_no_envelope(document: object) -> None:
    assert envelope_of(document) is None
    assert list(enclosed(document)) == []


def test_a_batch_is_opened_message_by_message() -> None:
    document = {"messages": [STREAMED, {"header": {}, "body": {"xdmEntity": {"a": 1}}}]}
    assert [(it.path[1], it.document) for it in enclosed(document)] == [(0, EVENT), (1, {"a": 1})]


@pytest.mark.parametrize("odd", [{"header": {}, "body": {}}, {}, None, "x", [STREAMED]])
def test_a_message_that_is_none_hides_no_other_of_its_batch(odd: object) -> None:
    document = {"messages": [odd, STREAMED, odd]}
    assert envelope_of(document) == "Experience Platform streaming"
    first, event, last = enclosed(document)
    assert (event.path, event.document) == (("messages", 1, "body", "xdmEntity"), EVENT)
    for found, at in ((first, 0), (last, 2)):
        assert found.path == ("messages", at)
        assert judge(found.document).verdict is Verdict.SAYS_NOTHING


def test_an_envelope_in_another_is_opened_too() -> None:
    connect = {"schema": None, "payload": {**CLOUD, "data": EVENT}}
    (found,) = enclosed({**RECORD, "payload": json.dumps(connect)})
    assert (found.path, found.envelope) == (("payload", "payload", "data"), "CloudEvents")
    assert found.document == EVENT


def test_envelopes_are_opened_only_so_deep() -> None:
    document: Any = EVENT
    for _ in range(500):
        document = {"schema": None, "payload": document}
    (found,) = enclosed(document)
    assert judge(found.document).verdict is Verdict.SAYS_NOTHING


@pytest.mark.parametrize(
    "document",
    [
        {**CLOUD, "data": None},
        CLOUD,
        {**RECORD, "payload": None},
        {"schema": None, "payload": None},
        {"messages": []},
        {"body": {"xdmEntity": None}},
    ],
)
def test_an_envelope_with_nothing_in_it_says_nothing(document: dict[str, Any]) -> None:
    (found,) = enclosed(document)
    assert judge(found.document).verdict is Verdict.SAYS_NOTHING


@pytest.mark.parametrize(
    "document",
    [
        {**CLOUD, "data": "finished"},
        {**CLOUD, "data_base64": "{}"},
        {**CLOUD, "data_base64": base64.b64encode(b"\xff").decode()},
        {**RECORD, "payload": '{"a":'},
        {**RECORD, "payload": "\ud800"},
        {**RECORD, "payload": ""},
        {**RECORD, "value": "finished"},
        {**RECORD, "value": base64.b64encode(b'{"a":').decode()},
    ],
)
def test_a_text_in_an_envelope_that_is_no_json_is_told(document: dict[str, Any]) -> None:
    (found,) = enclosed(document)
    assert not found.is_json


def test_names_that_are_there_twice_are_told_of_what_they_concern() -> None:
    document = {"messages": [STREAMED, STREAMED]}
    inside = ("messages", 1, "body", "xdmEntity", "a")
    beside = ("messages", 1, "header", "b")
    around = ("messages",)
    first, second = enclosed(document, [inside, beside, around])
    assert list(first.repeated) == [around]
    assert list(second.repeated) == [inside, beside, around]
    (found,) = enclosed({**RECORD, "payload": '{"a": {"b": 1, "b": 2}}'})
    assert list(found.repeated) == [("payload", "a", "b")]
