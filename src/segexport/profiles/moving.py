"""Moves persons whom a changed identity graph joins to others: their rows, under new keys.

A store does not remember which of a person's fragments had which identity. So persons move
whole, and only those of whom a changed identity is known. Who has a record with a
`personID` stays: that comes before the graph.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from segexport.profiles.graph import CHANGES, Graph, identities_of, persons_of
from segexport.profiles.snapshots import RANKS, Snapshot
from segexport.sql import file_to_write, identifier, parquet

MOVED: Final = "moved"
"""The temporary table of those who move: old_id, person_id and person_key, the new ones."""

_PERSON_ID: Final = "personID"
# No leaf can be called so, because nothing at the top of a record can be called person_id.
_BUCKET: Final = "person_id.bucket"


@dataclass(frozen=True, slots=True)
class Moved:
    """Rows of those who move, under their new ids, in a folder: by file name and bucket."""

    folder: Path
    persons: int

    def rows(self, name: str, bucket: int) -> str | None:
        """The rows that move into a bucket, as they stand behind FROM; None without any."""
        files = sorted((self.folder / name / f"{_BUCKET}={bucket}").glob("*.parquet"))
        return parquet(files) if files else None


def moved(
    connection: duckdb.DuckDBPyConnection,
    base: Snapshot,
    graph: Graph,
    *,
    person_id: str,
    buckets: int,
    folder: Path,
) -> Moved | None:
    """Those whom the changes of the graph move, into a snapshot of so many buckets.

    Makes the table `MOVED`; None where nobody moves. `person_id` is the SQL that makes the
    id from the column person_key.
    """
    connection.execute(_create_moved(base, graph, person_id))
    sources = connection.execute(
        f"SELECT old_id % {base.buckets} AS bucket, count(*) FROM {MOVED} GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    if not sources:
        return None
    folder.mkdir()
    for name, items in _items(base).items():
        files = [base.file(bucket, name) for bucket, _ in sources]
        connection.execute(f"""
            COPY (SELECT {items}, {MOVED}.person_id % {buckets} AS {identifier(_BUCKET)}
                  FROM {parquet(files)} AS own JOIN {MOVED} ON own.person_id = {MOVED}.old_id)
            TO {file_to_write(folder / name)}
            (FORMAT parquet, PARTITION_BY ({identifier(_BUCKET)}))""")
    return Moved(folder, sum(persons for _, persons in sources))


def _items(base: Snapshot) -> Mapping[str, str]:
    """What of the rows of those who move is kept, by file name.

    Ranks and positions stay unique in whatever bucket the rows come to lie. They say what was
    loaded first only within a bucket of the base; those of other buckets come before.
    """
    old, new = (f"{MOVED}.{column} % {base.buckets}" for column in ("old_id", "person_id"))
    shift = f"CASE WHEN {old} = {new} THEN 0 ELSE (1 + {old}) * {RANKS} END"
    new_id = f"{MOVED}.person_id AS person_id"
    ranked = f"own.* REPLACE ({new_id}, own.rank - {shift} AS rank)"
    return {
        "persons.parquet": f"{new_id}, {MOVED}.person_key, identity_map",
        "fragments.parquet": ranked,
        "events.parquet": ranked,
        "memberships.parquet": f"own.* REPLACE ({new_id}), -1 - {MOVED}.old_id AS position",
    }


def _create_moved(base: Snapshot, graph: Graph, person_id: str) -> str:
    persons = parquet([base.persons_file(bucket) for bucket in range(base.buckets)])
    staying = "".join(f" ANTI JOIN ({named}) USING (person_id)" for named in _named(base))
    known = persons_of('SELECT person_id AS key, "primary", namespace, id FROM held', graph.file)
    return f"""
        CREATE TEMP TABLE {MOVED} AS
        WITH touched AS (
          SELECT DISTINCT person_id
          FROM ({identities_of(persons)}) SEMI JOIN {CHANGES} USING (namespace, id) {staying}
        ), held AS (
          {identities_of(f"{persons} SEMI JOIN touched USING (person_id)")}
        )
        SELECT old_id, person_key, {person_id} AS person_id
        FROM (SELECT person_id AS old_id, known.person_key
              FROM {persons} AS persons JOIN ({known}) AS known ON person_id = key
              WHERE persons.person_key <> known.person_key)"""


def _named(base: Snapshot) -> Iterator[str]:
    """Queries for those who have a record with a `personID`."""
    for name, attributes in (
        ("fragments.parquet", base.attributes),
        ("events.parquet", base.event_attributes),
    ):
        if any(attribute.path == _PERSON_ID for attribute in attributes):
            files = [base.file(bucket, name) for bucket in range(base.buckets)]
            column = identifier(_PERSON_ID)
            yield f"SELECT person_id FROM {parquet(files)} WHERE {column} IS NOT NULL"
