"""Keys of the other form in a document, wherever they are."""

from typing import Any

import pytest

from segexport.events.mixture import blocked_ways, mixed_keys
from segexport.events.vocabulary import SEGMENT_EXPORT_JOB, SERVICE_EVENTS, Form
from segexport.events.xdm import table, to_compact


def test_names_that_anybody_may_use_are_of_the_other_form_only_where_that_has_them() -> None:
    document = {SEGMENT_EXPORT_JOB: {"ID": "1"}, "other": {"ID": "1", "timestamp": 5}}
    assert list(mixed_keys(document, Form.URI)) == [(SEGMENT_EXPORT_JOB, "ID")]
    assert list(mixed_keys({**document, "timestamp": 5}, Form.URI)) == [
        ("timestamp",),
        (SEGMENT_EXPORT_JOB, "ID"),
    ]
    compact = {**to_compact({SEGMENT_EXPORT_JOB: {}}), "other": {"@id": "1", "xdm:timestamp": 5}}
    assert list(mixed_keys(compact, Form.COMPACT)) == []
    assert list(mixed_keys({**compact, "@id": "1"}, Form.COMPACT)) == [("@id",)]


@pytest.mark.parametrize("uri", sorted(table()))
@pytest.mark.parametrize("value", [5, None, {}, {"x": 1}, []])
def test_every_known_key_of_the_other_form_is_found_at_every_level(uri: str, value: object) -> None:
    field = table()[uri]
    below: dict[str, Any] = {field.compact[-1]: value}
    for step in reversed(field.compact[:-1]):
        below = {step: below}
    job = {SEGMENT_EXPORT_JOB: {SERVICE_EVENTS + "ID": "1"}}
    assert field.compact in mixed_keys({**job, **below}, Form.URI)
    compact = to_compact(job)
    assert (uri,) in mixed_keys({**compact, uri: value}, Form.COMPACT)
    if len(field.compact) > 1:
        within = {**job, "more": [0, below]}
        assert list(mixed_keys(within, Form.URI)) == [("more", 1, *field.compact)]
        compact["_experience"]["journeyOrchestration"][uri] = value
        assert list(mixed_keys(compact, Form.COMPACT)) == [
            ("_experience", "journeyOrchestration", uri)
        ]


@pytest.mark.parametrize("value", [5, None, [], "journey"])
def test_a_way_to_known_keys_that_ends_in_no_object_is_found(value: object) -> None:
    job = {SEGMENT_EXPORT_JOB: {SERVICE_EVENTS + "ID": "1"}}
    assert list(mixed_keys({**job, "_experience": value}, Form.URI)) == [("_experience",)]
    within = {"_experience": {"journeyOrchestration": value}}
    assert list(mixed_keys({**job, **within}, Form.URI)) == [
        ("_experience", "journeyOrchestration")
    ]
    compact = {**to_compact(job), "_segexport": value, "_experience2": value}
    assert list(blocked_ways(compact)) == [("_segexport",)]
    assert list(blocked_ways(to_compact(job))) == []


def test_a_key_inside_the_entries_of_a_known_map_is_found_too() -> None:
    job = {SEGMENT_EXPORT_JOB: {SERVICE_EVENTS + "ID": "1"}}
    people = {"ECID": [{"xdm:id": "1"}, {"id": 5}]}
    assert list(mixed_keys({**job, "xdm:identityMap": people}, Form.URI)) == [
        ("xdm:identityMap", "ECID", 1, "id")
    ]
    assert list(mixed_keys({**to_compact(job), "identityMap": people}, Form.COMPACT)) == [
        ("identityMap", "ECID", 0, "xdm:id")
    ]
