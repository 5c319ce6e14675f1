"""Segments are evaluated into the next snapshot, and nothing else of it changes."""

import errno
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segexport.errors import (
    ExportCancelled,
    InvalidDefinition,
    ProfileStoreBusy,
    ProfileStoreCorrupt,
    ProfileStoreMissing,
)
from segexport.profiles.builder import Draft, Resources, draft
from segexport.profiles.catalogue import CATALOGUE, Merging, open_catalogue
from segexport.profiles.definitions import define_policy, define_segment
from segexport.profiles.evaluation import Evaluation, evaluate
from segexport.profiles.snapshots import ProfileStore, SegmentSize, Snapshot
from segexport.sql import literal, parquet
from support.examples import examples
from support.fragments import load_records
from support.people import NOW as LOADED
from support.people import Person, write_crowd, write_snapshot

NOW: Final = datetime(2026, 4, 1, 8, 30, 0, 5, tzinfo=UTC)
RESOURCES: Final = Resources(threads=2, memory_limit="256MB")
GOLD: Final = ("ups", "gold")

Row = tuple[int, str, str, str, datetime]


def naive(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None)


def memberships(snapshot: Snapshot) -> Sequence[Row]:
    """All rows in the order of buckets and rows, each bucket's sorted as the layout says."""
    found: list[Row] = []
    with duckdb.connect() as database:
        for bucket in range(snapshot.buckets):
            rows = database.execute(
                "SELECT person_id, namespace, segment, status, qualified_at "
                f"FROM {parquet([snapshot.memberships_file(bucket)])}"
            ).fetchall()
            assert all(person % snapshot.buckets == bucket for person, *_ in rows)
            assert rows == sorted(rows, key=lambda row: (row[1], row[2], row[0]))
            found += rows
    return found


def standings(snapshot: Snapshot, segment: tuple[str, str] = GOLD) -> Mapping[int, tuple[str, Any]]:
    return {row[0]: (row[3], row[4]) for row in memberships(snapshot) if row[1:3] == segment}


def evaluated(
    store: Path,
    predicate: str = "loyalty.points > 10",
    *,
    now: datetime = NOW,
    segment: tuple[str, str] = GOLD,
    **how: Any,
) -> Snapshot:
    """Define one segment, and evaluate it."""
    namespace, name = segment
    definition = define_segment(store, name, predicate, namespace=namespace, **how)
    return evaluate(store, [definition], now=now, resources=RESOURCES)


def member(person: int, points: int | None, standing: str | None) -> Person:
    fragment = {} if points is None else {"loyalty.points": points}
    return Person(person, [fragment], memberships={GOLD: standing} if standing else {})


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    return tmp_path / "profiles"


def test_every_transition_has_its_status_and_its_time(profiles: Path) -> None:
    write_snapshot(
        profiles,
        [
            member(1, 50, None),
            member(2, 50, "realized"),
            member(3, 50, "existing"),
            member(4, 50, "exited"),
            member(5, 5, None),
            member(6, 5, "realized"),
            member(7, 5, "existing"),
            member(8, 5, "exited"),
            member(9, None, "realized"),
        ],
        buckets=4,
    )
    snapshot = evaluated(profiles)
    before, now = naive(LOADED), naive(NOW)
    assert standings(snapshot) == {
        1: ("realized", now),
        2: ("existing", before),
        3: ("existing", before),
        4: ("realized", now),
        6: ("exited", now),
        7: ("exited", now),
        8: ("exited", before),
        9: ("exited", now),
    }
    (size,) = snapshot.segments
    assert size == SegmentSize(namespace="ups", segment="gold", realized=2, existing=2, exited=4)


def test_a_second_evaluation_makes_existing_of_realized_and_keeps_the_time(profiles: Path) -> None:
    write_snapshot(profiles, [member(1, 50, None)])
    evaluated(profiles)
    later = evaluated(profiles, now=NOW + timedelta(days=1))
    assert standings(later) == {1: ("existing", naive(NOW))}
    left = evaluated(profiles, "loyalty.points > 99", now=NOW + timedelta(days=2))
    assert standings(left) == {1: ("exited", naive(NOW + timedelta(days=2)))}
    back = evaluated(profiles, now=NOW + timedelta(days=3))
    assert standings(back) == {1: ("realized", naive(NOW + timedelta(days=3)))}


def test_only_memberships_of_the_evaluated_segments_change(profiles: Path) -> None:
    others = {("ups", "silver"): "realized", ("AdCloud", "gold"): "existing"}
    base = write_snapshot(profiles, [Person(1, memberships={GOLD: "realized", **others})])
    snapshot = evaluated(profiles)
    assert standings(snapshot) == {1: ("exited", naive(NOW))}
    assert [row for row in memberships(snapshot) if row[1:3] != GOLD] == [
        row for row in memberships(base) if row[1:3] != GOLD
    ]
    assert [(one.namespace, one.segment, one.realized) for one in snapshot.segments] == [
        ("AdCloud", "gold", 0),
        ("ups", "gold", 0),
        ("ups", "silver", 1),
    ]


def test_everything_else_is_the_base_s_own_file(profiles: Path) -> None:
    people = [Person(number, events=[{"_id": f"e{number}"}]) for number in range(1, 9)]
    base = write_snapshot(profiles, people, buckets=4)
    snapshot = evaluated(profiles)
    for before, after in zip(base.files(), snapshot.files(), strict=True):
        same = before.name != "memberships.parquet"
        assert before.samefile(after) is same
    assert (snapshot.persons, snapshot.fragments, snapshot.events) == (8, 8, 8)
    assert snapshot.attributes == base.attributes
    assert ProfileStore(profiles).latest() == snapshot
    assert standings(base) == {}


def test_where_files_cannot_be_linked_they_are_copied(
    profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))

    monkeypatch.setattr(os, "link", refuse)
    base = write_snapshot(profiles, [member(1, 50, None)])
    snapshot = evaluated(profiles)
    for before, after in zip(base.files(), snapshot.files(), strict=True):
        assert not before.samefile(after)
        if before.name != "memberships.parquet":
            assert before.read_bytes() == after.read_bytes()


def test_persons_of_whom_only_events_are_known_take_part(profiles: Path) -> None:
    write_snapshot(profiles, [Person(1, [], events=[{"_id": "e"}]), member(2, 50, None)])
    snapshot = evaluated(profiles, "loyalty.points IS NULL")
    assert standings(snapshot) == {1: ("realized", naive(NOW))}


def test_a_segment_of_nobody_is_known_to_the_snapshot(profiles: Path) -> None:
    write_snapshot(profiles, [member(1, 5, None)])
    (size,) = evaluated(profiles).segments
    assert size == SegmentSize(namespace="ups", segment="gold", realized=0, existing=0, exited=0)


def test_several_definitions_are_evaluated_at_once(profiles: Path) -> None:
    write_snapshot(profiles, [member(number, number * 10, None) for number in range(1, 7)])
    define_policy(profiles, "mine", Merging.NONE)
    definitions = [
        define_segment(profiles, "all", "TRUE"),
        define_segment(profiles, "few", "loyalty.points >= 50"),
        define_segment(profiles, "even", "loyalty.points % 20 = 0", policy="mine"),
        define_segment(profiles, 'no\'s "best"', "loyalty.points = NULL", namespace="n's"),
    ]
    snapshot = evaluate(profiles, definitions, now=NOW, resources=RESOURCES)
    assert {one.segment: one.realized for one in snapshot.segments} == {
        "all": 6,
        "few": 2,
        "even": 3,
        'no\'s "best"': 0,
    }


# Which fragment counts


CITY = "homeAddress.city"
TIER = "person.name.lastName"


def fragments_of(*rows: tuple[str, str | None, str | None]) -> list[dict[str, Any]]:
    """(dataset, city, tier), the oldest first."""
    return [
        {"dataset_id": dataset, **{k: v for k, v in ((CITY, city), (TIER, tier)) if v is not None}}
        for dataset, city, tier in rows
    ]


@pytest.mark.parametrize(
    ("merging", "datasets", "expected"),
    [
        (Merging.TIMESTAMP_ORDERED, [], ("Bern", "gold")),
        (Merging.NONE, [], ("Bern", None)),
        (Merging.DATASET_PRECEDENCE, ["crm", "app"], ("Oslo", "gold")),
        (Merging.DATASET_PRECEDENCE, ["app", "crm"], ("Rome", "silver")),
        (Merging.DATASET_PRECEDENCE, ["web"], ("Bern", "gold")),
        (Merging.DATASET_PRECEDENCE, ["web", "crm", "app"], ("Bern", "gold")),
    ],
)
def test_attributes_are_merged_as_the_policy_says(
    profiles: Path, merging: Merging, datasets: list[str], expected: tuple[str, str | None]
) -> None:
    history = fragments_of(
        ("app", "Rome", "silver"),
        ("crm", "Lima", "gold"),
        ("crm", "Oslo", None),
        ("web", "Bern", None),
    )
    write_snapshot(profiles, [Person(1, history)])
    if merging is Merging.TIMESTAMP_ORDERED:
        policy = "timestampOrdered-none-mp"
    else:
        policy = define_policy(profiles, "mine", merging, datasets).id
    city, tier = expected
    last = "IS NULL" if tier is None else f"= {literal(tier)}"
    predicate = f"{CITY} = {literal(city)} AND {TIER} {last}"
    assert list(standings(evaluated(profiles, predicate, policy=policy))) == [1]


# Any history gives what plain Python makes of it


@settings(max_examples=examples(25), deadline=None)
@given(
    people=st.lists(
        st.tuples(
            st.lists(st.one_of(st.none(), st.integers(0, 3)), max_size=3),
            st.sampled_from([None, "realized", "existing", "exited"]),
        ),
        min_size=1,
        max_size=12,
    ),
    bounds=st.lists(st.integers(0, 3), min_size=1, max_size=3),
    buckets=st.sampled_from([1, 2, 4]),
)
def test_any_history_of_evaluations_equals_plain_python(
    tmp_path_factory: pytest.TempPathFactory,
    people: Sequence[tuple[Sequence[int | None], str | None]],
    bounds: Sequence[int],
    buckets: int,
) -> None:
    profiles = tmp_path_factory.mktemp("history") / "profiles"
    write_snapshot(
        profiles,
        [
            Person(
                number,
                [{"loyalty.points": points} for points in history],
                memberships={GOLD: standing} if standing else {},
            )
            for number, (history, standing) in enumerate(people, start=1)
        ],
        buckets=buckets,
    )
    expected = {
        number: (standing, naive(LOADED))
        for number, (_, standing) in enumerate(people, start=1)
        if standing
    }
    for step, bound in enumerate(bounds):
        moment = NOW + timedelta(hours=step)
        snapshot = evaluated(profiles, f"loyalty.points >= {bound}", now=moment)
        for number, (history, _) in enumerate(people, start=1):
            points = [one for one in history if one is not None]
            inside = bool(points) and points[-1] >= bound
            status, since = expected.get(number, ("", naive(moment)))
            if inside and status in {"realized", "existing"}:
                expected[number] = ("existing", since)
            elif inside:
                expected[number] = ("realized", naive(moment))
            elif status in {"realized", "existing"}:
                expected[number] = ("exited", naive(moment))
        assert standings(snapshot) == expected


# What stands in the way


def test_an_evaluation_for_a_job_happens_once(profiles: Path) -> None:
    write_snapshot(profiles, [member(1, 50, None)])
    definition = define_segment(profiles, "gold", "loyalty.points > 10")
    first = evaluate(profiles, [definition], now=NOW, resources=RESOURCES, job=7)
    other = evaluate(profiles, [definition], now=NOW, resources=RESOURCES, job=8)
    again = evaluate(profiles, [definition], now=NOW, resources=RESOURCES, job=7)
    assert (first.evaluated_for, other.evaluated_for) == (7, 8)
    assert again == first
    assert len(ProfileStore(profiles).ids()) == 3
    with draft(profiles, now=NOW, resources=RESOURCES):  # while a load runs
        evaluate(profiles, [definition], now=NOW, resources=RESOURCES, job=7)


def test_an_evaluation_waits_for_no_load(profiles: Path) -> None:
    write_snapshot(profiles, [member(1, 50, None)])
    with draft(profiles, now=NOW, resources=RESOURCES), pytest.raises(ProfileStoreBusy):
        evaluated(profiles)


def test_without_a_snapshot_there_is_nothing_to_evaluate(profiles: Path) -> None:
    with pytest.raises(ProfileStoreMissing, match="segexport profiles load"):
        evaluated(profiles, "a = 1")


def test_a_definition_that_no_longer_fits_says_which_and_leaves_the_store(profiles: Path) -> None:
    define_segment(profiles, "gold", "loyalty.tier = 'gold'")
    base = write_snapshot(profiles, [member(1, 50, None)])
    definition = open_catalogue(profiles).definition("ups", "gold")
    with pytest.raises(
        InvalidDefinition, match=r"'gold'.*version 1.*has no attribute 'loyalty.tier"
    ):
        evaluate(profiles, [definition], now=NOW, resources=RESOURCES)
    assert ProfileStore(profiles).ids() == (base.id,)
    assert not [*profiles.glob(".staging*")]


def test_a_damaged_catalogue_stops_an_evaluation(profiles: Path) -> None:
    write_snapshot(profiles, [member(1, 50, None)])
    definition = define_segment(profiles, "gold", "loyalty.points > 10")
    (profiles / CATALOGUE).write_bytes(b"{")
    with pytest.raises(ProfileStoreCorrupt):
        evaluate(profiles, [definition], now=NOW, resources=RESOURCES)


def test_an_interrupt_stops_a_running_query_within_a_second_and_leaves_nothing(
    profiles: Path,
) -> None:
    base = write_crowd(profiles, count=2_000_000)
    slow = " OR ".join(f"coalesce(homeAddress.city, 'x{n}') LIKE '%{n}%y%'" for n in range(60))
    definition = define_segment(profiles, "gold", slow)
    evaluation = Evaluation(profiles, [definition], now=NOW, resources=RESOURCES)
    begun, ended = Event(), list[BaseException]()

    def run() -> None:
        try:
            evaluation.run(lambda *_: begun.set())
        except ExportCancelled as error:
            ended.append(error)

    thread = Thread(target=run)
    thread.start()
    assert begun.wait(20)
    asked = time.monotonic()
    while thread.is_alive():
        evaluation.interrupt()
        thread.join(0.02)
    assert time.monotonic() - asked < 1
    assert len(ended) == 1
    assert ProfileStore(profiles).ids() == (base.id,)
    assert not [*profiles.glob(".staging*")]


def test_an_interrupt_stops_an_evaluation_whose_files_are_being_forced_to_disk(
    profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_snapshot(profiles, [Person(1), Person(2)])
    definition = define_segment(profiles, "gold", "loyalty.points > 1")
    evaluation = Evaluation(profiles, [definition], now=NOW, resources=RESOURCES)
    forced: list[Path] = []

    def force(path: Path) -> None:
        forced.append(path)
        evaluation.interrupt()

    monkeypatch.setattr("segexport.profiles.builder._sync", force)
    with pytest.raises(ExportCancelled):
        evaluation.run()
    assert len(forced) == 1
    assert ProfileStore(profiles).ids() == (base.id,)
    assert not [*profiles.glob(".staging*")]


def test_an_evaluation_that_another_worker_has_ended_just_now_is_not_made_again(
    profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_snapshot(profiles, [Person(1)])
    definition = define_segment(profiles, "gold", "loyalty.points > 1")
    made: list[Snapshot] = []

    @contextmanager
    def begun_late(store: Path, **options: Any) -> Iterator[Draft]:
        monkeypatch.undo()
        made.append(evaluate(profiles, [definition], now=NOW, resources=RESOURCES, job=7))
        with draft(store, **options) as begun:
            yield begun

    monkeypatch.setattr("segexport.profiles.evaluation.draft", begun_late)
    assert [evaluate(profiles, [definition], now=NOW, resources=RESOURCES, job=7)] == made
    assert ProfileStore(profiles).ids() == (base.id, made[0].id)


def test_a_predicate_compares_decimals_like_other_numbers(tmp_path: Path) -> None:
    records = [
        f'{{"personID": "{name}", "updatedAt": "2026-01-01T00:00:00Z", "n": {number}, '
        f'"many": [{number}]}}'
        for name, number in (("few", "0.5"), ("many", "9007199254740993"))
    ]
    load_records(tmp_path, records)
    for segment, where in (
        ("larger", "n > 0.5"),
        ("exact", "n = 9007199254740993"),
        ("other", "n = 9007199254740992"),
        ("half", "n = 0.5 AND contains(many, 0.5) AND n + 1 < 2"),
    ):
        define_segment(tmp_path, segment, where)
    made = evaluate(
        tmp_path, open_catalogue(tmp_path).newest_segments, now=NOW, resources=RESOURCES
    )
    assert {one.segment: one.realized for one in made.segments} == {
        "exact": 1,
        "half": 1,
        "larger": 1,
        "other": 0,
    }
