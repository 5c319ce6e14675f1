"""Who a person is that is to be erased: by which identities, keys and ids it is known."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from segexport.database import open_database
from segexport.profiles.fragments import PERSON_ID
from segexport.profiles.graph import former, identities_of
from segexport.profiles.snapshots import ProfileStore, Snapshot
from segexport.sql import parquet


@dataclass(frozen=True, slots=True)
class Identity:
    """An identity: an id in a namespace."""

    namespace: str
    id: str

    def __str__(self) -> str:
        return f"{self.namespace}:{self.id}"


@dataclass(frozen=True, slots=True)
class Subject:
    """A person to be erased, as the newest snapshot that has it knows it.

    `former_keys` are other keys that it had, by what older snapshots and the identity graph
    remember.
    """

    person_id: int
    person_key: str
    identities: frozenset[Identity]
    former_keys: frozenset[str] = frozenset()

    @property
    def keys(self) -> frozenset[str]:
        """Every key that it may have, or have had."""
        return self.former_keys | {self.person_key, *map(str, self.identities)}


def find(store: Path, identity: Identity) -> Sequence[Subject]:
    """Everybody who has this identity in any snapshot of the store, by person id.

    Who had another key in an older snapshot, before the identity graph said otherwise, is
    one person.
    """
    found: dict[int, Subject] = {}
    opened = ProfileStore(store)
    with open_database() as database:
        for snapshot_id in reversed(opened.ids()):
            for older in _found_in(database, opened.snapshot(snapshot_id), identity):
                same = (one for one in found.values() if older.person_key in one.keys)
                known = found.get(older.person_id) or next(same, older)
                found[known.person_id] = replace(
                    known,
                    identities=known.identities | older.identities,
                    former_keys=(known.former_keys | older.former_keys | {older.person_key})
                    - {known.person_key},
                )
    return sorted(found.values(), key=lambda subject: subject.person_id)


def person_ids(store: Path, subjects: Sequence[Subject]) -> frozenset[int]:
    """Every id under which these persons may have been exported.

    A person's key, and with it the id, changes when the identity graph does, so whatever
    could have been a key counts, unless it is that of somebody else now.
    """
    keys = {key for subject in subjects for key in subject.keys}
    certain = frozenset(subject.person_id for subject in subjects)
    opened = ProfileStore(store)
    with open_database() as database:
        (ids,) = zip(
            *database.execute(
                f"SELECT {PERSON_ID} FROM (SELECT unnest(?) AS person_key)", [sorted(keys)]
            ).fetchall(),
            strict=True,
        )
        possible = frozenset(ids) - certain
        if not possible:
            return certain
        newest = opened.latest()
        files = [newest.persons_file(bucket) for bucket in range(newest.buckets)]
        others = database.execute(
            f"SELECT person_id FROM {parquet(files)} WHERE person_id IN (SELECT unnest(?))",
            [sorted(possible)],
        ).fetchall()
    return certain | (possible - {person_id for (person_id,) in others})


def _found_in(
    database: duckdb.DuckDBPyConnection, snapshot: Snapshot, identity: Identity
) -> Iterator[Subject]:
    persons = parquet([snapshot.persons_file(bucket) for bucket in range(snapshot.buckets)])
    graph = parquet([snapshot.graph_file])
    # The graph may know somebody of whom nothing else is known.
    rows = database.execute(
        f"""
        WITH keys AS (
          SELECT person_key FROM {persons}
          WHERE list_contains(
            list_transform(identity_map[$namespace], lambda one: one.id), $id)
          UNION
          SELECT person_key FROM {graph} WHERE namespace = $namespace AND id = $id
        ), known AS (
          SELECT person_key, coalesce(person_id, {PERSON_ID}) AS person_id, identity_map
          FROM keys LEFT JOIN {persons} USING (person_key)
        ), identities AS (
          SELECT person_id, namespace, id FROM ({identities_of("known")})
          UNION
          SELECT person_id, namespace, id FROM known JOIN {graph} USING (person_key)
          WHERE NOT starts_with(namespace, ':')
          UNION
          SELECT person_id, $namespace, $id FROM known
        )
        SELECT person_id, known.person_key,
               list(DISTINCT struct_pack(identities.namespace, identities.id)),
               list(DISTINCT former.person_key) FILTER (former.person_key IS NOT NULL)
        FROM known JOIN identities USING (person_id)
             LEFT JOIN {graph} AS former
               ON former.namespace = {former("identities.namespace")} AND former.id = identities.id
        GROUP BY ALL""",
        {"namespace": identity.namespace, "id": identity.id},
    ).fetchall()
    for person_id, person_key, identities, former_keys in rows:
        yield Subject(
            person_id,
            person_key,
            frozenset(Identity(**one) for one in identities),
            frozenset(former_keys or ()),
        )
