"""Merges one bucket: what an older snapshot holds and what is new become the next one's files."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb

from segexport.errors import ProfileStoreError
from segexport.profiles.attributes import column_in_base
from segexport.profiles.fragments import EVENT_ID
from segexport.profiles.graph import identities_of
from segexport.profiles.moving import MOVED, Moved
from segexport.profiles.snapshots import BUCKET_FILES, Attribute, Snapshot
from segexport.sql import file_to_write, identifier, parquet

TEST_PROFILE: Final = "testProfile"
"""The attribute that tells whether a profile is a test profile."""

_NEW: Final = 1 << 62
"""Taken from the ranks of the base, so that they come before those of everything new.

It leaves room below for the ranks of those who have moved.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """What is new in a bucket, as four queries.

    `fragments` gives person_id, updated_at, ingested_at, dataset_id, rank BIGINT (order of
    loading, from 0), and a column for each attribute: beside attributes, whatever they are
    called, no other names are possible than the reserved ones. `events` gives person_id,
    happened_at, ingested_at, rank and the columns of its attributes. `persons` gives, for
    each fragment and event, person_id, person_key and identities STRUCT(namespace, id,
    "primary")[]; `memberships` gives person_id, namespace, segment, status, qualified_at,
    position BIGINT (order of loading).
    """

    fragments: str
    events: str
    persons: str
    memberships: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket to be written into a new folder.

    `base` is the snapshot to add to, `moved` those of its persons who get another key.
    """

    number: int
    of: int
    folder: Path
    base: Snapshot | None
    moved: Moved | None
    incoming: Incoming
    attributes: Sequence[Attribute]
    event_attributes: Sequence[Attribute]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a written bucket holds."""

    persons: int
    empty: int
    fragments: int
    events: int
    namespaces: frozenset[str]
    datasets: frozenset[str]
    segments: Mapping[tuple[str, str], Counter[str]]


def merge(connection: duckdb.DuckDBPyConnection, bucket: Bucket) -> Contents:
    """Write the bucket's files.

    Raises `ProfileStoreError` if two persons of the bucket share an id.
    """
    bucket.folder.mkdir(parents=True)
    for name, query in (
        ("incoming_fragments", bucket.incoming.fragments),
        ("incoming_events", bucket.incoming.events),
        ("incoming_persons", bucket.incoming.persons),
    ):
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {query}")
    _view_base(connection, bucket)
    _refuse_collisions(connection)
    persons, fragments, events, memberships = (bucket.folder / name for name in BUCKET_FILES)
    _write(connection, _merged_fragments(bucket.attributes), fragments)
    _write(connection, _merged_events(bucket.event_attributes, bucket.moved), events)
    _write(connection, _merged_persons(bucket.attributes, fragments, events), persons)
    _write(connection, _merged_memberships(bucket.incoming.memberships), memberships)
    return _contents(connection, persons, fragments, events, memberships)


def _view_base(connection: duckdb.DuckDBPyConnection, bucket: Bucket) -> None:
    """Make the views base_fragments, base_events, base_persons and base_memberships.

    They are empty without a base.
    """
    run, base = connection.execute, bucket.base
    if base is None:
        run(f"""
            CREATE OR REPLACE TEMP VIEW base_fragments AS
            SELECT 0::BIGINT AS person_id, NULL::TIMESTAMP AS updated_at,
                   NULL::TIMESTAMP AS ingested_at, '' AS dataset_id, 0::BIGINT AS rank
                   {nulls(bucket.attributes)} WHERE false""")
        run(f"""
            CREATE OR REPLACE TEMP VIEW base_events AS
            SELECT 0::BIGINT AS person_id, NULL::TIMESTAMP AS happened_at,
                   NULL::TIMESTAMP AS ingested_at, 0::BIGINT AS rank
                   {nulls(bucket.event_attributes)} WHERE false""")
        run("""
            CREATE OR REPLACE TEMP VIEW base_persons AS
            SELECT 0::BIGINT AS person_id, '' AS person_key,
                   NULL::MAP(VARCHAR, STRUCT(id VARCHAR, "primary" BOOLEAN)[]) AS identity_map
            WHERE false""")
        run("""
            CREATE OR REPLACE TEMP VIEW base_memberships AS
            SELECT 0::BIGINT AS person_id, '' AS namespace, '' AS segment, '' AS status,
                   NULL::TIMESTAMP AS qualified_at, 0::BIGINT AS position WHERE false""")
        return
    run(f"""
        CREATE OR REPLACE TEMP VIEW base_fragments AS
        SELECT person_id, updated_at, ingested_at, dataset_id, rank - {_NEW} AS rank
               {_columns_in_base(bucket.attributes, base.attributes)}
        FROM {_rows_in_base(bucket, base, "fragments.parquet")}""")
    run(f"""
        CREATE OR REPLACE TEMP VIEW base_events AS
        SELECT person_id, happened_at, ingested_at, rank - {_NEW} AS rank
               {_columns_in_base(bucket.event_attributes, base.event_attributes)}
        FROM {_rows_in_base(bucket, base, "events.parquet")}""")
    run(f"""
        CREATE OR REPLACE TEMP VIEW base_persons AS
        SELECT person_id, person_key, identity_map
        FROM {_rows_in_base(bucket, base, "persons.parquet")}""")
    run(f"""
        CREATE OR REPLACE TEMP VIEW base_memberships AS
        FROM {_rows_in_base(bucket, base, "memberships.parquet", ", -1::BIGINT AS position")}""")


def _rows_in_base(bucket: Bucket, base: Snapshot, name: str, more: str = "") -> str:
    """The bucket's rows of one of the base's files, as they stand behind FROM.

    Those of persons who have moved are where they belong now. Ranks and positions of all are
    below those of everything new.
    """
    # A bucket of the base spreads over several where the store has grown.
    file = base.file(bucket.number % base.buckets, name)
    here = f"person_id % {bucket.of} = {bucket.number}"
    if bucket.moved is None:
        return f"(SELECT *{more} FROM {parquet([file])} WHERE {here})"
    stayed = f"""
        SELECT *{more} FROM {parquet([file])}
        WHERE {here} AND person_id NOT IN (SELECT old_id FROM {MOVED})"""
    arrived = bucket.moved.rows(name, bucket.number)
    return f"({stayed} UNION ALL BY NAME FROM {arrived})" if arrived else f"({stayed})"


def nulls(attributes: Sequence[Attribute]) -> str:
    """Select items that give the columns of attributes, of their types and all NULL."""
    return "".join(f", NULL::{each.type} AS {identifier(each.path)}" for each in attributes)


def _columns_in_base(attributes: Sequence[Attribute], base: Sequence[Attribute]) -> str:
    return "".join(
        f", {column_in_base(each, base)} AS {identifier(each.path)}" for each in attributes
    )


def _refuse_collisions(connection: duckdb.DuckDBPyConnection) -> None:
    shared = connection.execute("""
        SELECT person_id, min(person_key), max(person_key)
        FROM (SELECT person_id, person_key FROM incoming_persons
              UNION ALL SELECT person_id, person_key FROM base_persons)
        GROUP BY person_id HAVING min(person_key) <> max(person_key)
        ORDER BY person_id LIMIT 1""").fetchone()
    if shared is not None:
        raise ProfileStoreError(
            f"the persons {shared[1]!r} and {shared[2]!r} get the same person id {shared[0]}; "
            "nothing was written: give one of them another personID"
        )


def _write(connection: duckdb.DuckDBPyConnection, query: str, file: Path) -> None:
    connection.execute(f"COPY ({query}) TO {file_to_write(file)} (FORMAT parquet)")


def _merged_fragments(attributes: Sequence[Attribute]) -> str:
    columns = "".join(f", {identifier(attribute.path)}" for attribute in attributes)
    return f"""
        SELECT person_id, row_number() OVER (ORDER BY every.updated_at, every.rank) AS rank,
               updated_at, ingested_at, dataset_id{columns}
        FROM (SELECT person_id, updated_at, ingested_at, dataset_id, rank{columns}
              FROM base_fragments
              UNION ALL
              SELECT person_id, updated_at, ingested_at, dataset_id, rank{columns}
              FROM incoming_fragments) AS every
        ORDER BY 1, 2"""


def _merged_events(attributes: Sequence[Attribute], moved: Moved | None) -> str:
    """Of a person's events with one id the one that was loaded first stays."""
    # Two in the base were two persons' events: their ranks do not say which was there first.
    loaded = "every.rank"
    if moved is not None:
        loaded = "CASE WHEN every.rank < 0 THEN every.ingested_at END, every.rank"
    columns = "".join(f", {identifier(attribute.path)}" for attribute in attributes)
    every = f"""
        SELECT person_id, happened_at, ingested_at, rank{columns} FROM base_events
        UNION ALL
        SELECT person_id, happened_at, ingested_at, rank{columns} FROM incoming_events"""
    if attributes:
        every = f"""
            SELECT * FROM ({every}) AS every QUALIFY row_number() OVER (
                PARTITION BY person_id, {identifier(EVENT_ID)} ORDER BY {loaded}) = 1"""
    return f"""
        SELECT person_id, row_number() OVER (ORDER BY every.happened_at, every.rank) AS rank,
               happened_at, ingested_at{columns}
        FROM ({every}) AS every ORDER BY 1, 2"""


def _merged_persons(attributes: Sequence[Attribute], fragments: Path, events: Path) -> str:
    # An older fragment may arrive later: the latest test mark is found among all fragments.
    test_profile = (
        f"coalesce(arg_max({identifier(TEST_PROFILE)}, rank), false)"
        if any(attribute.path == TEST_PROFILE for attribute in attributes)
        else "false"
    )
    return f"""
        WITH identities AS (
          SELECT person_id, namespace, id, bool_or("primary") AS "primary"
          FROM (SELECT person_id, one.namespace, one.id, one."primary"
                FROM (SELECT person_id, unnest(identities) AS one FROM incoming_persons)
                UNION ALL {identities_of("base_persons")})
          GROUP BY ALL
        ), by_namespace AS (
          SELECT person_id, namespace,
                 list(struct_pack(id := id, "primary" := "primary") ORDER BY "primary" DESC, id)
                   AS listed
          FROM identities GROUP BY ALL
        ), identity_maps AS (
          SELECT person_id, map(list(namespace ORDER BY namespace), list(listed ORDER BY namespace))
                   AS identity_map
          FROM by_namespace GROUP BY person_id
        ), keys AS (
          SELECT person_id, any_value(person_key) AS person_key
          FROM (SELECT person_id, person_key FROM incoming_persons
                UNION ALL SELECT person_id, person_key FROM base_persons)
          GROUP BY person_id
        ), recorded AS (
          SELECT person_id, {test_profile} AS test_profile, true AS has_record,
                 max(updated_at) AS updated_at, max(ingested_at) AS ingested_at
          FROM {parquet([fragments])} GROUP BY person_id
        ), merged AS (
          FROM recorded
          UNION ALL
          SELECT person_id, false, false, max(happened_at), max(ingested_at)
          FROM {parquet([events])} ANTI JOIN recorded USING (person_id) GROUP BY person_id
        )
        SELECT person_id, person_key, identity_map, test_profile, has_record, updated_at,
               ingested_at
        FROM merged JOIN keys USING (person_id) LEFT JOIN identity_maps USING (person_id)
        ORDER BY person_id"""


def _merged_memberships(memberships: str) -> str:
    return f"""
        SELECT person_id, namespace, segment,
               arg_max(status, (qualified_at, position)) AS status,
               max(qualified_at) AS qualified_at
        FROM (FROM ({memberships}) UNION ALL BY NAME FROM base_memberships)
        GROUP BY ALL
        ORDER BY namespace, segment, person_id"""


def _contents(
    connection: duckdb.DuckDBPyConnection,
    persons: Path,
    fragments: Path,
    events: Path,
    memberships: Path,
) -> Contents:
    def rows(query: str) -> list[tuple[Any, ...]]:
        return connection.execute(query).fetchall()

    segments: dict[tuple[str, str], Counter[str]] = {}
    for namespace, segment, status, size in rows(f"""
            SELECT namespace, segment, status, count(*)
            FROM {parquet([memberships])} GROUP BY ALL"""):
        segments.setdefault((namespace, segment), Counter())[status] = size
    ((person_count, empty_count),) = rows(
        f"SELECT count(*), count(*) FILTER (NOT has_record) FROM {parquet([persons])}"
    )
    ((fragment_count, event_count),) = rows(f"""
        SELECT (SELECT count(*) FROM {parquet([fragments])}),
               (SELECT count(*) FROM {parquet([events])})""")
    datasets = rows(f"SELECT DISTINCT dataset_id FROM {parquet([fragments])}")
    namespaces = rows(f"""
        SELECT DISTINCT unnest(map_keys(identity_map)) FROM {parquet([persons])}""")
    return Contents(
        persons=person_count,
        empty=empty_count,
        fragments=fragment_count,
        events=event_count,
        datasets=frozenset(dataset for (dataset,) in datasets),
        namespaces=frozenset(namespace for (namespace,) in namespaces),
        segments=segments,
    )
