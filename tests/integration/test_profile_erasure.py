"""Erasing persons from the profile store."""

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
from support.people import NOW, Identity, Person, write_snapshot

GOLD = ("ups", "gold")
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


def erase(store: Path, *, in_use: tuple[str, ...] = ()) -> ErasedSnapshots:
    return erase_from_snapshots(
        store,
        find(store, Wanted("Email", "ines@x")),
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
