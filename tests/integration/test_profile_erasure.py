"""Erasing persons from the profile store."""

import shutil
from pathlib import Path

import duckdb
import orjson
import pytest

from segexport.profiles.builder import Resources
from segexport.profiles.erasure import ErasedSnapshots, erase_from_rejects, erase_from_snapshots
from segexport.profiles.snapshots import ProfileStore, SegmentSize, Snapshot
from segexport.profiles.subjects import Identity as Wanted
from segexport.profiles.subjects import Subject, find, person_ids
from segexport.sql import parquet
from support.fragments import belongs, fragment, identity_map, load_records, person_id
from support.people import NOW, Identity, Person, write_snapshot

GOLD = ("ups", "gold")
EMAIL = Wanted("Email", "ines@x")
INES = Person(
    4,
    fragments=({"tags": ["a"]}, {}),
    identities={"Email": [Identity("ines@x")], "CRM": [Identity("7", primary=True)]},
    memberships={GOLD: "realized"},
    events=({"_id": "e1"},),
)
OTHER = Person(6, identities={"Email": [Identity("other@x")]}, memberships={GOLD: "realized"})
THIRD = Person(3, identities={"Phone": [Identity("ines@x")]}, memberships={GOLD: "exited"})
OLD, NEW = "00000001-20260301T120000Z", "00000002-20260301T130000Z"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_snapshot(tmp_path, [INES, OTHER], snapshot_id=OLD)
    write_snapshot(tmp_path, [INES, OTHER, THIRD], snapshot_id=NEW)
    return tmp_path


def erase(
    store: Path, identity: Wanted = EMAIL, *, in_use: tuple[str, ...] = ()
) -> ErasedSnapshots:
    return erase_from_snapshots(
        store,
        find(store, identity),
        now=NOW,
        resources=Resources(threads=1),
        in_use=in_use,
    )


def contents(snapshot: Snapshot) -> dict[str, list[tuple[object, ...]]]:
    """All rows of a snapshot, by the names of its files."""
    with duckdb.connect() as database:
        return {
            str(file.relative_to(snapshot.folder)): database.execute(
                f"SELECT COLUMNS(lambda name: name <> 'rank') FROM {parquet([file])} ORDER BY ALL"
            ).fetchall()
            for file in snapshot.files()
        }


def test_a_person_is_found_by_any_identity_and_its_namespace_counts(store: Path) -> None:
    identities = frozenset({Wanted("Email", "ines@x"), Wanted("CRM", "7")})
    assert find(store, Wanted("Email", "ines@x")) == [Subject(4, "key:4", identities)]
    assert [each.person_id for each in find(store, Wanted("CRM", "7"))] == [4]
    assert [each.person_id for each in find(store, Wanted("Phone", "ines@x"))] == [3]
    assert find(store, Wanted("Email", "7")) == []


def test_the_next_snapshot_is_as_if_the_person_had_never_been(store: Path, tmp_path: Path) -> None:
    made = erase(store).made
    assert made is not None
    assert made == ProfileStore(store).latest()
    expected = write_snapshot(tmp_path / "expected", [OTHER, THIRD], snapshot_id=NEW)
    assert contents(made) == contents(expected)
    assert (made.persons, made.fragments, made.events) == (2, 2, 0)
    assert made.segments == (
        SegmentSize(namespace="ups", segment="gold", realized=1, existing=0, exited=1),
    )


def test_older_snapshots_that_hold_the_person_are_gone(store: Path) -> None:
    without = write_snapshot(store, [OTHER], snapshot_id="00000000-20260301T110000Z")
    erased = erase(store)
    assert erased.deleted == [OLD, NEW]
    assert erased.made is not None
    assert ProfileStore(store).ids() == (without.id, erased.made.id)
    assert not (store / OLD).exists()


def test_a_snapshot_that_a_job_works_on_stays_and_is_named(store: Path) -> None:
    before = contents(ProfileStore(store).snapshot(NEW))
    erased = erase(store, in_use=(NEW,))
    assert (erased.deleted, erased.in_use) == ([OLD], [NEW])
    assert contents(ProfileStore(store).snapshot(NEW)) == before
    again = erase(store)
    assert (again.made, again.deleted) == (None, [NEW])


def test_an_export_knows_a_person_by_every_key_that_it_may_have_had(store: Path) -> None:
    ids = person_ids(store, find(store, Wanted("Email", "ines@x")))
    assert 4 in ids
    assert len(ids) == 4  # of key:4, CRM:7 and Email:ines@x, and its own
    assert 6 not in ids


def test_refused_records_that_name_an_identity_go_too(store: Path) -> None:
    rejects = store / "rejects" / "x.ndjson"
    rejects.parent.mkdir()
    raw = '{"identityMap": {"Email": [{"id": "%s"}]}}'
    lines = [{"raw": raw % "ines@x"}, {"raw": raw % "xines@x"}, {"raw": "nothing"}]
    rejects.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    assert erase_from_rejects(store, find(store, Wanted("Email", "ines@x"))) == 1
    assert list(map(orjson.loads, rejects.read_bytes().splitlines())) == lines[1:]
    assert erase_from_rejects(store, find(store, Wanted("Email", "ines@x"))) == 0


JOINED = [
    fragment(None, identityMap=identity_map("CRM:1!", "Email:ines@x")),
    fragment(None, identityMap=identity_map("ECID:77!")),
    fragment(None, identityMap=identity_map("CRM:2!")),
]
IDENTITIES = ("CRM:1", "ECID:77", "Phone:5")
"""Of the person in the graph; the phone is in no fragment."""
KEPT = [*belongs("other", "CRM:2"), *belongs("nobody", "Email:none@x")]


def test_a_person_is_found_by_an_identity_that_only_the_graph_knows(tmp_path: Path) -> None:
    store = tmp_path / "profiles"
    load_records(store, JOINED, graph=[*belongs("ines", *IDENTITIES), *KEPT])
    (ines,) = find(store, Wanted("Phone", "5"))
    assert (ines.person_id, ines.person_key) == (person_id("ines"), "ines")
    assert {str(one) for one in ines.identities} == {*IDENTITIES, "Email:ines@x"}
    (nobody,) = find(store, Wanted("Email", "none@x"))
    assert (nobody.person_id, nobody.person_key) == (person_id("nobody"), "nobody")


@pytest.mark.parametrize(
    ("identity", "persons", "rows"), [(("Phone", "5"), 1, 3), (("Email", "none@x"), 2, 1)]
)
def test_the_graph_forgets_a_person_whether_anything_else_is_known_of_it_or_not(
    identity: tuple[str, str], persons: int, rows: int, tmp_path: Path
) -> None:
    store = tmp_path / "profiles"
    load_records(store, JOINED, graph=[*belongs("ines", *IDENTITIES), *KEPT])
    erased = erase(store, Wanted(*identity))
    made = ProfileStore(store).latest()
    assert (made.persons, made.graph_rows, erased.graph_rows) == (persons, 5 - rows, rows)
    assert find(store, Wanted(*identity)) == []
    assert ProfileStore(store).ids() == (made.id,)
    assert identity not in {row[:2] for row in contents(made)["graph.parquet"]}


def test_who_had_other_keys_before_the_graph_is_one_person_with_all_their_ids(
    tmp_path: Path,
) -> None:
    store = tmp_path / "profiles"
    first = load_records(store, JOINED).snapshot
    load_records(store, [], graph=belongs("ines", *IDENTITIES))
    newest = load_records(store, [], graph=belongs("I", *IDENTITIES)).snapshot
    ids = {person_id(key) for key in ("CRM:1", "ECID:77", "ines", "I")}
    assert first is not None
    assert newest is not None
    (ines,) = find(store, Wanted("CRM", "1"))
    assert ines.person_id == person_id("I")
    assert person_ids(store, [ines]) > ids
    for older in ProfileStore(store).ids()[:-1]:  # as somebody may who needs the room
        shutil.rmtree(store / older)
    (ines,) = find(store, Wanted("CRM", "1"))
    assert person_ids(store, [ines]) > ids
    assert person_id("CRM:2") not in person_ids(store, [ines])


def test_older_snapshots_that_know_the_person_by_another_key_are_gone(tmp_path: Path) -> None:
    store = tmp_path / "profiles"
    load_records(store, JOINED)
    load_records(store, [], graph=belongs("ines", *IDENTITIES))
    load_records(store, [], graph=[*belongs("I", *IDENTITIES), *belongs("ines", "CRM:2")])
    erased = erase(store, Wanted("Phone", "5"))
    assert len(erased.deleted) == 3
    made = ProfileStore(store).latest()
    assert ProfileStore(store).ids() == (made.id,)
    assert contents(made)["graph.parquet"] == [("CRM", "2", "ines")]
    assert (made.persons, made.fragments, made.graph_rows) == (1, 1, 1)
