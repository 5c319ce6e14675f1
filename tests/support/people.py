"""Small profile stores made of people that a test invents."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import duckdb

from segexport.profiles.snapshots import GRAPH, Attribute, SegmentSize, Snapshot, write_manifest
from segexport.sql import identifier, literal

NOW: Final = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SNAPSHOT_ID: Final = "00000001-20260301T120000Z"
ATTRIBUTES: Final = (
    Attribute("homeAddress.city", "VARCHAR"),
    Attribute("loyalty.points", "BIGINT"),
    Attribute("person.name.firstName", "VARCHAR"),
    Attribute("person.name.lastName", "VARCHAR"),
    Attribute("personalEmail.address", "VARCHAR"),
    Attribute("tags", "VARCHAR[]"),
)
EVENT_ATTRIBUTES: Final = (
    Attribute("_id", "VARCHAR"),
    Attribute("eventType", "VARCHAR"),
    Attribute("timestamp", "VARCHAR"),
    Attribute("web.pageViews", "BIGINT"),
)


@dataclass(frozen=True, slots=True)
class Identity:
    """One identity of a person in a namespace."""

    id: str
    primary: bool = False


@dataclass(frozen=True, slots=True)
class Person:
    """A person as a test invents one. `fragments` are in the order of their ranks.

    `memberships` maps (namespace, segment) to the standing there.
    """

    id: int
    fragments: Sequence[Mapping[str, Any]] = ({},)
    identities: Mapping[str, Sequence[Identity]] | None = None
    test: bool = False
    events: Sequence[Mapping[str, Any]] = ()
    memberships: Mapping[tuple[str, str], str] = field(default_factory=dict)


def write_snapshot(
    store: Path,
    people: Sequence[Person],
    *,
    buckets: int = 2,
    attributes: Sequence[Attribute] = ATTRIBUTES,
    segments: Sequence[tuple[str, str]] = (),
    snapshot_id: str = SNAPSHOT_ID,
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
        empty=sum(not person.fragments for person in people),
        events=sum(len(person.events) for person in people),
        event_attributes=EVENT_ATTRIBUTES,
        datasets=("crm",),
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
                f"FROM read_parquet({literal(file)}) AS one, range({count}) AS numbers(number)"
            )
            database.execute(f"COPY crowd TO {literal(file)} (FORMAT parquet)")
    crowd = replace(snapshot, persons=count, fragments=count)
    write_manifest(crowd)
    return crowd


def _sizes(people: Sequence[Person], more: Sequence[tuple[str, str]]) -> Sequence[SegmentSize]:
    named = sorted({name for person in people for name in person.memberships} | set(more))
    standings = {
        name: [person.memberships[name] for person in people if name in person.memberships]
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
    time = NOW.replace(tzinfo=None).isoformat(" ")
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
                "has_record": bool(person.fragments),
                "updated_at": time,
                "ingested_at": time,
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
                "ingested_at": time,
                "dataset_id": "crm",
                **fragment,
            }
            for person in people
            for rank, fragment in enumerate(person.fragments, start=1)
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
                "ingested_at": time,
                **event,
            }
            for person in people
            for rank, event in enumerate(person.events, start=1)
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
                "status": standing,
                "qualified_at": time,
            }
            for person in people
            for (namespace, segment), standing in person.memberships.items()
        ],
        "namespace, segment, person_id",
    )


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
        f"COPY (SELECT * FROM read_json({literal(lines)}, format='newline_delimited', "
        f"hive_partitioning=false, columns={{{types}}}) ORDER BY {order}) "
        f"TO {literal(path)} (FORMAT parquet)"
    )
    lines.unlink()
