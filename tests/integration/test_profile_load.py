"""Loading fragments: what the store holds afterwards."""

import json
import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segexport.errors import ProfileStoreBusy, ProfileStoreError
from segexport.profiles import builder
from segexport.profiles.attributes import MAX_NAMES
from segexport.profiles.builder import Resources, draft
from segexport.profiles.sample import build_sample
from segexport.profiles.snapshots import ProfileStore, SegmentSize
from support.examples import examples
from support.fragments import (
    NOW,
    RESOURCES,
    Document,
    contents,
    expected,
    fragment,
    load_records,
    snapshot_of,
)
from support.own_names import own_names

AT: Final = "2026-01-01T00:00:00Z"
EMAIL: Final = {"Email": [{"id": "a@example.com"}]}
TIMES = st.sampled_from(
    ["2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", "2026-01-02T12:30:00.123456-05:00"]
)
NAMES = st.sampled_from(["a", "b", "ä", "'\"x"])
IDENTITIES = st.dictionaries(
    st.sampled_from(["CRMID", "Email"]),
    st.lists(st.fixed_dictionaries({"id": NAMES}, optional={"primary": st.booleans()}), max_size=3),
)
MEMBERSHIPS = st.dictionaries(
    st.sampled_from(["ups", "AAM"]),
    st.dictionaries(
        NAMES,
        st.fixed_dictionaries(
            {"lastQualificationTime": TIMES},
            optional={"status": st.sampled_from(["realized", "existing", "exited"])},
        ),
    ),
)
FRAGMENTS = st.fixed_dictionaries(
    {"_id": NAMES, "updatedAt": TIMES},
    optional={
        "personID": NAMES,
        "identityMap": IDENTITIES,
        "segmentMembership": MEMBERSHIPS,
        "testProfile": st.booleans(),
        "person": st.fixed_dictionaries(
            {}, optional={"name": st.fixed_dictionaries({"lastName": NAMES})}
        ),
        "points": st.integers(-(2**63), 2**63 - 1),
        "ratio": st.one_of(st.integers(-9, 9), st.sampled_from([0.5, 1e20])),
        "tags": st.lists(NAMES),
        "numbers": st.lists(st.integers(0, 9)),
        "mixed": st.one_of(
            st.integers(0, 9), NAMES, st.fixed_dictionaries({"inner": st.booleans()})
        ),
        "objects": st.lists(st.fixed_dictionaries({"x": st.integers(0, 9)}), min_size=1),
    },
)


@given(loads=st.lists(st.lists(FRAGMENTS, max_size=12), min_size=1, max_size=3))
@settings(max_examples=examples(25), deadline=None)
def test_a_store_holds_what_its_fragments_say_whatever_loads_they_came_in(
    loads: Sequence[Sequence[Document]],
) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(builder, "FRAGMENTS_PER_BUCKET", 4),
    ):
        store = Path(folder) / "profiles"
        so_far: list[Document] = []
        for documents in loads:
            report = load_records(store, documents)
            assert report.accepted == len(documents)
            if not documents:
                continue
            so_far += documents
            snapshot = snapshot_of(report)
            wanted = expected(so_far, snapshot)
            assert contents(snapshot) == wanted
            assert (snapshot.persons, snapshot.fragments) == (len(wanted.persons), len(so_far))


def test_attributes_may_be_called_like_any_column_of_the_store_and_the_loader(
    tmp_path: Path,
) -> None:
    names = [*own_names(), "identities"]
    assert {"document", "every", "position", "person_key", "reason", "file_row_number"} < {*names}
    store = tmp_path / "profiles"
    documents = [
        {**fragment(f"p{number}"), **{name: f"{name} {number}" for name in names}}
        for number in range(3)
    ]
    load_records(store, documents[:2])
    snapshot = snapshot_of(load_records(store, documents[2:]))
    assert contents(snapshot) == expected(documents, snapshot)
    assert {*names} < {attribute.path for attribute in snapshot.attributes}


def test_times_may_be_written_in_every_way_of_rfc_3339(tmp_path: Path) -> None:
    times = ("2026-01-31T12:00:00Z", "2026-01-31t12:00:00z", "2026-01-31 14:30:00.000+02:30")
    documents = [
        fragment(
            f"p{number}",
            at=time,
            segmentMembership={"ups": {"gold": {"lastQualificationTime": time}}},
        )
        for number, time in enumerate(times)
    ]
    found = contents(snapshot_of(load_records(tmp_path / "profiles", documents)))
    assert {row[2] for row in found.fragments} == {datetime(2026, 1, 31, 12)}  # noqa: DTZ001  (UTC)
    assert [row[4] for row in found.memberships] == [datetime(2026, 1, 31, 12)] * 3  # noqa: DTZ001  (UTC)


def test_a_snapshot_never_changes_when_the_next_one_is_made(tmp_path: Path) -> None:
    store = tmp_path / "profiles"
    first = snapshot_of(load_records(store, [fragment("p1")]))
    files = {path: path.read_bytes() for path in first.folder.rglob("*.*")}
    second = snapshot_of(load_records(store, [fragment("p2")]))
    assert (second.persons, second.fragments) == (2, 2)
    assert {path: path.read_bytes() for path in first.folder.rglob("*.*")} == files
    assert ProfileStore(store).ids() == (first.id, second.id)


def test_a_fresh_load_starts_from_nothing(tmp_path: Path) -> None:
    store = tmp_path / "profiles"
    load_records(store, [fragment("p1", only_before=1)])
    snapshot = snapshot_of(load_records(store, [fragment("p2")], fresh=True))
    assert [key for _, key, *_ in contents(snapshot).persons] == ["p2"]
    assert [attribute.path for attribute in snapshot.attributes] == ["personID", "updatedAt"]


def test_ids_sort_by_age_even_when_the_clock_goes_back(tmp_path: Path) -> None:
    store = tmp_path / "profiles"
    older = snapshot_of(load_records(store, [fragment()], now=NOW))
    newer = snapshot_of(load_records(store, [fragment()], now=NOW - timedelta(days=1)))
    assert older.id < newer.id
    assert ProfileStore(store).latest() == newer


def test_two_persons_with_one_id_are_refused_within_a_load_and_across_loads(tmp_path: Path) -> None:
    one_bit = "(md5_number_lower(person_key) & 1)::BIGINT"
    documents = [fragment(f"p{number}") for number in range(3)]
    with pytest.raises(ProfileStoreError, match=r"get the same person id [01]"):
        load_records(tmp_path / "one", documents, person_id=one_bit)
    assert ProfileStore(tmp_path / "one").ids() == ()

    store = tmp_path / "many"
    first = snapshot_of(load_records(store, [fragment("p1")], person_id="7::BIGINT"))
    with pytest.raises(ProfileStoreError, match="'p1' and 'p2' get the same person id 7"):
        load_records(store, [fragment("p2")], person_id="7::BIGINT")
    assert ProfileStore(store).latest() == first


def test_the_manifest_counts_what_the_files_hold(tmp_path: Path) -> None:
    def member(status: str) -> Document:
        return {"ups": {"gold": {"status": status, "lastQualificationTime": AT}}}

    snapshot = snapshot_of(
        load_records(
            tmp_path / "profiles",
            [
                fragment("p1", segmentMembership=member("realized")),
                fragment("p2", segmentMembership=member("existing")),
                fragment("p3", segmentMembership=member("exited")),
                fragment("p4", segmentMembership=member("exited"), identityMap=EMAIL),
            ],
        )
    )
    assert snapshot.segments == (
        SegmentSize(namespace="ups", segment="gold", realized=1, existing=1, exited=2),
    )
    assert snapshot.namespaces == ("Email",)


def test_an_attribute_whose_type_changes_is_json_for_all_fragments(tmp_path: Path) -> None:
    store = tmp_path / "profiles"
    load_records(
        store,
        [
            fragment("p1", "2026-01-01T00:00:00Z", a={"b": 1, "c": {"d": "x"}}, n=1, m=1),
            fragment("p2", "2026-01-02T00:00:00Z", a={"c": {}}),
        ],
    )
    report = load_records(store, [fragment("p3", "2026-01-03T00:00:00Z", a=["y"], n=0.5, m="z")])
    snapshot = snapshot_of(report)
    assert {one.path: one.type for one in snapshot.attributes} == {
        "a": "JSON",
        "m": "JSON",
        "n": "DOUBLE",
        "personID": "VARCHAR",
        "updatedAt": "VARCHAR",
    }
    by_rank = sorted(contents(snapshot).fragments, key=lambda row: row[1])
    assert [row[3:6] for row in by_rank] == [
        ({"b": 1, "c": {"d": "x"}}, 1, 1.0),
        (None, None, None),
        (["y"], "z", 0.5),
    ]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([[], [1]], "BIGINT[]"),
        ([[None], [0.5], [1]], "DOUBLE[]"),
        ([[], [None], ["x"]], "VARCHAR[]"),
        ([[], []], "VARCHAR[]"),
        ([["x"], [1]], "JSON"),
        ([[], [[1]]], "JSON"),
        ([[], [{"x": 1}]], "JSON"),
        ([{}, 1], "BIGINT"),
        ([{"x": None}, "x"], "VARCHAR"),
        ([{"x": {"y": {}}}, {"x": {"z": 1}}], None),
        ([2**53 + 1, 2], "BIGINT"),
        ([2**53 + 1, 0.5], "DECIMAL(38,1)"),
        ([[2**53 + 1], [0.5]], "DECIMAL(38,1)[]"),
        ([2**53, 0.5], "DOUBLE"),
        ([2**53 + 1, 0.5, 1e-10], "DECIMAL(38,10)"),
        ([2**53 + 1, 0.5, 1e30, 1e-10], "JSON"),
        ([2**64, 0.5], "DECIMAL(38,1)"),
        ([2**53 + 1, "x"], "JSON"),
    ],
)
def test_a_type_follows_from_all_values_whatever_their_order_and_loads(
    values: Sequence[Any], kind: str | None, tmp_path: Path
) -> None:
    # Numbers beyond 64 bits are none of orjson's.
    records = [
        json.dumps(fragment(f"p{number}", AT, it=value)) for number, value in enumerate(values)
    ]
    in_turn = [[record] for record in records]
    for name, loads in (("together", [records]), ("apart", in_turn), ("back", in_turn[::-1])):
        for load in loads:
            snapshot = snapshot_of(load_records(tmp_path / name, load))
        assert {one.path: one.type for one in snapshot.attributes}.get("it") == kind, name


def test_an_object_with_very_many_names_is_a_map_in_one_column(tmp_path: Path) -> None:
    many = {f"n{number}": number for number in range(MAX_NAMES + 1)}
    snapshot = snapshot_of(load_records(tmp_path / "profiles", [fragment(few={"x": 1}, many=many)]))
    kinds = {one.path: one.type for one in snapshot.attributes}
    assert (kinds["few.x"], kinds["many"]) == ("BIGINT", "JSON")


def test_top_level_names_that_differ_only_in_case_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProfileStoreError, match="'City' and 'city' differ only in case"):
        load_records(tmp_path / "profiles", [fragment(City="x"), fragment(city="y")])


def test_one_load_at_a_time_and_the_second_is_told_so(tmp_path: Path) -> None:
    store = tmp_path / "profiles"
    with draft(store, now=NOW, resources=RESOURCES):
        with pytest.raises(ProfileStoreBusy, match="another load"):
            load_records(store, [fragment()])
        with pytest.raises(ProfileStoreBusy):
            build_sample(store, profiles=10, seed=1, now=NOW, resources=RESOURCES)
    assert load_records(store, [fragment()]).accepted == 1


def test_leftovers_of_a_killed_load_are_swept_by_the_next(tmp_path: Path) -> None:
    store = tmp_path / "profiles"
    leftover = store / ".staging-00000001-20260101T000000Z" / "snapshot"
    leftover.mkdir(parents=True)
    (leftover / "snapshot.json").write_text("{}")
    assert ProfileStore(store).ids() == ()
    load_records(store, [fragment()])
    assert not list(store.glob(".staging-*"))


def test_a_store_that_cannot_be_written_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "profiles").write_text("a file stands where the store should be")
    with pytest.raises(ProfileStoreError, match="no snapshot was made"):
        load_records(tmp_path / "profiles", [fragment()])


def test_too_little_memory_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    documents = [fragment(f"p{n}", text="x" * 1_000) for n in range(20_000)]
    with pytest.raises(ProfileStoreError, match=r"exports\.memory_limit"):
        load_records(
            tmp_path / "profiles", documents, resources=Resources(threads=2, memory_limit="10MB")
        )
    assert ProfileStore(tmp_path / "profiles").ids() == ()


def test_a_load_tells_how_far_it_is(tmp_path: Path) -> None:
    heard: list[tuple[str, int, int]] = []
    with mock.patch.object(builder, "FRAGMENTS_PER_BUCKET", 2):
        load_records(
            tmp_path / "profiles",
            [fragment(f"p{number}") for number in range(4)],
            progress=lambda *step: heard.append(step),
        )
    size = (tmp_path / "profiles-records.ndjson").stat().st_size
    assert heard == [
        ("reading", size, size),
        ("merging", 0, 2),
        ("merging", 1, 2),
        ("merging", 2, 2),
    ]
