"""Profile fragments for tests, and what a store must hold after loading them.

`expected` is slow and obvious Python, written against docs/profiles.md; the loader is held
to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import md5
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import duckdb
import orjson

from segexport.profiles.builder import Resources
from segexport.profiles.loading import LoadReport, load
from segexport.profiles.snapshots import Snapshot
from segexport.sql import identifier, parquet

NOW: Final = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
RESOURCES: Final = Resources(threads=2, memory_limit="256MB")

Document = dict[str, Any]
Row = tuple[Any, ...]
Graph = Mapping[tuple[str, str], str]
"""The person of each (namespace, id)."""


@dataclass(frozen=True, slots=True)
class Contents:
    """The three tables of a snapshot, whole, in the order of their buckets and rows."""

    persons: Sequence[Row]
    fragments: Sequence[Row]
    memberships: Sequence[Row]


def fragment(key: Any = "p1", at: Any = "2026-01-01T00:00:00Z", **more: Any) -> Document:
    """A small valid fragment; `more` is added to it."""
    document = {"personID": key, "updatedAt": at, **more}
    return {name: value for name, value in document.items() if value is not None}


def event(key: Any = "p1", **more: Any) -> Document:
    """A small valid event; `more` is added to it, None takes a part away."""
    document = {"personID": key, "_id": "e1", "timestamp": "2026-01-01T00:00:00Z", **more}
    return {name: value for name, value in document.items() if value is not None}


def belongs(person: str, *identities: str) -> list[Document]:
    """Rows of the identity graph: these identities (`namespace:id`) are the person's."""
    pairs = (identity.split(":", 1) for identity in identities)
    return [{"namespace": namespace, "id": name, "person": person} for namespace, name in pairs]


def persons_by_identity(rows: Sequence[Document]) -> Graph:
    """The graph that these rows make."""
    return {(row["namespace"], row["id"]): row["person"] for row in rows}


def identity_map(*identities: str) -> Document:
    """An identityMap of identities written `namespace:id`, with a `!` behind a primary one."""
    found: Document = {}
    for identity in identities:
        namespace, name = identity.removesuffix("!").split(":", 1)
        found.setdefault(namespace, []).append({"id": name, "primary": identity.endswith("!")})
    return found


def write_lines(path: Path, records: Sequence[Document | str | bytes]) -> Path:
    """An NDJSON file; text is written as it is."""
    lines = (
        record.encode()
        if isinstance(record, str)
        else record
        if isinstance(record, bytes)
        else orjson.dumps(record)
        for record in records
    )
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def load_records(
    store: Path,
    records: Sequence[Document | str | bytes],
    *,
    happened: Sequence[Document | str | bytes] = (),
    graph: Sequence[Document | str | bytes] = (),
    **options: Any,
) -> LoadReport:
    """Load fragments, events that have `happened`, and rows of the identity graph, from NDJSON
    files beside the store."""
    files, events, rows = (
        [write_lines(store.parent / f"{store.name}-{name}.ndjson", lines)] if lines else []
        for name, lines in (("records", records), ("events", happened), ("graph", graph))
    )
    options = {"now": NOW, "resources": RESOURCES, **options}
    return load(store, files, events=events, graph=rows, **options)


def snapshot_of(report: LoadReport) -> Snapshot:
    """The snapshot of a load that made one."""
    assert report.snapshot is not None, f"nothing was accepted: {report.refused}"
    return report.snapshot


def contents(snapshot: Snapshot) -> Contents:
    """Everything in a snapshot's files; JSON columns as Python values."""

    def rows(table: str, columns: str) -> Sequence[Row]:
        found: list[Row] = []
        with duckdb.connect() as database:
            for bucket in range(snapshot.buckets):
                file = snapshot.folder / f"bucket={bucket:05d}" / f"{table}.parquet"
                database.execute(f"SELECT {columns} FROM {parquet([file])}")
                found += database.fetchall()
        return found

    paths = ", ".join(identifier(attribute.path) for attribute in snapshot.attributes)
    json_at = {
        3 + number
        for number, attribute in enumerate(snapshot.attributes)
        if attribute.type == "JSON"
    }
    fragments = [
        tuple(
            orjson.loads(value) if at in json_at and value is not None else value
            for at, value in enumerate(row)
        )
        for row in rows("fragments", f"person_id, rank, updated_at{', ' if paths else ''}{paths}")
    ]
    return Contents(
        persons=rows("persons", "person_id, person_key, identity_map, test_profile, updated_at"),
        fragments=fragments,
        memberships=rows("memberships", "person_id, namespace, segment, status, qualified_at"),
    )


def expected(
    documents: Sequence[Document], snapshot: Snapshot, graph: Graph = MappingProxyType({})
) -> Contents:
    """What a snapshot with these attributes and buckets must hold after `documents`, in order."""
    people: dict[int, list[tuple[datetime, int, Document]]] = {}
    for position, document in enumerate(documents):
        person = person_id(person_key(document, graph))
        moment = _moment(document["updatedAt"])
        people.setdefault(person, []).append((moment, position, document))
    persons: list[Row] = []
    fragments: list[Row] = []
    memberships: list[Row] = []
    for bucket in range(snapshot.buckets):
        here = sorted(person for person in people if person % snapshot.buckets == bucket)
        order = sorted((moment, at) for person in here for moment, at, _ in people[person])
        rank_of = {position: rank for rank, (_, position) in enumerate(order, start=1)}
        standing: dict[tuple[str, str, int], tuple[datetime, int, str]] = {}
        for person in here:
            history = sorted(people[person], key=lambda entry: entry[:2])
            marks = [one["testProfile"] for *_, one in history if "testProfile" in one]
            persons.append(
                (
                    person,
                    person_key(history[0][2], graph),
                    _identity_map([document for *_, document in history]),
                    marks[-1] if marks else False,
                    history[-1][0],
                )
            )
            for moment, position, document in history:
                values = [value_at(document, one.path) for one in snapshot.attributes]
                fragments.append((person, rank_of[position], moment, *values))
                for namespace, segments in document.get("segmentMembership", {}).items():
                    for segment, one in segments.items():
                        claim = (
                            _moment(one["lastQualificationTime"]),
                            position,
                            one.get("status", "realized"),
                        )
                        key = (namespace, segment, person)
                        standing[key] = max(claim, standing.get(key, claim))
        for (namespace, segment, person), (qualified, _, status) in sorted(standing.items()):
            memberships.append((person, namespace, segment, status, qualified))
    return Contents(persons, fragments, memberships)


def person_key(document: Mapping[str, Any], graph: Graph = MappingProxyType({})) -> str:
    """personID, else what the graph says, else the primary identity, else _id."""
    if "personID" in document:
        return str(document["personID"])
    identities = [
        (not one.get("primary", False), namespace, one["id"])
        for namespace, listed in document.get("identityMap", {}).items()
        for one in listed
    ]
    for _, namespace, name in sorted(identities):
        if (namespace, name) in graph:
            return graph[namespace, name]
    if identities:
        _, namespace, name = min(identities)
        return f"{namespace}:{name}"
    return str(document["_id"])


def person_id(key: str) -> int:
    """63 bits of the key's MD5."""
    return max(1 << 32, int.from_bytes(md5(key.encode()).digest()[8:], "little") >> 1)


def value_at(document: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, None where there is none."""
    value: Any = document
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _identity_map(documents: Sequence[Document]) -> dict[str, list[dict[str, Any]]] | None:
    found: dict[str, dict[str, bool]] = {}
    for document in documents:
        for namespace, listed in document.get("identityMap", {}).items():
            for one in listed:
                ids = found.setdefault(namespace, {})
                ids[one["id"]] = ids.get(one["id"], False) or one.get("primary", False)
    return {
        namespace: [
            {"id": name, "primary": primary}
            for name, primary in sorted(ids.items(), key=lambda one: (not one[1], one[0]))
        ]
        for namespace, ids in sorted(found.items())
    } or None


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)
