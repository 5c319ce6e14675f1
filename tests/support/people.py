"""Small profile stores made of people that a test invents."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeVar

import duckdb

from segexport.profiles.snapshots import GRAPH, Attribute, SegmentSize, Snapshot, write_manifest
from segexport.sql import file_to_read, file_to_write, identifier, literal, parquet

T = TypeVar("T")

NOW: Final = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SNAPSHOT_ID: Final = "00000001-20260301T120000Z"
ATTRIBUTES: Final = (
    Attribute("consents", "JSON"),
    Attribute("homeAddress.city", "VARCHAR"),
    Attribute("loyalty.active", "BOOLEAN"),
    Attribute("loyalty.points", "BIGINT"),
    Attribute("loyalty.share", "DOUBLE"),
    Attribute("loyalty.shares", "DOUBLE[]"),
    Attribute("person.name.firstName", "VARCHAR"),
    Attribute("person.name.lastName", "VARCHAR"),
    Attribute("personalEmail.address", "VARCHAR"),
    Attribute("tags", "VARCHAR[]"),
)
RANKS: Final = 2**40
"""Ranks are below this."""
EVENT_ATTRIBUTES: Final = (
    Attribute("_id", "VARCHAR"),
    Attribute("commerce.price", "DOUBLE"),
    Attribute("commerce.skus", "VARCHAR[]"),
    Attribute("context", "JSON"),
    Attribute("eventType", "VARCHAR"),
    Attribute("timestamp", "VARCHAR"),
    Attribute("web.pageViews", "BIGINT"),
)
JSON_LEAVES: Final = frozenset({"consents", "context"})
"""The names of attributes of type JSON, which Parquet has as text."""


@dataclass(frozen=True, slots=True)
class Identity:
    """One identity of a person in a namespace."""

    id: str
    primary: bool = False


@dataclass(frozen=True, slots=True)
class Fragment:
    """A fragment: its attributes, where it came from, when it was ingested."""

    values: Mapping[str, Any] = field(default_factory=dict)
    dataset: str | None = "crm"
    ingested: datetime = NOW


@dataclass(frozen=True, slots=True)
class Event:
    """An event: its attributes, and when it was ingested."""

    values: Mapping[str, Any] = field(default_factory=dict)
    ingested: datetime = NOW


@dataclass(frozen=True, slots=True)
class Standing:
    """How somebody stands in a segment, and since when."""

    status: str
    qualified: datetime = NOW


@dataclass(frozen=True, slots=True)
class Person:
    """A person as a test invents one. `fragments` and `events` are in the order of their ranks.

    `memberships` maps (namespace, segment) to the standing there. Plain attributes stand for
    a fragment or an event, a plain status for a standing, since `NOW`. `record` says
    something else than whether there are fragments.
    """

    id: int
    fragments: Sequence[Fragment | Mapping[str, Any]] = ({},)
    identities: Mapping[str, Sequence[Identity]] | None = None
    test: bool = False
    events: Sequence[Event | Mapping[str, Any]] = ()
    memberships: Mapping[tuple[str, str], Standing | str] = field(default_factory=dict)
    record: bool | None = None

    @property
    def has_record(self) -> bool:
        """Whether the store says that there is a fragment."""
        return bool(self.fragments) if self.record is None else self.record

    @property
    def known(self) -> Sequence[Fragment]:
        """The fragments."""
        return [one if isinstance(one, Fragment) else Fragment(one) for one in self.fragments]

    @property
    def happened(self) -> Sequence[Event]:
        """The events."""
        return [one if isinstance(one, Event) else Event(one) for one in self.events]

    @property
    def standings(self) -> Mapping[tuple[str, str], Standing]:
        """The standings."""
        return {
            name: one if isinstance(one, Standing) else Standing(one)
            for name, one in self.memberships.items()
        }

    @property
    def ingested(self) -> datetime:
        """When the last of the fragments was ingested; of the events, without any."""
        times = [one.ingested for one in self.known] or [one.ingested for one in self.happened]
        return max(times, default=NOW)


def write_snapshot(
    store: Path,
    people: Sequence[Person],
    *,
    buckets: int = 2,
    attributes: Sequence[Attribute] = ATTRIBUTES,
    segments: Sequence[tuple[str, str]] = (),
    snapshot_id: str = SNAPSHOT_ID,
    evaluated_for: int | None = None,
) -> Snapshot:
    """Write these people as a snapshot; `segments` names more than those they stand in."""
    folder = store / snapshot_id
    with duckdb.connect() as database:
        for bucket in range(buckets):
            members = [person for person in people if person.id % buckets == bucket]
            _write_bucket(database, folder / f"bucket={bucket:05d}", members, attributes)
        _write(
            database,
            folder / GRAPH,
            {"namespace": "VARCHAR", "id": "VARCHAR", "person_key": "VARCHAR"},
            [],
            "namespace, id",
        )
    snapshot = Snapshot(
        id=snapshot_id,
        folder=folder,
        created_at=NOW,
        buckets=buckets,
        persons=len(people),
        fragments=sum(len(person.fragments) for person in people),
        attributes=tuple(attributes),
        segments=tuple(_sizes(people, segments)),
        namespaces=tuple(sorted({ns for person in people for ns in person.identities or {}})),
        empty=sum(not person.has_record for person in people),
        events=sum(len(person.events) for person in people),
        event_attributes=EVENT_ATTRIBUTES,
        datasets=tuple(
            sorted({one.dataset for person in people for one in person.known if one.dataset})
        ),
        evaluated_for=evaluated_for,
    )
    write_manifest(snapshot)
    return snapshot


def write_crowd(store: Path, *, count: int, snapshot_id: str = SNAPSHOT_ID) -> Snapshot:
    """So many persons in one bucket, all alike, so that a piece takes a while."""
    snapshot = write_snapshot(store, [Person(1)], buckets=1, snapshot_id=snapshot_id)
    with duckdb.connect() as database:
        for file in (snapshot.persons_file(0), snapshot.fragments_file(0)):
            database.execute(
                "CREATE OR REPLACE TABLE crowd AS SELECT one.* REPLACE (number AS person_id) "
                f"FROM {parquet([file])} AS one, range({count}) AS numbers(number)"
            )
            database.execute(f"COPY crowd TO {file_to_write(file)} (FORMAT parquet)")
    crowd = replace(snapshot, persons=count, fragments=count)
    write_manifest(crowd)
    return crowd


def _sizes(people: Sequence[Person], more: Sequence[tuple[str, str]]) -> Sequence[SegmentSize]:
    named = sorted({name for person in people for name in person.memberships} | set(more))
    standings = {
        name: [person.standings[name].status for person in people if name in person.memberships]
        for name in named
    }
    return [
        SegmentSize(
            namespace=name[0],
            segment=name[1],
            realized=standings[name].count("realized"),
            existing=standings[name].count("existing"),
            exited=standings[name].count("exited"),
        )
        for name in named
    ]


def _write_bucket(
    database: duckdb.DuckDBPyConnection,
    folder: Path,
    people: Sequence[Person],
    attributes: Sequence[Attribute],
) -> None:
    folder.mkdir(parents=True)
    time = _stored(NOW)
    _write(
        database,
        folder / "persons.parquet",
        {
            "person_id": "BIGINT",
            "person_key": "VARCHAR",
            "identity_map": 'MAP(VARCHAR, STRUCT(id VARCHAR, "primary" BOOLEAN)[])',
            "test_profile": "BOOLEAN",
            "has_record": "BOOLEAN",
            "updated_at": "TIMESTAMP",
            "ingested_at": "TIMESTAMP",
        },
        [
            {
                "person_id": person.id,
                "person_key": f"key:{person.id}",
                "identity_map": None
                if person.identities is None
                else {
                    namespace: [{"id": one.id, "primary": one.primary} for one in identities]
                    for namespace, identities in person.identities.items()
                },
                "test_profile": person.test,
                "has_record": person.has_record,
                "updated_at": time,
                "ingested_at": _stored(person.ingested),
            }
            for person in people
        ],
        "person_id",
    )
    _write(
        database,
        folder / "fragments.parquet",
        {
            "person_id": "BIGINT",
            "rank": "BIGINT",
            "updated_at": "TIMESTAMP",
            "ingested_at": "TIMESTAMP",
            "dataset_id": "VARCHAR",
        }
        | {attribute.path: attribute.type for attribute in attributes},
        [
            {
                "person_id": person.id,
                "rank": rank,
                "updated_at": time,
                "ingested_at": _stored(fragment.ingested),
                "dataset_id": fragment.dataset,
                **fragment.values,
            }
            for rank, person, fragment in _ranked(people, lambda person: person.known)
        ],
        "person_id, rank",
    )
    _write(
        database,
        folder / "events.parquet",
        {
            "person_id": "BIGINT",
            "rank": "BIGINT",
            "happened_at": "TIMESTAMP",
            "ingested_at": "TIMESTAMP",
        }
        | {attribute.path: attribute.type for attribute in EVENT_ATTRIBUTES},
        [
            {
                "person_id": person.id,
                "rank": rank,
                "happened_at": time,
                "ingested_at": _stored(event.ingested),
                **event.values,
            }
            for rank, person, event in _ranked(people, lambda person: person.happened)
        ],
        "person_id, rank",
    )
    _write(
        database,
        folder / "memberships.parquet",
        {
            "person_id": "BIGINT",
            "namespace": "VARCHAR",
            "segment": "VARCHAR",
            "status": "VARCHAR",
            "qualified_at": "TIMESTAMP",
        },
        [
            {
                "person_id": person.id,
                "namespace": namespace,
                "segment": segment,
                "status": standing.status,
                "qualified_at": _stored(standing.qualified),
            }
            for person in people
            for (namespace, segment), standing in person.standings.items()
        ],
        "namespace, segment, person_id",
    )


def _ranked(
    people: Sequence[Person], rows: Callable[[Person], Sequence[T]]
) -> Sequence[tuple[int, Person, T]]:
    """What people have with its ranks: total in the bucket, and as far apart as they can be."""
    ages = max((len(rows(person)) for person in people), default=0)
    aged = chain.from_iterable(
        ((person, rows(person)[age]) for person in people if age < len(rows(person)))
        for age in range(ages)
    )
    ranked = list(enumerate(aged, start=1))
    apart = (RANKS - 1) // max(1, len(ranked))
    return [(place * apart, person, row) for place, (person, row) in ranked]


def _stored(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ")


def _write(
    database: duckdb.DuckDBPyConnection,
    path: Path,
    columns: Mapping[str, str],
    rows: Sequence[Mapping[str, Any]],
    order: str,
) -> None:
    lines = path.with_suffix(".ndjson")
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    types = ", ".join(f"{identifier(name)}: {literal(kind)}" for name, kind in columns.items())
    database.execute(
        f"COPY (SELECT * FROM read_json({file_to_read(lines)}, format='newline_delimited', "
        f"hive_partitioning=false, columns={{{types}}}) ORDER BY {order}) "
        f"TO {file_to_write(path)} (FORMAT parquet)"
    )
    lines.unlink()
