"""The identity graph: a table that says which identity belongs to which person.

A row is a JSON object with `namespace`, `id` and `person`: a person key, as in `personID`.
An identity belongs to one person; a later row about it takes the place of an older one.
It is a table and no closure: what a row says of a person leads no further. The former
person of an identity stays in the file, for the erasure of what was exported under its key;
it joins nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from segexport.errors import GraphContradiction
from segexport.jobs.values import MAX_NAME
from segexport.profiles.rules import (
    MAX_ID,
    READABLE,
    Rule,
    first_broken,
    not_an_identity,
    parsed,
    refused_text,
)
from segexport.profiles.snapshots import Snapshot
from segexport.profiles.sources import place_of
from segexport.sql import file_to_write, parquet

MAX_PERSON: Final = MAX_NAME + 1 + MAX_ID
"""Characters in a row's person: as many as in the longest key, `namespace:id`."""

CHANGES: Final = "graph_changes"
"""The temporary table of rows that a load adds or replaces: namespace, id, person_key."""

RULES: Final = (
    *READABLE,
    Rule(
        "graph_identity",
        "a row of the identity graph needs a namespace and an id, as they stand in identityMap",
        f"coalesce({not_an_identity('namespace', 'id')}, true)",
    ),
    Rule(
        "graph_person",
        f"a row of the identity graph needs a person, a string of 1 to {MAX_PERSON} characters",
        f"coalesce(length(person_key) NOT BETWEEN 1 AND {MAX_PERSON}, true)",
    ),
)
"""What a row has to be, in order."""

_NAMED: Final = 3  # contradictions in one message


def rows_checked(records: str) -> str:
    """A query that checks rows; `records` gives their position BIGINT and text VARCHAR.

    It gives, for a refused row, position, reason and raw; for others, position, namespace,
    id and person_key.
    """
    named = ", ".join(
        f"CASE WHEN json_type(parts[{number}]) = 'VARCHAR' THEN parts[{number}]->>'$' END AS {name}"
        for number, name in enumerate(("namespace", "id", "person_key"), start=1)
    )
    return f"""
      SELECT position, {first_broken(RULES)} AS reason,
             CASE WHEN reason IS NOT NULL THEN {refused_text()} END AS raw,
             namespace, id, person_key
      FROM (SELECT *, {named}
            FROM (SELECT *, json_extract(document, ['/namespace', '/id', '/person']) AS parts
                  FROM ({parsed(records)})))"""


@dataclass(frozen=True, slots=True)
class Graph:
    """An identity graph: its file, in the layout of `snapshots`, and how many rows count.

    `changed` tells whether it says something else than the graph before, and then what it
    says is in the table `CHANGES`.
    """

    file: Path
    rows: int
    changed: bool = False


def graph_of(snapshot: Snapshot) -> Graph:
    """The graph of a snapshot."""
    return Graph(snapshot.graph_file, snapshot.graph_rows)


def empty_graph(connection: duckdb.DuckDBPyConnection, file: Path) -> Graph:
    """A graph that knows nobody, written to `file`."""
    connection.execute(f"""
        COPY (SELECT '' AS namespace, '' AS id, '' AS person_key WHERE false)
        TO {file_to_write(file)} (FORMAT parquet)""")
    return Graph(file, rows=0)


def grown(
    connection: duckdb.DuckDBPyConnection,
    base: Graph,
    *,
    parts: Sequence[Path],
    sources: Sequence[Path],
    file: Path,
) -> Graph:
    """The graph with the checked rows in `parts`, which came from `sources`; written to `file`.

    It is the base itself where nothing in it changes. Raises `GraphContradiction` if the rows
    give one identity to two persons.
    """
    new = f"SELECT namespace, id, person_key FROM {parquet(parts)} WHERE reason IS NULL"
    connection.execute(f"CREATE TEMP TABLE {CHANGES} AS SELECT DISTINCT * FROM ({new})")
    _refuse_contradictions(connection, parts, sources)
    old = parquet([base.file])
    connection.execute(f"""
        DELETE FROM {CHANGES} USING {old} AS known
        WHERE ({CHANGES}.namespace, {CHANGES}.id, {CHANGES}.person_key)
              = (known.namespace, known.id, known.person_key)""")
    if not _count(connection, CHANGES):
        return base
    connection.execute(f"""
        COPY (FROM {old} ANTI JOIN {CHANGES} USING (namespace, id)
              UNION SELECT {former("namespace")}, id, person_key
                    FROM {old} SEMI JOIN {CHANGES} USING (namespace, id)
              UNION FROM {CHANGES} ORDER BY namespace, id, person_key)
        TO {file_to_write(file)} (FORMAT parquet)""")
    return Graph(file, rows_that_count(connection, parquet([file])), changed=True)


def persons_of(identities: str, graph: Path) -> str:
    """A query for the person key that the graph gives to each `key` of a query.

    `identities` gives key BIGINT, "primary" BOOLEAN, namespace and id. The first identity
    that the graph knows decides: a primary one, then by namespace and id. A key without any
    is left out.
    """
    return f"""
        SELECT key, arg_min(person_key, (NOT "primary", namespace, id)) AS person_key
        FROM ({identities}) JOIN {parquet([graph])} USING (namespace, id) GROUP BY key"""


def former(namespace: str) -> str:
    """SQL for the namespace of rows that say whose an identity of this namespace used to be."""
    return f"(':' || {namespace})"


def rows_that_count(connection: duckdb.DuckDBPyConnection, graph: str) -> int:
    """How many rows of a graph say whose an identity is now."""
    return _count(connection, f"{graph} WHERE NOT starts_with(namespace, ':')")


def identities_of(persons: str) -> str:
    """A query for the identities of persons: person_id, namespace, id and "primary"."""
    return f"""
        SELECT person_id, namespace, one.id, one."primary"
        FROM (SELECT person_id, namespace, unnest(listed) AS one
              FROM (SELECT person_id, unnest(map_keys(identity_map)) AS namespace,
                           unnest(map_values(identity_map)) AS listed
                    FROM {persons}))"""


def _refuse_contradictions(
    connection: duckdb.DuckDBPyConnection, parts: Sequence[Path], sources: Sequence[Path]
) -> None:
    twice = connection.execute(f"""
        SELECT namespace, id FROM {CHANGES} GROUP BY ALL HAVING count(*) > 1
        ORDER BY ALL""").fetchmany(_NAMED + 1)
    if not twice:
        return
    told = []
    for identity in twice[:_NAMED]:
        rows = connection.execute(
            f"""SELECT person_key, min(position) FROM {parquet(parts)}
                WHERE reason IS NULL AND (namespace, id) = (?, ?)
                GROUP BY person_key ORDER BY 2 LIMIT 2""",
            identity,
        ).fetchall()
        one, other = (f"{person!r} ({_where(position, sources)})" for person, position in rows)
        told.append(f"{':'.join(identity)} to {one} and to {other}")
    more = ", and more" if len(twice) > _NAMED else ""
    raise GraphContradiction(
        f"an identity belongs to one person, but the graph gives {'; '.join(told)}{more}; "
        "nothing was written: leave one of the rows out"
    )


def _where(position: int, sources: Sequence[Path]) -> str:
    source, record = place_of(position)
    return f"{sources[source]}, record {record}"


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    ((rows,),) = connection.execute(f"SELECT count(*) FROM {table}").fetchall()
    return int(rows)
