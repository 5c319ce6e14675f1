"""The plan in DuckDB's SQL; `segexport.sql` quotes every name and string in it."""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

from segexport.events.vocabulary import EventCode
from segexport.exports.plan import (
    IDENTITIES,
    IDENTITY_MAP,
    PERSON_ID,
    SEGMENT_MEMBERSHIP,
    Delivery,
    ExportPlan,
    Tree,
)
from segexport.profiles.snapshots import Attribute
from segexport.sql import identifier, literal, parquet

SELECTED: Final = "selected"
"""Who stands in a wanted segment: person_id, position of the first segment that selects."""
PICKED: Final = "picked"
"""The piece's selected persons: person_id, position, identity_map, code."""

# An attribute may have any name, even that of a column beside it: each is qualified.
_MERGED: Final = "merged"
_STANDINGS: Final = "standings"

_DELIVERED: Final = f"SELECT person_id FROM {PICKED} WHERE code IS NULL"


def copy(query: str, target: Path) -> str:
    """Writes a query's rows to a Parquet file; returns its rows and size among other facts."""
    return f"COPY ({query}) TO {literal(target)} (FORMAT parquet, RETURN_STATS)"


def select(plan: ExportPlan, buckets: Sequence[int]) -> str:
    """Creates `selected` from the memberships of these buckets.

    A table of its own, because DuckDB then knows how few they are: it filters the scan of
    the persons by them instead of hashing all persons first (measured: 1.5 times as fast).
    """
    wanted = ", ".join(
        f"({position}, {literal(wanted.namespace)}, {literal(wanted.segment)}, {literal(standing)})"
        for position, wanted in enumerate(plan.segments)
        for standing in wanted.standings
    )
    return (
        f"CREATE OR REPLACE TEMP TABLE {SELECTED} AS SELECT person_id, min(position) AS position "
        f"FROM {parquet([*map(plan.snapshot.memberships_file, buckets)])} "
        f"JOIN (VALUES {wanted}) AS wanted(position, namespace, segment, status) "
        "USING (namespace, segment, status) GROUP BY person_id"
    )


def pick(plan: ExportPlan, buckets: Sequence[int], duplicates: str | None) -> str:
    """Creates `picked`: who the piece selects, and the code of those who are discarded.

    Selecting comes before merging, so that merging has only the selected to do.
    """
    code, join = "NULL::VARCHAR", ""
    if plan.delivery and duplicates:
        code = f"CASE {_judgement(plan.delivery)} WHEN winner <> person_id THEN "
        code += f"{literal(EventCode.ERROR_INSTANCE_DUPLICATION)} END"
        join = f"LEFT JOIN {identifier(duplicates)} USING (key)"
    return (
        f"CREATE OR REPLACE TEMP TABLE {PICKED} AS "
        f"SELECT person_id, position, identity_map, {code} AS code "
        f"FROM ({_persons(plan, buckets)}) {join}"
    )


def keys_table(table: str) -> str:
    """Creates the empty table of keys: key, person_id."""
    return f"CREATE OR REPLACE TABLE {identifier(table)} (key VARCHAR, person_id BIGINT)"


def insert_keys(plan: ExportPlan, delivery: Delivery, buckets: Sequence[int], table: str) -> str:
    """Adds the keys of those persons of these buckets who could be delivered."""
    return (
        f"INSERT INTO {identifier(table)} SELECT key, person_id FROM ({_persons(plan, buckets)}) "
        f"WHERE (CASE {_judgement(delivery)} END) IS NULL"
    )


def find_duplicates(keys: str, duplicates: str) -> str:
    """Creates the table of keys that several persons share: key, winner."""
    return (
        f"CREATE OR REPLACE TABLE {identifier(duplicates)} AS "
        f"SELECT key, min(person_id) AS winner FROM {identifier(keys)} "
        "GROUP BY key HAVING count(*) > 1"
    )


def drop(table: str) -> str:
    """Drops a table, if it is there."""
    return f"DROP TABLE IF EXISTS {identifier(table)}"


COUNT_PICKED: Final = f"SELECT count(*), count(code) FROM {PICKED}"
"""Selected, and discarded among them."""

COUNT_NAMESPACES: Final = (
    "SELECT namespace, count(*) FROM "
    f"(SELECT unnest(map_keys(identity_map)) AS namespace FROM {PICKED} WHERE code IS NULL) "
    "GROUP BY namespace ORDER BY namespace"
)
"""Exported profiles by namespace."""


def profiles(plan: ExportPlan, buckets: Sequence[int]) -> str:
    """The exported profiles of these buckets, merged and nested."""
    source = PICKED
    if plan.attributes:
        fragments = parquet([*map(plan.snapshot.fragments_file, buckets)])
        merged = _merge_all if not plan.segments else _merge_picked
        source += f" JOIN ({merged(plan.attributes, fragments)}) AS {_MERGED} USING (person_id)"
    if plan.segment_membership:
        memberships = parquet([*map(plan.snapshot.memberships_file, buckets)])
        source += f" LEFT JOIN ({_memberships(memberships)}) AS {_STANDINGS} USING (person_id)"
    return f"SELECT {', '.join(_output(plan))} FROM {source} WHERE {PICKED}.code IS NULL"


def discards(plan: ExportPlan) -> str:
    """The piece's rows of the discard file, in the order of buckets and person ids."""
    wanted = ", ".join(
        f"({position}, {literal(segment.namespace)}, {literal(segment.segment)})"
        for position, segment in enumerate(plan.segments)
    )
    namespace, segment, join = "NULL::VARCHAR", "NULL::VARCHAR", ""
    if wanted:
        namespace, segment = "wanted.namespace", "wanted.segment"
        join = f"JOIN (VALUES {wanted}) AS wanted(position, namespace, segment) USING (position)"
    return (
        f"SELECT {namespace} AS segment_namespace, {segment} AS segment, person_id, code "
        f"FROM {PICKED} {join} WHERE code IS NOT NULL "
        f"ORDER BY person_id % {plan.snapshot.buckets}, person_id"
    )


def join_files(files: Sequence[Path]) -> str:
    """All rows of these files, in the order of the files and of the rows in them."""
    return f"SELECT * FROM {parquet(files)}"


def describe(file: Path) -> str:
    """The columns of a Parquet file: name, type, and facts that Parquet does not have."""
    return f"DESCRIBE SELECT * FROM {parquet([file])}"


def _persons(plan: ExportPlan, buckets: Sequence[int]) -> str:
    """Who is selected, with what is needed to judge them: their identities and their key."""
    source = parquet([*map(plan.snapshot.persons_file, buckets)])
    facts = "person_id, identity_map, test_profile"
    if plan.delivery:
        facts += f", {_key(plan.delivery)} AS key"
    if not plan.segments:
        return f"SELECT {facts}, NULL::INTEGER AS position FROM {source}"
    return f"SELECT {facts}, position FROM {source} JOIN {SELECTED} USING (person_id)"


def _latest(attributes: Sequence[Attribute]) -> str:
    """The merge: of each attribute the latest value that is not NULL.

    `arg_max` passes over NULLs, which is exactly that rule; ranks have no ties.
    """
    return ", ".join(
        f"arg_max({identifier(a.path)}, rank) AS {identifier(a.path)}" for a in attributes
    )


def _merge_picked(attributes: Sequence[Attribute], fragments: str) -> str:
    return (
        f"SELECT person_id, {_latest(attributes)} FROM {fragments} "
        f"WHERE person_id IN ({_DELIVERED}) GROUP BY person_id"
    )


def _merge_all(attributes: Sequence[Attribute], fragments: str) -> str:
    """As `_merge_picked`, for everyone: most persons have one fragment, and need no merging."""
    names = ", ".join(identifier(a.path) for a in attributes)
    return (
        "WITH several AS MATERIALIZED "
        f"(SELECT person_id FROM {fragments} GROUP BY person_id HAVING count(*) > 1) "
        f"SELECT person_id, {names} FROM {fragments} ANTI JOIN several USING (person_id) "
        f"UNION ALL SELECT person_id, {_latest(attributes)} FROM {fragments} "
        "SEMI JOIN several USING (person_id) GROUP BY person_id"
    )


def _key(delivery: Delivery) -> str:
    """A person's key: the primary identity in the journey's namespace, else the first by id.

    Most have one identity there and need no ranking, which takes as long as all the rest.
    """
    identities = f"identity_map[{literal(delivery.namespace)}]"
    named = f"list_filter({identities}, lambda i: coalesce(i.id, '') <> '')"
    ranked = (
        f"list_transform({named}, "
        "lambda i: {'later': NOT coalesce(i.\"primary\", false), 'id': i.id})"
    )
    return (
        f"CASE WHEN len({identities}) = 1 THEN nullif({identities}[1].id, '') "
        f"ELSE (list_min({ranked})).id END"
    )


def _judgement(delivery: Delivery) -> str:
    """The arms of a CASE that names why a person cannot be delivered, but for duplicates."""
    arms = [
        ("coalesce(cardinality(identity_map), 0) = 0", EventCode.ERROR_INSTANCE_NO_IDENTITY_MAP),
        ("key IS NULL", EventCode.ERROR_INSTANCE_BAD_NAMESPACE),
    ]
    if delivery.test_mode:
        arms.append(
            ("NOT coalesce(test_profile, false)", EventCode.ERROR_INSTANCE_NOT_A_TEST_PROFILE)
        )
    return " ".join(f"WHEN {condition} THEN {literal(code)}" for condition, code in arms)


def _output(plan: ExportPlan) -> Iterable[str]:
    columns = chain(
        [(PERSON_ID, f"{PICKED}.person_id")],
        ((name, _value(node)) for name, node in plan.tree.items()),
        [(IDENTITY_MAP, f"{PICKED}.identity_map")] if plan.identity_map else [],
        [(IDENTITIES, _identities(plan.identities))] if plan.identities else [],
        [(SEGMENT_MEMBERSHIP, f"{_STANDINGS}.segment_membership")]
        if plan.segment_membership
        else [],
    )
    return (f"{value} AS {identifier(name)}" for name, value in columns)


def _value(node: Attribute | Tree) -> str:
    if isinstance(node, Attribute):
        return f"{_MERGED}.{identifier(node.path)}"
    inner = ", ".join(f"{literal(name)}: {_value(below)}" for name, below in node.items())
    return f"{{{inner}}}"


def _identities(parts: Sequence[str]) -> str:
    """The identity map as one flat list; an absent map stays absent."""
    value = {"id": "i.id", "namespace": "e.key"}
    struct = ", ".join(f"{literal(part)}: {value[part]}" for part in parts)
    return (
        f"flatten(list_transform(map_entries({PICKED}.identity_map), "
        f"lambda e: list_transform(e.value, lambda i: {{{struct}}})))"
    )


def _memberships(memberships: str) -> str:
    """XDM's segmentMembership: namespace → segment → status and time of qualification."""
    return (
        "SELECT person_id, map_from_entries(list({'key': namespace, 'value': standing} "
        "ORDER BY namespace)) AS segment_membership FROM ("
        "SELECT person_id, namespace, map_from_entries(list({'key': segment, 'value': "
        "{'status': status, 'lastQualificationTime': qualified_at}} ORDER BY segment)) AS standing "
        f"FROM {memberships} WHERE person_id IN ({_DELIVERED}) GROUP BY person_id, namespace) "
        "GROUP BY person_id"
    )
