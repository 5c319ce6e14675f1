"""What is defined beside the profiles stays defined, whoever writes at the same time."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest

from segexport.errors import (
    InvalidDefinition,
    InvalidPredicate,
    ProfileStoreCorrupt,
    ProfileStoreError,
    UnknownPolicy,
    UnknownSegment,
)
from segexport.profiles.catalogue import BUILT_IN, CATALOGUE, Merging, open_catalogue
from segexport.profiles.definitions import define_policy, define_segment
from segexport.profiles.snapshots import ProfileStore
from support.people import Person, write_snapshot

PRECEDENCE = Merging.DATASET_PRECEDENCE


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    return tmp_path / "profiles"


def test_a_store_without_a_catalogue_has_what_is_built_in(profiles: Path) -> None:
    catalogue = open_catalogue(profiles)
    assert (catalogue.policies, catalogue.segments) == (BUILT_IN, ())
    assert not profiles.exists()


def test_what_is_defined_is_read_again(profiles: Path) -> None:
    policy = define_policy(profiles, "crm-first", PRECEDENCE, ["crm", "web"])
    segment = define_segment(profiles, "gold", "loyalty.tier = 'gold'", policy="crm-first")
    catalogue = open_catalogue(profiles)
    assert catalogue.policies == (*BUILT_IN, policy)
    assert catalogue.definition("ups", "gold") == segment
    assert (segment.policy, segment.policy_version) == ("crm-first", 1)


def test_defining_again_makes_the_next_version_and_the_same_again_none(profiles: Path) -> None:
    first = define_policy(profiles, "mine", PRECEDENCE, ["crm", "web"])
    again = define_policy(profiles, "mine", PRECEDENCE, ["crm", "web"])
    other = define_policy(profiles, "mine", PRECEDENCE, ["web", "crm"])
    assert (first.version, again.version, other.version) == (1, 1, 2)
    assert open_catalogue(profiles).policy("mine", 1) == first
    versions = [
        define_segment(profiles, "gold", predicate, policy="mine", policy_version=version).version
        for predicate, version in [("a = 1", 1), ("a = 1", 1), ("a = 1", 2), ("a = 2", 2)]
    ]
    assert versions == [1, 1, 2, 3]
    assert open_catalogue(profiles).definition("ups", "gold").predicate == "a = 2"


def test_a_segment_keeps_the_version_of_its_policy(profiles: Path) -> None:
    define_policy(profiles, "mine", PRECEDENCE, ["crm"])
    define_segment(profiles, "gold", "a = 1", policy="mine")
    define_policy(profiles, "mine", PRECEDENCE, ["web"])
    assert open_catalogue(profiles).definition("ups", "gold").policy_version == 1


def test_segments_of_two_namespaces_are_two(profiles: Path) -> None:
    define_segment(profiles, "gold", "a = 1")
    define_segment(profiles, "gold", "a = 2", namespace="AdCloud")
    newest = open_catalogue(profiles).newest_segments
    assert [(one.namespace, one.predicate) for one in newest] == [
        ("AdCloud", "a = 2"),
        ("ups", "a = 1"),
    ]


def test_many_writers_at_once_lose_nothing(profiles: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        for done in [
            threads.submit(define_segment, profiles, f"s{number % 20}", f"a = {number}")
            for number in range(60)
        ]:
            done.result()
    segments = open_catalogue(profiles).segments
    assert sorted(one.predicate for one in segments) == sorted(f"a = {n}" for n in range(60))
    assert sorted(one.version for one in segments) == sorted([1, 2, 3] * 20)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"format": 1}',
        b'{"format": 1, "policies": [{"id": "x"}], "segments": []}',
        orjson.dumps(
            {
                "format": 1,
                "policies": [{"id": "x", "version": 2, "merging": "none", "datasets": []}],
                "segments": [],
            }
        ),
        orjson.dumps(
            {
                "format": 1,
                "policies": [],
                "segments": [
                    {
                        "segmentNs": "ups",
                        "segmentId": "gold",
                        "version": 1,
                        "predicate": "a = 1",
                        "mergePolicy": {"id": "away", "version": 1},
                    }
                ],
            }
        ),
        b'{"format": 1, "policies": [], "segments": [], "segments": []}',
    ],
)
def test_a_damaged_catalogue_says_what_to_do_and_stays_as_it_is(
    profiles: Path, damage: bytes
) -> None:
    profiles.mkdir()
    (profiles / CATALOGUE).write_bytes(damage)
    with pytest.raises(ProfileStoreCorrupt, match=r"catalogue\.json cannot be read .*restore it"):
        open_catalogue(profiles)
    with pytest.raises(ProfileStoreCorrupt):
        define_segment(profiles, "gold", "a = 1")
    assert (profiles / CATALOGUE).read_bytes() == damage


def test_a_catalogue_of_a_later_version_is_left_alone(profiles: Path) -> None:
    profiles.mkdir()
    (profiles / CATALOGUE).write_bytes(orjson.dumps({"format": 2}))
    with pytest.raises(ProfileStoreCorrupt, match="upgrade segexport"):
        open_catalogue(profiles)


def test_a_writer_that_was_killed_leaves_the_catalogue_whole(profiles: Path) -> None:
    define_segment(profiles, "gold", "a = 1")
    (profiles / ".catalogue.json.next").write_bytes(b'{"format": 1, "pol')
    assert len(open_catalogue(profiles).segments) == 1
    define_segment(profiles, "silver", "a = 2")
    assert len(open_catalogue(profiles).segments) == 2


def test_a_catalogue_that_cannot_be_written_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ProfileStoreError, match="cannot be written"):
        define_segment(tmp_path / "file" / "profiles", "gold", "a = 1")


def test_a_predicate_is_held_against_the_newest_snapshot(profiles: Path) -> None:
    write_snapshot(profiles, [Person(1)])
    with pytest.raises(InvalidPredicate, match=r"did you mean 'loyalty\.points'"):
        define_segment(profiles, "gold", "loyalty.point > 1")
    assert not (profiles / CATALOGUE).exists()


@pytest.mark.parametrize(
    ("policy", "merging", "datasets", "words"),
    [
        ("timestampOrdered-none-mp", Merging.TIMESTAMP_ORDERED, [], "built in"),
        ("", Merging.NONE, [], "printable"),
        ("a\nb", Merging.NONE, [], "printable"),
        ("a\u202eb", Merging.NONE, [], r"its character 2 is U\+202E"),
        ("x" * 129, Merging.NONE, [], "128"),
        ("mine", PRECEDENCE, [], "needs datasets"),
        ("mine", Merging.NONE, ["crm"], "only it has any"),
        ("mine", PRECEDENCE, ["crm", "crm"], "named twice"),
        ("mine", PRECEDENCE, [""], "a dataset's id"),
        ("mine", PRECEDENCE, [f"d{number}" for number in range(1001)], "1,000 may be"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(
    profiles: Path, policy: str, merging: Merging, datasets: list[str], words: str
) -> None:
    with pytest.raises(InvalidDefinition, match=words):
        define_policy(profiles, policy, merging, datasets)


def test_a_segment_needs_a_name_and_a_policy_that_is_there(profiles: Path) -> None:
    with pytest.raises(InvalidDefinition, match="a segment's id"):
        define_segment(profiles, "", "a = 1")
    with pytest.raises(UnknownPolicy, match="no merge policy 'away'; there are: none-none-mp"):
        define_segment(profiles, "gold", "a = 1", policy="away")
    with pytest.raises(UnknownPolicy, match="no version 2"):
        define_segment(profiles, "gold", "a = 1", policy="none-none-mp", policy_version=2)
    with pytest.raises(UnknownSegment, match="segexport segments define"):
        open_catalogue(profiles).definition("ups", "gold")


@pytest.mark.parametrize("how", ["gone", "older", "another"])
def test_a_catalogue_that_loses_what_was_defined_is_not_believed_until_it_is_back(
    profiles: Path, how: str
) -> None:
    define_policy(profiles, "mine", Merging.TIMESTAMP_ORDERED)
    file = profiles / CATALOGUE
    older = file.read_bytes()
    define_segment(profiles, "gold", "a = 1")
    good = file.read_bytes()
    store = ProfileStore(profiles)
    assert store.catalogue().definition("ups", "gold").predicate == "a = 1"
    file.unlink()
    if how == "older":
        file.write_bytes(older)
    elif how == "another":
        define_segment(profiles, "gold", "a = 2")
        define_policy(profiles, "mine", Merging.TIMESTAMP_ORDERED)
    for _ in range(2):
        with pytest.raises(ProfileStoreCorrupt, match=r"has lost what was defined .*bring it back"):
            store.catalogue()
    assert ProfileStore(profiles).catalogue() == open_catalogue(profiles)
    file.unlink(missing_ok=True)
    file.write_bytes(good)
    define_segment(profiles, "gold", "a = 3")
    assert store.catalogue().definition("ups", "gold").predicate == "a = 3"
