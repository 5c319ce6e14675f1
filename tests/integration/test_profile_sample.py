"""Sample stores: the same seed gives the same rows, and they resemble real ones."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from unittest import mock

import pytest

from segexport.profiles import builder
from segexport.profiles.sample import SEGMENTS, build_sample, sample_segments
from segexport.profiles.snapshots import ProfileStore, Snapshot
from support.fragments import NOW, RESOURCES, contents, person_id

PROFILES = 20_000


def make(store: Path, profiles: int, seed: int) -> Snapshot:
    return build_sample(store, profiles=profiles, seed=seed, now=NOW, resources=RESOURCES)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return make(tmp_path_factory.mktemp("sample"), PROFILES, seed=7)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    def files(snapshot: Snapshot) -> Sequence[bytes]:
        return [file.read_bytes() for file in snapshot.files() if file != snapshot.graph_file]

    with mock.patch.object(builder, "FRAGMENTS_PER_BUCKET", 500):
        one, same, other = (
            make(tmp_path / name, 1_000, seed) for name, seed in (("a", 3), ("b", 3), ("c", 4))
        )
    assert one.buckets == 4
    assert files(one) == files(same)
    assert not set(files(one)) & set(files(other))


def test_a_seed_means_the_same_profiles_for_ever(tmp_path: Path) -> None:
    held = contents(make(tmp_path, 3, seed=1))
    assert held.persons[0] == (
        4034962252935273042,
        "CRMID:C0000000002",
        {
            "CRMID": [{"id": "C0000000002", "primary": True}],
            "ECID": [{"id": "10995420620539419058594867422016432915", "primary": False}],
            "Email": [{"id": "yilmaz.2@example.com", "primary": False}],
            "Phone": [{"id": "+12000000002", "primary": False}],
        },
        False,
        datetime(2025, 1, 15, 7, 14, 24),  # noqa: DTZ001  (UTC, as in the store)
    )
    assert [row[1] for row in held.fragments] == [1, 4, 2, 3]
    assert len(held.memberships) == 65


def test_every_person_is_there_once_with_fragments_of_its_own(sample: Snapshot) -> None:
    held = contents(sample)
    assert len(held.persons) == sample.persons == PROFILES
    assert all(row[0] == person_id(row[1]) for row in held.persons)
    fragments = Counter(row[0] for row in held.fragments)
    assert fragments.keys() == {row[0] for row in held.persons}
    assert set(fragments.values()) == {1, 2}
    assert sample.fragments / PROFILES == pytest.approx(1.3, abs=0.02)


def test_segments_are_skewed_and_hold_twenty_memberships_a_profile(sample: Snapshot) -> None:
    assert len(sample.segments) == SEGMENTS == len(set(sample_segments()))
    sizes = {(one.namespace, one.segment): one for one in sample.segments}
    total = sum(one.realized + one.existing + one.exited for one in sample.segments)
    assert total / PROFILES == pytest.approx(20, rel=0.02)
    for wanted in sample_segments():
        one = sizes[wanted.namespace, wanted.segment]
        size = one.realized + one.existing + one.exited
        assert size / PROFILES == pytest.approx(wanted.share, rel=0.25, abs=0.002)
        assert one.realized > one.existing > one.exited or size < 500
    assert sizes["ups", "loyalty-gold"].realized > 0.25 * PROFILES
    assert {one.namespace for one in sample.segments} == {"ups", "AAM"}


def test_identities_have_the_gaps_that_an_export_has_to_cope_with(sample: Snapshot) -> None:
    persons = contents(sample).persons
    maps = [identities for _, _, identities, _, _ in persons if identities is not None]
    assert 1 - len(maps) / PROFILES == pytest.approx(0.015, abs=0.004)
    share = Counter(namespace for identities in maps for namespace in identities)
    assert share["CRMID"] == len(maps)
    assert share["Email"] / len(maps) == pytest.approx(0.97, abs=0.006)
    assert share["ECID"] / len(maps) == pytest.approx(0.8, abs=0.02)
    assert share["Phone"] / len(maps) == pytest.approx(0.6, abs=0.02)
    emails = Counter(identities["Email"][0]["id"] for identities in maps if "Email" in identities)
    shared = sum(count for count in emails.values() if count > 1)
    assert shared / len(maps) == pytest.approx(0.01, abs=0.002)
    tests = sum(test_profile for *_, test_profile, _ in persons)
    assert tests / PROFILES == pytest.approx(0.05, abs=0.006)


def test_every_attribute_has_values_and_gaps(sample: Snapshot) -> None:
    columns = list(zip(*contents(sample).fragments, strict=True))
    for attribute, values in zip(sample.attributes, columns[3:], strict=True):
        filled = sum(value is not None for value in values) / len(values)
        assert 0.03 < filled < 1, attribute


def test_a_sample_is_the_newest_snapshot_and_others_stay(tmp_path: Path) -> None:
    first, second = make(tmp_path, 10, seed=1), make(tmp_path, 20, seed=1)
    assert ProfileStore(tmp_path).ids() == (first.id, second.id)
    assert ProfileStore(tmp_path).latest().persons == 20
