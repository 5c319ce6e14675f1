"""Opening snapshots: what is there, what is missing, what is damaged."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from segexport.errors import ProfileStoreCorrupt, ProfileStoreMissing
from segexport.profiles.builder import FRAGMENTS_PER_BUCKET, buckets_for
from segexport.profiles.catalogue import Catalogue, Merging
from segexport.profiles.definitions import define_policy
from segexport.profiles.remembered import Remembered
from segexport.profiles.snapshots import FORMAT, MANIFEST, ProfileStore, Snapshot, next_snapshot_id
from support.people import NOW, Person, write_snapshot

PEOPLE = (Person(1, memberships={("ups", "gold"): "realized"}), Person(2), Person(3))


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return write_snapshot(tmp_path, PEOPLE)


def test_a_snapshot_is_read_as_it_was_written(snapshot: Snapshot) -> None:
    store = ProfileStore(snapshot.folder.parent)
    assert store.latest() == snapshot
    assert store.snapshot(snapshot.id) == snapshot


def test_the_latest_is_the_newest_and_older_ones_stay(tmp_path: Path) -> None:
    ids = [f"{number:08d}-20260301T120000Z" for number in (9, 10, 11)]
    for snapshot_id in reversed(ids):
        write_snapshot(tmp_path, PEOPLE, snapshot_id=snapshot_id)
    store = ProfileStore(tmp_path)
    assert store.ids() == tuple(ids)
    assert store.latest().id == ids[-1]
    assert store.snapshot(ids[0]).id == ids[0]


def test_a_store_sees_a_snapshot_that_was_made_after_it_was_opened(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    assert store.ids() == ()
    made = write_snapshot(tmp_path, PEOPLE)
    assert store.latest() == made


def test_a_snapshot_is_checked_once_and_then_remembered(snapshot: Snapshot) -> None:
    store = ProfileStore(snapshot.folder.parent)
    assert store.snapshot(snapshot.id) is store.snapshot(snapshot.id)


def test_a_snapshot_in_the_place_of_one_with_its_id_is_opened_anew(snapshot: Snapshot) -> None:
    store = ProfileStore(snapshot.folder.parent)
    store.latest()
    snapshot.folder.rename(snapshot.folder.with_name("away"))
    other = write_snapshot(snapshot.folder.parent, PEOPLE[:2], snapshot_id=snapshot.id)
    assert store.latest() == other != snapshot


def test_what_is_defined_is_seen_at_once_however_quickly_it_changes(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    assert store.catalogue() == Catalogue()
    for number in range(30):
        datasets = [f"d{number}"]
        defined = define_policy(tmp_path, "m", Merging.DATASET_PRECEDENCE, datasets)
        assert store.catalogue().policy("m") == defined
        assert store.catalogue() is store.catalogue()


def test_a_file_is_read_again_only_when_it_was_replaced(tmp_path: Path) -> None:
    file, following = tmp_path / "file", tmp_path / "following"
    reads: list[str] = []

    def read(path: Path) -> str:
        reads.append(path.read_text())
        return reads[-1]

    remembered = Remembered(read)
    with pytest.raises(FileNotFoundError):
        remembered.get(file)
    for content in ("one", "two", "six"):
        # As long, and within the same tick of the file system's clock.
        following.write_text(content)
        following.rename(file)
        assert [remembered.get(file) for _ in range(3)] == [content] * 3
    assert reads == ["one", "two", "six"]
    file.unlink()
    with pytest.raises(FileNotFoundError):
        remembered.get(file)


def test_of_many_files_only_those_asked_for_last_are_kept(tmp_path: Path) -> None:
    """Each job that evaluates segments makes a snapshot, and a service runs for months."""
    reads: list[str] = []

    def read(path: Path) -> str:
        reads.append(path.name)
        return path.name

    files = [tmp_path / f"{number}" for number in range(5)]
    for file in files:
        file.touch()
    remembered = Remembered(read, most=3)
    for asked in (0, 1, 2, 0, 3, 0, 4, 2, 0, 1):
        remembered.get(files[asked])
    assert reads == ["0", "1", "2", "3", "4", "2", "1"]


def test_without_a_store_the_error_says_how_to_make_one(tmp_path: Path) -> None:
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(ProfileStoreMissing, match="segexport profiles load"):
            ProfileStore(folder).latest()


@pytest.mark.parametrize(
    "name", ["00000002-20260301T120000Z", "..", "", "../x", ".", "rejects", "/etc"]
)
def test_an_unknown_snapshot_is_missing_and_the_error_names_those_there(
    name: str, snapshot: Snapshot
) -> None:
    with pytest.raises(ProfileStoreMissing, match=snapshot.id):
        ProfileStore(snapshot.folder.parent).snapshot(name)


def test_a_folder_without_a_manifest_is_not_visible(tmp_path: Path) -> None:
    (tmp_path / "00000001-20260301T120000Z").mkdir()
    assert ProfileStore(tmp_path).ids() == ()


def test_a_snapshot_that_was_deleted_is_missing_even_if_it_was_opened_before(
    snapshot: Snapshot,
) -> None:
    store = ProfileStore(snapshot.folder.parent)
    store.snapshot(snapshot.id)
    (snapshot.folder / MANIFEST).unlink()
    with pytest.raises(ProfileStoreMissing):
        store.snapshot(snapshot.id)


def _drop(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda document: document.pop(name)


@pytest.mark.parametrize(
    "damage",
    [
        *map(_drop, ("format", "id", "buckets", "attributes", "segments", "files")),
        lambda document: document.update(id="00000009-20260301T120000Z"),
        lambda document: document.update(buckets="many"),
        lambda document: document.update(attributes=[{"path": "x"}]),
        lambda document: document.update(attributes=5),
        lambda document: document.update(files=5),
        lambda document: document.update(created_at="yesterday"),
    ],
)
def test_a_damaged_manifest_is_an_error_that_names_it(
    damage: Callable[[dict[str, Any]], Any], snapshot: Snapshot
) -> None:
    manifest = snapshot.folder / MANIFEST
    document = orjson.loads(manifest.read_bytes())
    damage(document)
    manifest.write_bytes(orjson.dumps(document))
    with pytest.raises(ProfileStoreCorrupt, match=str(manifest)):
        ProfileStore(snapshot.folder.parent).latest()


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff"])
def test_a_manifest_that_is_no_manifest_is_an_error(text: bytes, snapshot: Snapshot) -> None:
    (snapshot.folder / MANIFEST).write_bytes(text)
    with pytest.raises(ProfileStoreCorrupt, match="cannot be read"):
        ProfileStore(snapshot.folder.parent).snapshot(snapshot.id)


def test_a_snapshot_of_a_later_segexport_is_refused_with_advice(snapshot: Snapshot) -> None:
    manifest = snapshot.folder / MANIFEST
    document = orjson.loads(manifest.read_bytes())
    manifest.write_bytes(orjson.dumps({"format": FORMAT + 1, "id": document["id"]}))
    with pytest.raises(ProfileStoreCorrupt, match="upgrade segexport"):
        ProfileStore(snapshot.folder.parent).latest()


def test_every_missing_or_shortened_file_is_found(snapshot: Snapshot) -> None:
    files = list(snapshot.files())
    assert len(files) == 1 + snapshot.buckets * 4
    for file in files:
        whole = file.read_bytes()
        for damaged in (None, whole[:-1]):
            if damaged is None:
                file.unlink()
            else:
                file.write_bytes(damaged)
            with pytest.raises(ProfileStoreCorrupt, match=str(file)):
                ProfileStore(snapshot.folder.parent).latest()
        file.write_bytes(whole)
    assert ProfileStore(snapshot.folder.parent).latest() == snapshot


def test_ids_count_up_and_tell_the_time() -> None:
    first = next_snapshot_id((), NOW)
    assert first == "00000001-20260301T120000Z"
    assert next_snapshot_id(("00000009-20270101T000000Z",), NOW) == "00000010-20260301T120000Z"


def test_the_number_of_buckets_is_the_least_power_of_two_that_keeps_them_small() -> None:
    sizes = {count: buckets_for(count * FRAGMENTS_PER_BUCKET) for count in (0, 1, 2, 3, 4, 5, 9)}
    assert sizes == {0: 1, 1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 9: 16}
    assert buckets_for(FRAGMENTS_PER_BUCKET + 1) == 2


@pytest.mark.parametrize("place", ["", MANIFEST, "graph.parquet", "bucket=00000"])
def test_a_link_in_the_place_of_what_a_snapshot_has_is_refused(
    snapshot: Snapshot, tmp_path: Path, place: str
) -> None:
    linked = snapshot.folder / place
    there = linked.rename(tmp_path / "elsewhere")
    linked.symlink_to(there)
    with pytest.raises(ProfileStoreCorrupt, match=f"{linked.name} is a symbolic link"):
        ProfileStore(tmp_path).latest()
