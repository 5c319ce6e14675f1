"""What is no fragment is refused with its reason; the load goes on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from unittest import mock

import orjson
import pytest

from segexport.profiles import cutting, graph
from segexport.profiles.fragments import EVENT, FRAGMENT
from segexport.profiles.refusals import EXPLANATIONS
from segexport.profiles.rules import MAX_DEPTH, TOO_LARGE
from segexport.profiles.snapshots import ProfileStore
from support.fragments import (
    Document,
    belongs,
    contents,
    event,
    fragment,
    load_records,
    snapshot_of,
)

AT: Final = "2026-01-01T00:00:00Z"
LONG: Final = "x" * 257


def with_identities(*maps: Any) -> list[Document | str | bytes]:
    return [fragment(identityMap=one) for one in maps]


def with_memberships(*maps: Any) -> list[Document | str | bytes]:
    return [fragment(segmentMembership=one) for one in maps]


def member(**more: Any) -> Document:
    return {"ups": {"gold": {"status": "realized", "lastQualificationTime": AT, **more}}}


def nested(opening: str, depth: int, closing: str) -> str:
    """A fragment with an attribute that is so deep."""
    return f'{{"_id": "p", "updatedAt": "{AT}", "deep": {opening * depth}1{closing * depth}}}'


Records = Sequence[Document | str | bytes]

BAD: Final[Mapping[str, Records]] = {
    "too_deep": [
        nested('{"n":', MAX_DEPTH, "}"),
        nested("[", 1_000, "]"),
        nested('{"]": [', 500_000, "]}"),
    ],
    "not_json": ["no json", '{"_id": "1"', '{"_id": "1"} and more', '{"_id": 1}}', "{'_id': 1}"],
    "not_an_object": ["[]", '"text"', "1", "null", "true"],
    "attribute_name": [
        fragment(rank=1),
        fragment(Person_ID="x"),
        fragment(updated_at=AT),
        fragment(**{"a.b": 1}),
        fragment(**{"a,b": 1}),
        fragment(**{"": 1}),
        fragment(**{"line\nbreak": 1}),
        fragment(**{"n" * 129: 1}),
        fragment(IdentityMap={"Email": [{"id": "a"}]}),
        fragment(**{"xdm:identitymap": {}}),
        fragment(segmentmembership={}),
    ],
    "duplicate_name": [
        f'{{"_id": "1", "_id": "2", "updatedAt": "{AT}"}}',
        f'{{"_id": "1", "updatedAt": "{AT}", "updatedAt": "{AT}"}}',
        f'{{"_id": "1", "updatedAt": "{AT}", "level": 1, "level": 1}}',
        f'{{"_id": "1", "updatedAt": "{AT}", "l\\u0065vel": 1, "x": 0, "level": null}}',
        f'{{"_id": "1", "updatedAt": "{AT}", "": 1, "": 1}}',
        f'{{"_id": "1", "updatedAt": "{AT}", "deep": {{"a": 1, "b": 2, "a": {{}}}}}}',
        f'{{"_id": "1", "updatedAt": "{AT}", "deep": [[1, {{"x": [{{"a": 1, "a": 1}}]}}]]}}',
        f'{{"_id": "1", "updatedAt": "{AT}", "level": 1, "xdm:level": 1}}',
        f'{{"_id": "1", "@id": "1", "updatedAt": "{AT}"}}',
        '{"_id": "1", "identityMap": {"E": [{"id": "a"}], "E": []}}',
        '{"_id": "1", "identityMap": {"E": [{"id": "a", "id": "b"}]}}',
    ],
    "identity_map": [
        *with_identities(
            [],
            "x",
            {"Email": {"id": "a"}},
            {"Email": ["a"]},
            {"Email": [{"id": 5}]},
            {"Email": [{}]},
            {"Email": [{"id": "a", "primary": "yes"}]},
            {"Email": [{"id": "a", "primary": 1}]},
        ),
    ],
    "identity": with_identities(
        {"Email": [{"id": ""}]},
        {"Email": [{"id": LONG}]},
        {"Email": [{"id": "a\tb"}]},
        {"": [{"id": "a"}]},
        {"x" * 129: [{"id": "a"}]},
        {"a:b": [{"id": "a"}]},
    ),
    "person_key": [
        fragment(5),
        fragment(""),
        fragment(LONG),
        fragment(None, _id=5),
        fragment(None, _id=LONG),
        fragment(None, _id=""),
    ],
    "no_person_key": [fragment(None), fragment(None, identityMap={"Email": []})],
    "no_update_time": [fragment(at=None), '{"_id": "1", "updatedAt": null}'],
    "update_time": [
        fragment(at=text)
        for text in (
            "yesterday",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-02-30T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:60Z",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00Z",
            "0001-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-01:00",
            "2026-01-01T00:00:00Z\n",
        )
    ]
    + [fragment(at=None, updatedAt=1_767_225_600_000), fragment(at=None, updatedAt={"at": AT})],
    "test_profile": [fragment(testProfile="true"), fragment(testProfile=1)],
    "segment_membership": with_memberships(
        [], "gold", {"ups": ["gold"]}, {"ups": ["gold", None]}, {"ups": {"gold": "x"}, "AAM": []}
    ),
    "segment": [
        fragment(segmentMembership={namespace: {segment: {"lastQualificationTime": AT}}})
        for namespace, segment in (
            ("ups", ""),
            ("", "gold"),
            ("ups", "x" * 129),
            ("x" * 129, "gold"),
            ("ups", "a\nb"),
        )
    ],
    "segment_status": [
        fragment(segmentMembership=member(status=status)) for status in ("entered", "", 5)
    ],
    "qualification_time": [
        fragment(segmentMembership=member(lastQualificationTime=time))
        for time in (None, "", "2026-01-01", 5)
    ]
    + [fragment(segmentMembership={"ups": {"gold": "realized"}})],
    "large_integer": [
        f'{{"_id": "1", "updatedAt": "2026-01-01T00:00:00Z", "n": {10**38 + 1}}}',
        f'{{"_id": "1", "updatedAt": "2026-01-01T00:00:00Z", "n": {{"m": [1, {-(10**38) - 1}]}}}}',
        f'{{"_id": "1", "updatedAt": "2026-01-01T00:00:00Z", "n": [{10**400 + 1}]}}',
    ],
    "inexact_number": [
        f'{{"_id": "1", "updatedAt": "2026-01-01T00:00:00Z", "n": {number}}}'
        for number in (
            "1e400",
            "[-1E+400]",
            "1e-400",
            f"0.{'1' * 39}",
            '{"m": {"o": 1.2345678901234567890123e60}}',
            f"{10**37}.01",
            "5e99999",
            "0.5e99998",
        )
    ],
    "not_utf8": [b'{"_id": "\xff"}'],
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_record_is_refused_with_its_reason_and_the_others_are_loaded(
    reason: str, tmp_path: Path
) -> None:
    records: Records = [fragment("first"), *BAD[reason], fragment("last")]
    report = load_records(tmp_path / "profiles", records)
    assert (report.accepted, report.refused) == (2, {reason: len(BAD[reason])})
    keys = {key for _, key, *_ in contents(snapshot_of(report)).persons}
    assert keys == {"first", "last"}
    assert report.rejects is not None
    rejects = [orjson.loads(line) for line in report.rejects.read_bytes().splitlines()]
    assert [(one["record"], one["reason"]) for one in rejects] == [
        (number, reason) for number in range(2, 2 + len(BAD[reason]))
    ]
    assert {one["explanation"] for one in rejects} == {EXPLANATIONS[reason]}


BAD_EVENTS: dict[str, Records] = {
    "no_event_id": [event(_id=None), event(_id=None, identityMap={"E": [{"id": "x"}]})],
    "no_timestamp": [event(timestamp=None)],
    "timestamp": [event(timestamp=time) for time in ("yesterday", "2026-01-01", 5)],
    "no_person_key": [event(personID=None)],
    "person_key": [event(_id=5)],
    "duplicate_name": [f'{{"personID": "p", "_id": "e", "timestamp": "{AT}", "_id": "e"}}'],
    "attribute_name": [
        event(happened_at="now"),
        event(ingested_at="now"),
        event(IdentityMap={"Email": [{"id": "a"}]}),
    ],
}


@pytest.mark.parametrize("reason", BAD_EVENTS)
def test_a_bad_event_is_refused_with_its_reason_and_the_others_are_loaded(
    reason: str, tmp_path: Path
) -> None:
    records: Records = [event(_id="1"), *BAD_EVENTS[reason], event(_id="2")]
    report = load_records(tmp_path / "profiles", [fragment()], happened=records)
    assert (report.fragments, report.events) == (1, 2)
    assert report.refused == {reason: len(BAD_EVENTS[reason])}
    assert snapshot_of(report).events == 2


BAD_ROWS: dict[str, Records] = {
    "graph_identity": [
        {"id": "a", "person": "P"},
        {"namespace": "Email", "person": "P"},
        {"namespace": "Email", "id": 5, "person": "P"},
        {"namespace": "Email", "id": "", "person": "P"},
        {"namespace": "Email", "id": LONG, "person": "P"},
        {"namespace": "a:b", "id": "a", "person": "P"},
        {"namespace": "", "id": "a", "person": "P"},
    ],
    "duplicate_name": [
        '{"namespace": "Email", "id": "a", "person": "P", "person": "Q"}',
        '{"namespace": "Email", "id": "a", "person": "P", "more": [{"x": 1, "x": 2}]}',
    ],
    "graph_person": [
        {"namespace": "Email", "id": "a"},
        {"namespace": "Email", "id": "a", "person": None},
        {"namespace": "Email", "id": "a", "person": 5},
        {"namespace": "Email", "id": "a", "person": ""},
        {"namespace": "Email", "id": "a", "person": "x" * 386},
    ],
    "too_deep": BAD["too_deep"],
    "not_json": BAD["not_json"],
    "not_an_object": BAD["not_an_object"],
}


@pytest.mark.parametrize("reason", BAD_ROWS)
def test_a_bad_row_of_the_graph_is_refused_with_its_reason_and_the_others_are_loaded(
    reason: str, tmp_path: Path
) -> None:
    rows: Records = [*belongs("P", "Email:a"), *BAD_ROWS[reason], *belongs("x" * 385, "Email:b")]
    report = load_records(tmp_path / "profiles", [], graph=rows)
    assert (report.graph_rows, report.accepted) == (2, 2)
    assert report.refused == {reason: len(BAD_ROWS[reason])}
    assert snapshot_of(report).graph_rows == 2


def test_many_brackets_are_no_depth(tmp_path: Path) -> None:
    records: Records = [
        nested("[", MAX_DEPTH - 1, "]"),
        nested('{"n":', MAX_DEPTH - 1, "}"),
        fragment(wide=[{} for _ in range(1_000)]),
        fragment(text=r"[{\"[" * 1_000),
        nested("[", 1_000, ""),
    ]
    report = load_records(tmp_path / "profiles", records)
    assert (report.accepted, report.refused) == (4, {"not_json": 1})


def test_every_reason_has_records_that_show_it() -> None:
    assert {*BAD, *BAD_EVENTS, *BAD_ROWS, TOO_LARGE} == set(EXPLANATIONS)
    for rules in (FRAGMENT.rules, EVENT.rules, graph.RULES):
        assert len({rule.reason for rule in rules}) == len(rules)


def test_a_reject_names_its_file_and_line_and_keeps_the_text(tmp_path: Path) -> None:
    report = load_records(tmp_path / "profiles", [fragment(), "", "  \t", "{broken  ", fragment()])
    assert report.rejects is not None
    assert orjson.loads(report.rejects.read_bytes()) == {
        "source": str(tmp_path / "profiles-records.ndjson"),
        "record": 4,
        "reason": "not_json",
        "explanation": "the record is not JSON",
        "raw": "{broken  ",
    }


def test_rejects_of_many_chunks_and_threads_stay_in_the_files_order(tmp_path: Path) -> None:
    records: Records = [
        fragment(f"p{n}") if n % 7 else b"\xff" if n % 2 else f"bad {n}" for n in range(2_000)
    ]
    with mock.patch.object(cutting, "BLOCK", 4_096):
        report = load_records(tmp_path / "profiles", records)
    assert report.read == len(records)
    assert report.rejects is not None
    found = [orjson.loads(line)["record"] for line in report.rejects.read_bytes().splitlines()]
    assert found == [number + 1 for number in range(2_000) if not number % 7]


@pytest.mark.parametrize("length", [5_000, 60_000])
def test_a_record_that_is_too_large_is_skipped_and_what_follows_is_read(
    length: int, tmp_path: Path
) -> None:
    records: Records = [fragment("a"), fragment("b", filler="x" * length), "broken", fragment("c")]
    with mock.patch.multiple(cutting, BLOCK=1_024, MAX_RECORD=2_048):
        report = load_records(tmp_path / "profiles", records)
    assert (report.accepted, report.refused) == (2, {"too_large": 1, "not_json": 1})
    assert report.rejects is not None
    first, second = (orjson.loads(line) for line in report.rejects.read_bytes().splitlines())
    assert (first["record"], first["reason"], second["record"]) == (2, "too_large", 3)
    assert first["raw"].startswith('{"personID":"b"')


def test_a_name_that_is_there_twice_in_different_objects_is_no_duplicate(tmp_path: Path) -> None:
    same = {"id": "a", "Id": "b", "xdm": "c"}
    record = fragment(one=same, other=[same, {"other": same}], person={"one": 1})
    report = load_records(tmp_path / "profiles", [record])
    assert (report.accepted, report.refused) == (1, {})


def test_when_all_records_are_refused_the_newest_snapshot_stays(tmp_path: Path) -> None:
    store = tmp_path / "profiles"
    before = snapshot_of(load_records(store, [fragment()]))
    report = load_records(store, ["bad"])
    assert report.snapshot is None
    assert report.rejects is not None
    assert report.rejects.exists()
    assert ProfileStore(store).ids() == (before.id,)


def test_rejects_can_be_sent_elsewhere(tmp_path: Path) -> None:
    elsewhere = tmp_path / "new" / "rejects.ndjson"
    report = load_records(tmp_path / "profiles", ["bad", fragment()], rejects=elsewhere)
    assert report.rejects == elsewhere
    assert len(elsewhere.read_bytes().splitlines()) == 1


def test_an_update_time_named_like_a_column_of_the_store_is_no_attribute(tmp_path: Path) -> None:
    record = {"personID": "p", "updated_at": AT, "x": 1}
    report = load_records(tmp_path / "profiles", [record], update_times=["updated_at"])
    assert [attribute.path for attribute in snapshot_of(report).attributes] == ["personID", "x"]
