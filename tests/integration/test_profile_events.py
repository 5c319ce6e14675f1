"""Events in the profile store, when things were ingested, and where fragments came from."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segexport.profiles.snapshots import Snapshot
from segexport.sql import parquet
from support.examples import examples
from support.fragments import NOW, event, fragment, load_records, person_id, snapshot_of

NAIVE = NOW.replace(tzinfo=None)
LATER = NOW + timedelta(days=1)


def naive(*date: int) -> datetime:
    """A time as the store keeps it: UTC, without a zone."""
    return datetime(*date, tzinfo=UTC).replace(tzinfo=None)  # type: ignore[arg-type, misc]


def rows(snapshot: Snapshot, table: str, columns: str) -> list[tuple[Any, ...]]:
    """These columns of all buckets, sorted."""
    files = [
        snapshot.folder / f"bucket={n:05d}" / f"{table}.parquet" for n in range(snapshot.buckets)
    ]
    with duckdb.connect() as database:
        return database.execute(f"SELECT {columns} FROM {parquet(files)} ORDER BY ALL").fetchall()


def test_events_are_kept_with_their_person_time_and_attributes(tmp_path: Path) -> None:
    visit = event(web={"pageViews": 3}, identityMap={"ECID": [{"id": "x"}]}, segmentMembership="?")
    bought = event(_id="e0", timestamp="2025-12-31T23:00:00-02:00", tags=["a"])
    snapshot = snapshot_of(
        load_records(tmp_path / "profiles", [fragment()], happened=[visit, bought])
    )
    assert rows(
        snapshot,
        "events",
        'person_id, rank, happened_at, ingested_at, _id, "timestamp", "web.pageViews", tags, '
        '"segmentMembership"',
    ) == [
        (person_id("p1"), 1, naive(2026, 1, 1), NAIVE, "e1", visit["timestamp"], 3, None, "?"),
        (
            person_id("p1"),
            2,
            naive(2026, 1, 1, 1),
            NAIVE,
            "e0",
            bought["timestamp"],
            None,
            ["a"],
            None,
        ),
    ]
    assert [each.path for each in snapshot.event_attributes] == [
        "_id",
        "personID",
        "segmentMembership",
        "tags",
        "timestamp",
        "web.pageViews",
    ]
    assert [each.path for each in snapshot.attributes] == ["personID", "updatedAt"]
    assert (snapshot.events, snapshot.persons, snapshot.empty) == (2, 1, 0)


def test_of_whom_only_events_are_known_is_a_person_without_a_record(tmp_path: Path) -> None:
    store = tmp_path / "profiles"
    happened = [event("p2", identityMap={"ECID": [{"id": "x", "primary": True}]})]
    snapshot = snapshot_of(load_records(store, [fragment()], happened=happened))
    assert (snapshot.persons, snapshot.empty) == (2, 1)
    columns = "person_key, has_record, updated_at, ingested_at, test_profile"
    assert rows(snapshot, "persons", columns) == [
        ("p1", True, naive(2026, 1, 1), NAIVE, False),
        ("p2", False, naive(2026, 1, 1), NAIVE, False),
    ]
    grown = snapshot_of(load_records(store, [fragment("p2")], now=LATER))
    assert (grown.persons, grown.empty, grown.events) == (2, 0, 1)


def test_events_alone_make_a_store(tmp_path: Path) -> None:
    snapshot = snapshot_of(load_records(tmp_path / "profiles", [], happened=[event()]))
    assert (snapshot.persons, snapshot.empty, snapshot.fragments, snapshot.attributes) == (
        1,
        1,
        0,
        (),
    )


def test_an_identity_decides_whose_an_event_is_as_it_does_for_fragments(tmp_path: Path) -> None:
    identities = {"CRM": [{"id": "7", "primary": True}], "Email": [{"id": "a@b"}]}
    known = fragment(None, identityMap={"CRM": [{"id": "7"}]})
    snapshot = snapshot_of(
        load_records(tmp_path / "profiles", [known], happened=[event(None, identityMap=identities)])
    )
    assert snapshot.persons == 1
    ((identity_map,),) = rows(snapshot, "persons", "identity_map")
    assert set(identity_map) == {"CRM", "Email"}


def test_an_event_that_is_loaded_again_changes_nothing(tmp_path: Path) -> None:
    store = tmp_path / "profiles"
    first = snapshot_of(load_records(store, [], happened=[event(n=1), event("p2", n=5)]))
    again = snapshot_of(
        load_records(store, [], happened=[event(n=2), event(n=3), event("p2", n=5)], now=LATER)
    )
    columns = "person_id, rank, ingested_at, n"
    assert rows(again, "events", columns) == rows(first, "events", columns)


def test_each_record_remembers_when_it_was_ingested_and_a_fragment_from_where(
    tmp_path: Path,
) -> None:
    store = tmp_path / "profiles"
    load_records(store, [fragment()], happened=[event()], dataset="crm")
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    snapshot = snapshot_of(
        load_records(
            store,
            [fragment("p2")],
            happened=[event(_id="e2")],
            dataset="web",
            ingested_at=long_ago,
            now=LATER,
        )
    )
    assert rows(snapshot, "fragments", "dataset_id, ingested_at") == [
        ("crm", NAIVE),
        ("web", long_ago.replace(tzinfo=None)),
    ]
    assert rows(snapshot, "events", "_id, ingested_at") == [
        ("e1", NAIVE),
        ("e2", long_ago.replace(tzinfo=None)),
    ]
    assert snapshot.datasets == ("crm", "web")
    assert rows(snapshot, "persons", "person_key, ingested_at") == [
        ("p1", NAIVE),
        ("p2", long_ago.replace(tzinfo=None)),
    ]


loads = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), max_size=4),
        st.lists(
            st.tuples(st.sampled_from("abcd"), st.sampled_from("123"), st.integers(1, 4)),
            max_size=5,
        ),
    ).filter(any),
    min_size=1,
    max_size=3,
)


@settings(
    max_examples=examples(25),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(history=loads)
def test_a_store_holds_what_its_loads_say_together(history: Any, tmp_path_factory: Any) -> None:
    store = tmp_path_factory.mktemp("store") / "profiles"
    records: list[tuple[str, int, datetime]] = []
    events: dict[tuple[str, str], tuple[int, int, datetime]] = {}
    position = 0
    for number, (fragments, happened) in enumerate(history):
        now = NOW + timedelta(days=number)
        moment = now.replace(tzinfo=None)
        snapshot = snapshot_of(
            load_records(
                store,
                [fragment(key, f"2026-01-0{day}T00:00:00Z") for key, day in fragments],
                happened=[
                    event(key, _id=name, timestamp=f"2026-01-0{day}T00:00:00Z")
                    for key, name, day in happened
                ],
                now=now,
            )
        )
        records += [(key, day, moment) for key, day in fragments]
        for key, name, day in happened:
            position += 1
            events.setdefault((key, name), (day, position, moment))
    assert snapshot.fragments == len(records)
    in_order = sorted((*told, key, name) for (key, name), told in events.items())
    columns = "_id, happened_at, ingested_at" if events else "NULL, happened_at, ingested_at"
    assert rows(snapshot, "events", f"rank, person_id, {columns}") == [
        (rank, person_id(key), name, naive(2026, 1, day), moment)
        for rank, (day, _, moment, key, name) in enumerate(in_order, start=1)
    ]
    persons = []
    for key in sorted({key for key, *_ in records} | {key for key, _ in events}):
        own = [(day, moment) for one, day, moment in records if one == key] or [
            (day, moment) for (one, _), (day, _, moment) in events.items() if one == key
        ]
        has_record = any(one == key for one, *_ in records)
        day, moment = max(day for day, _ in own), max(moment for _, moment in own)
        persons.append((key, has_record, naive(2026, 1, day), moment))
    assert rows(snapshot, "persons", "person_key, has_record, updated_at, ingested_at") == persons
