"""The identity graph joins fragments into one person, whenever it is loaded."""

import gzip
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from unittest import mock

import duckdb
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segexport.errors import GraphContradiction
from segexport.jobs.reading import parse_request
from segexport.profiles import builder
from segexport.profiles.definitions import define_segment
from segexport.profiles.evaluation import evaluate
from segexport.profiles.loading import load
from segexport.profiles.snapshots import MANIFEST, ProfileStore, Snapshot
from support.examples import examples
from support.fragments import (
    NOW,
    RESOURCES,
    Document,
    belongs,
    contents,
    event,
    expected,
    fragment,
    identity_map,
    load_records,
    person_id,
    persons_by_identity,
    snapshot_of,
    write_lines,
)
from support.workplace import DATASET, Workplace

SHOP: Final = fragment(
    None,
    "2026-01-01T00:00:00Z",
    identityMap=identity_map("CRM:1!", "Email:ines@x"),
    person={"name": {"firstName": "Ines"}},
    loyalty={"tier": "silver", "points": 180},
    segmentMembership={
        "ups": {"gold": {"status": "realized", "lastQualificationTime": "2026-01-01T00:00:00Z"}}
    },
)
WEB: Final = fragment(
    None,
    "2026-01-02T00:00:00Z",
    identityMap=identity_map("ECID:77!"),
    loyalty={"tier": "gold"},
    segmentMembership={
        "ups": {"gold": {"status": "exited", "lastQualificationTime": "2026-01-02T00:00:00Z"}}
    },
)
OTHER: Final = fragment(None, "2026-01-03T00:00:00Z", identityMap=identity_map("CRM:2!"))
INES: Final = belongs("ines", "CRM:1", "Email:ines@x", "ECID:77")


def keys(snapshot: Snapshot) -> list[str]:
    """The keys of all persons, sorted."""
    return sorted(row[1] for row in contents(snapshot).persons)


def graph_rows(snapshot: Snapshot) -> list[tuple[str, str, str]]:
    """The rows of the graph, as they lie in the file."""
    with duckdb.connect() as database:
        return database.execute(f"FROM '{snapshot.graph_file}'").fetchall()


async def exported(folder: Path, *loads: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What an export of everybody writes after these loads, by person."""
    folder.mkdir()
    place = await Workplace.open(folder)
    try:
        for number, options in enumerate(loads):
            now = NOW + timedelta(days=number)
            load_records(place.settings.profiles_folder, now=now, **options)
        request = parse_request({"destination": {"datasetId": DATASET}})
        job = await place.submit(request)
        async with place.working():
            job = await place.ended(job)
        (batch,) = place.dataset.batches()
        with duckdb.connect() as database:
            found = database.execute(f"FROM {batch.relation} ORDER BY person_id")
            names = [name for name, *_ in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    finally:
        await place.store.close()


async def test_joined_fragments_are_exported_as_one_profile_whenever_the_graph_is_loaded(
    tmp_path: Path,
) -> None:
    records = [SHOP, WEB, OTHER]
    together = await exported(tmp_path / "together", {"records": records, "graph": INES})
    first = await exported(tmp_path / "first", {"records": [], "graph": INES}, {"records": records})
    later = await exported(tmp_path / "later", {"records": records}, {"records": [], "graph": INES})
    between = await exported(
        tmp_path / "between",
        {"records": [WEB]},
        {"records": [], "graph": INES},
        {"records": [OTHER, SHOP]},
    )
    assert together == first == later == between
    assert len(together) == 2
    (ines,) = (row for row in together if row["person_id"] == person_id("ines"))
    assert ines["identityMap"] == {
        "CRM": [{"id": "1", "primary": True}],
        "ECID": [{"id": "77", "primary": True}],
        "Email": [{"id": "ines@x", "primary": False}],
    }
    assert ines["person"] == {"name": {"firstName": "Ines"}}
    assert ines["loyalty"] == {"points": 180, "tier": "gold"}


def test_the_latest_statement_about_a_segment_counts_when_persons_are_joined(
    tmp_path: Path,
) -> None:
    store = tmp_path / "profiles"
    load_records(store, [SHOP, WEB])
    snapshot = snapshot_of(load_records(store, [], graph=INES))
    assert [row[3] for row in contents(snapshot).memberships] == ["exited"]
    (gold,) = snapshot.segments
    assert (gold.realized, gold.exited) == (0, 1)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A person of the graph, and all the identities of it."""

    person: str
    identities: Sequence[str]


CLUSTERS: Final = (
    Cluster("P", ("CRM:1", "Email:a", "Email:b")),
    Cluster("CRM:2", ("CRM:2", "Email:c", "ECID:x")),
    Cluster("Q", ("ECID:y", "Email:d", "Phone:'\"ä")),
)
EVERY_ROW: Final = [row for one in CLUSTERS for row in belongs(one.person, *one.identities)]
GRAPH: Final = persons_by_identity(EVERY_ROW)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """A fragment of a cluster, whose time a test has to set."""
    number = draw(st.integers(0, len(CLUSTERS) - 1))
    cluster = CLUSTERS[number]
    chosen = draw(st.lists(st.sampled_from(cluster.identities), unique=True))
    marked = [one + draw(st.sampled_from(["", "!"])) for one in chosen]
    return fragment(
        draw(st.sampled_from([None, None, None, cluster.person, f"named {number}"])),
        _id=f"fragment of {number}",
        identityMap=identity_map(*marked),
        testProfile=draw(st.sampled_from([None, True, False])),
        n=draw(st.sampled_from([None, 1, 2])),
        segmentMembership={
            "ups": {
                draw(st.sampled_from("st")): {
                    "status": draw(st.sampled_from(["realized", "exited"]))
                }
            }
        },
    )


def at_different_times(found: Sequence[Document], order: Sequence[int]) -> list[Document]:
    """The documents, each with a time of its own, not in their order."""
    timed = []
    for document, minute in zip(found, order, strict=False):
        moment = f"2026-01-01T00:{minute:02d}:00Z"
        memberships = {
            "ups": {
                segment: {**one, "lastQualificationTime": moment}
                for segment, one in document["segmentMembership"]["ups"].items()
            }
        }
        timed.append({**document, "updatedAt": moment, "segmentMembership": memberships})
    return timed


@given(
    found=st.lists(documents(), min_size=1, max_size=12),
    order=st.permutations(range(12)),
    loads=st.integers(1, 2),
    data=st.data(),
)
@settings(max_examples=examples(15), deadline=None)
def test_a_graph_that_knows_all_identities_joins_the_same_in_whatever_order_it_comes(
    found: Sequence[Document], order: Sequence[int], loads: int, data: st.DataObject
) -> None:
    timed = at_different_times(found, order)
    steps = st.integers(0, loads)
    when = [data.draw(steps) for _ in timed]
    told = [data.draw(steps) for _ in EVERY_ROW]
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(builder, "FRAGMENTS_PER_BUCKET", 3),
    ):
        store = Path(folder) / "profiles"
        so_far: list[Document] = []
        for step in range(loads + 1):
            new = [one for one, at in zip(timed, when, strict=True) if at == step]
            rows = [row for row, at in zip(EVERY_ROW, told, strict=True) if at == step]
            if report := load_records(store, new, graph=rows) if new or rows else None:
                snapshot = snapshot_of(report)
            so_far += new
        assert contents(snapshot) == expected(so_far, snapshot, GRAPH)
        assert snapshot.graph_rows == len(EVERY_ROW)
        assert (snapshot.persons, snapshot.fragments) == (len(keys(snapshot)), len(timed))


@given(
    found=st.lists(documents(), min_size=2, max_size=12),
    order=st.permutations(range(12)),
    rows=st.dictionaries(st.sampled_from(sorted(GRAPH)), st.sampled_from(["P", "Q", "CRM:2"])),
)
@settings(max_examples=examples(15), deadline=None)
def test_a_graph_that_is_there_before_decides_by_each_fragments_first_known_identity(
    found: Sequence[Document], order: Sequence[int], rows: Mapping[tuple[str, str], str]
) -> None:
    timed = at_different_times(found, order)
    graph = [row for (ns, name), person in rows.items() for row in belongs(person, f"{ns}:{name}")]
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "profiles"
        load_records(store, timed[:1], graph=graph)
        snapshot = snapshot_of(load_records(store, timed[1:]))
        assert contents(snapshot) == expected(timed, snapshot, rows)


def test_a_person_of_the_graph_is_the_one_with_this_person_id_and_identities_tell(
    tmp_path: Path,
) -> None:
    named = fragment("ines", identityMap=identity_map("Phone:5"))
    raw = fragment(None, identityMap=identity_map("CRM:9!"))
    snapshot = snapshot_of(
        load_records(
            tmp_path / "profiles", [named, SHOP, raw], graph=[*INES, *belongs("CRM:9", "A:1")]
        )
    )
    assert keys(snapshot) == ["CRM:9", "ines"]


def test_who_is_named_by_a_person_id_stays_whatever_the_graph_says(tmp_path: Path) -> None:
    store = tmp_path / "profiles"
    named = {**SHOP, "personID": "1"}
    seen = event("2", identityMap=identity_map("ECID:77"))
    load_records(store, [named, OTHER], happened=[seen])
    snapshot = snapshot_of(load_records(store, [], graph=INES))
    assert keys(snapshot) == ["1", "2", "CRM:2"]
    assert keys(snapshot_of(load_records(store, [named], happened=[seen]))) == keys(snapshot)


def test_a_new_row_takes_the_place_of_an_older_one_and_persons_follow(tmp_path: Path) -> None:
    store = tmp_path / "profiles"
    load_records(store, [SHOP, WEB, OTHER], graph=INES)
    report = load_records(store, [], graph=belongs("I", "CRM:1", "Email:ines@x", "ECID:77"))
    snapshot = snapshot_of(report)
    assert (report.moved, snapshot.graph_rows) == (1, 3)
    assert keys(snapshot) == ["CRM:2", "I"]
    later = snapshot_of(load_records(store, [WEB]))
    assert (keys(later), later.fragments) == (["CRM:2", "I"], 4)


def test_a_joined_person_is_not_split_again_unless_the_store_is_filled_afresh(
    tmp_path: Path,
) -> None:
    store = tmp_path / "profiles"
    load_records(store, [SHOP, WEB], graph=INES)
    apart = belongs("somebody", "ECID:77")
    assert keys(snapshot_of(load_records(store, [], graph=apart))) == ["ines"]
    fresh = load_records(store, [SHOP, WEB], graph=[*INES[:2], *apart], fresh=True)
    assert keys(snapshot_of(fresh)) == ["ines", "somebody"]


def test_rows_lead_no_further_than_one_step(tmp_path: Path) -> None:
    chain = [*belongs("CRM:2", "CRM:1"), *belongs("end", "CRM:2")]
    snapshot = snapshot_of(load_records(tmp_path / "profiles", [SHOP, OTHER], graph=chain))
    assert keys(snapshot) == ["CRM:2", "end"]


def test_two_rows_that_contradict_each_other_are_an_error_that_names_them(tmp_path: Path) -> None:
    store = tmp_path / "profiles"
    before = snapshot_of(load_records(store, [SHOP], graph=INES))
    one = write_lines(tmp_path / "one.ndjson", [*belongs("A", "CRM:1"), *belongs("B", "X:1")])
    two = write_lines(tmp_path / "two.ndjson", ["", *belongs("A", "X:2"), *belongs("B", "CRM:1")])
    with pytest.raises(GraphContradiction) as caught:
        load(store, [], graph=[one, two], now=NOW, resources=RESOURCES)
    assert f"CRM:1 to 'A' ({one}, record 1) and to 'B' ({two}, record 3)" in str(caught.value)
    assert ProfileStore(store).ids() == (before.id,)
    assert not list(store.glob(".staging-*"))
    same = load(store, [], graph=[one, one], now=NOW, resources=RESOURCES)
    assert same.graph_rows == 4


@pytest.mark.parametrize(("first", "second"), [("ECID:77", "CRM:1"), ("CRM:1", "ECID:77")])
def test_events_follow_and_of_two_with_one_id_the_one_that_was_loaded_first_stays(
    first: str, second: str, tmp_path: Path
) -> None:
    store = tmp_path / "profiles"

    def seen(identity: str, name: str, minute: int, n: int) -> Document:
        moment = f"2026-01-01T00:{minute:02d}:00Z"
        return event(None, _id=name, timestamp=moment, n=n, identityMap=identity_map(identity))

    with mock.patch.object(builder, "FRAGMENTS_PER_BUCKET", 2):
        load_records(store, [], happened=[seen(first, "v", 9, 1), seen(first, "w", 1, 2)])
        later = [seen(second, "v", 0, 3), seen(second, "x", 5, 4), seen("CRM:2", "v", 3, 5)]
        load_records(store, [], happened=later, now=NOW + timedelta(days=1))
        snapshot = snapshot_of(
            load_records(store, [], happened=[seen("CRM:1", "v", 2, 6)], graph=INES)
        )
    with duckdb.connect() as database:
        files = str(snapshot.folder / "bucket=*" / "events.parquet")
        found = database.execute(
            "SELECT n, rank FROM read_parquet(?, hive_partitioning = false) "
            "WHERE person_id = ? ORDER BY rank",
            [files, person_id("ines")],
        ).fetchall()
    assert [n for n, _ in found] == [2, 4, 1]
    assert len({rank for _, rank in found}) == 3
    assert (snapshot.persons, snapshot.events) == (2, 4)


def test_of_equally_old_fragments_the_last_loaded_wins_where_that_is_known(
    tmp_path: Path,
) -> None:
    def same_time(identity: str, n: int) -> Document:
        return fragment(None, n=n, identityMap=identity_map(identity))

    store, others = tmp_path / "profiles", range(1, 20)
    rows = belongs("A:0", *(f"A:{n}" for n in others))
    with mock.patch.object(builder, "FRAGMENTS_PER_BUCKET", 5):
        first = snapshot_of(load_records(store, [same_time(f"A:{n}", n) for n in range(20)]))
        snapshot = snapshot_of(load_records(store, [same_time("A:3", 20)], graph=rows))
    fragments = contents(snapshot).fragments
    assert [row[1] for row in fragments] == list(range(1, 22))
    home = person_id("A:0") % first.buckets
    at_home = [n for n in range(20) if person_id(f"A:{n}") % first.buckets == home]
    in_order = [row[3] for row in fragments]
    assert first.buckets == 4
    assert sorted(in_order) == list(range(21))
    assert in_order[-1 - len(at_home) :] == [*at_home, 20]


@pytest.mark.parametrize("status", ["realized", "exited"])
def test_of_equally_late_statements_about_a_segment_those_of_the_person_joined_to_count(
    status: str, tmp_path: Path
) -> None:
    def standing(identity: str, status: str) -> Document:
        one = {"status": status, "lastQualificationTime": "2026-01-01T00:00:00Z"}
        return fragment(
            None, identityMap=identity_map(identity), segmentMembership={"ups": {"gold": one}}
        )

    store = tmp_path / "profiles"
    load_records(store, [standing("A:1", status), standing("A:2", "existing")])
    joined = snapshot_of(load_records(store, [], graph=belongs("A:1", "A:2")))
    assert [row[3] for row in contents(joined).memberships] == [status]
    newer = snapshot_of(load_records(store, [standing("A:2", "existing")]))
    assert [row[3] for row in contents(newer).memberships] == ["existing"]


def test_attributes_may_be_called_like_what_a_move_needs(tmp_path: Path) -> None:
    store = tmp_path / "profiles"
    names = ["bucket", "id", "moved", "namespace", "old_id", "own", "person_key", "position"]
    records = [
        {**one, **{name: f"{name} {n}" for name in names}} for n, one in enumerate((SHOP, WEB))
    ]
    load_records(store, records)
    snapshot = snapshot_of(load_records(store, [], graph=INES))
    assert contents(snapshot) == expected(records, snapshot, persons_by_identity(INES))


def test_a_graph_comes_from_every_kind_of_file_and_may_come_alone(tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "a.ndjson", INES)
    packed = tmp_path / "b.json.gz"
    packed.write_bytes(gzip.compress(orjson.dumps(INES)))
    table = tmp_path / "c.parquet"
    with duckdb.connect() as database:
        database.execute(f"COPY (SELECT *, 1 AS more FROM '{lines}') TO '{table}'")
    found: list[tuple[int, list[tuple[str, str, str]]]] = []
    for file in (lines, packed, table):
        store = tmp_path / file.stem
        report = load(store, [], graph=[file], now=NOW, resources=RESOURCES)
        snapshot = snapshot_of(report)
        assert (snapshot.persons, snapshot.buckets, report.graph_rows) == (0, 1, 3)
        found.append((snapshot.graph_rows, graph_rows(snapshot)))
    assert (
        found
        == [(3, [("CRM", "1", "ines"), ("ECID", "77", "ines"), ("Email", "ines@x", "ines")])] * 3
    )


def test_a_graph_that_does_not_change_is_the_same_file_in_every_snapshot(tmp_path: Path) -> None:
    store = tmp_path / "profiles"
    first = snapshot_of(load_records(store, [SHOP], graph=INES))
    again = load_records(store, [WEB], graph=INES)
    silver = define_segment(store, "silver", "loyalty.tier = 'silver'")
    evaluated = evaluate(store, [silver], now=NOW, resources=RESOURCES)
    assert again.moved == 0
    snapshots = [first, snapshot_of(again), evaluated]
    assert {one.graph_file.stat().st_ino for one in snapshots} == {first.graph_file.stat().st_ino}
    assert [one.graph_rows for one in snapshots] == [3, 3, 3]
    assert keys(snapshot_of(load_records(store, [WEB]))) == ["ines"]


def test_a_snapshot_from_before_there_were_graphs_is_read_and_takes_one(tmp_path: Path) -> None:
    store = tmp_path / "profiles"
    old = snapshot_of(load_records(store, [SHOP, WEB]))
    manifest = old.folder / MANIFEST
    document = orjson.loads(manifest.read_bytes())
    del document["graph_rows"]
    manifest.write_bytes(orjson.dumps(document))
    assert ProfileStore(store).latest().graph_rows == 0
    assert keys(snapshot_of(load_records(store, [], graph=INES))) == ["ines"]
