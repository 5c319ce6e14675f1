"""Splits checked records by bucket, once the identity graph has said whose they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from segexport.profiles.attributes import column_in_document, structure
from segexport.profiles.column_types import column_types
from segexport.profiles.graph import Graph, persons_of
from segexport.profiles.intake import Taken
from segexport.profiles.snapshots import Attribute
from segexport.sql import file_to_write, identifier, literal, parquet

_ROWS: Final = 16_384  # in a row group, which is what a thread reads: a bucket keeps several busy

_CHECKED: Final = """(SELECT NULL::BIGINT AS position, NULL::BIGINT AS person_id,
    NULL::VARCHAR AS person_key, NULL::TIMESTAMP AS updated_at,
    NULL::STRUCT(namespace VARCHAR, id VARCHAR, "primary" BOOLEAN)[] AS identities,
    NULL::STRUCT(namespace VARCHAR, segment VARCHAR, status VARCHAR, qualified_at TIMESTAMP)[]
        AS memberships,
    NULL::VARCHAR AS attributes WHERE false)"""
"""What checked records look like, without any."""


@dataclass(frozen=True, slots=True)
class Split:
    """Checked records of one kind, in a folder split by bucket, and their attributes."""

    folder: Path
    attributes: Sequence[Attribute]

    def rows(self, bucket: int) -> str:
        """The bucket's records, as they stand behind FROM."""
        files = sorted((self.folder / f"bucket={bucket}").glob("*.parquet"))
        return f"(FROM {parquet(files)})" if files else _CHECKED

    def select(self, bucket: int, items: str) -> str:
        """These items of the bucket's records, and a column for each attribute."""
        rows = self.rows(bucket)
        if not self.attributes:
            return f"SELECT {items} FROM {rows}"
        columns = "".join(
            f", {column_in_document(each, 'document', 'attributes')} AS {identifier(each.path)}"
            for each in self.attributes
        )
        shape = literal(structure(self.attributes))
        documents = f"SELECT *, from_json(attributes, {shape}) AS document FROM {rows}"
        return f"SELECT {items}{columns} FROM ({documents})"


def split(
    connection: duckdb.DuckDBPyConnection,
    taken: Taken,
    *,
    known: Sequence[Attribute],
    held: Sequence[Path],
    buckets: int,
    graph: Graph,
    person_id: str,
    folder: Path,
) -> Split:
    """Write the records to a folder, split by bucket; the parts that they came in are gone.

    `known` are the attributes of records that are there already, in the files `held`;
    `person_id` is the SQL that makes the id from the column person_key.
    """
    attributes = known
    if taken.accepted:
        attributes = column_types(
            connection,
            taken.found.attributes,
            exact=taken.found.exact,
            records=taken.parts,
            known=known,
            held=held,
        )
        records = f"(FROM {parquet(taken.parts)} WHERE reason IS NULL)"
        if graph.rows:
            records = _joined(records, graph, person_id)
        connection.execute(f"""
            COPY (SELECT * EXCLUDE (reason, raw, is_named, exact), person_id % {buckets} AS bucket
                  FROM {records})
            TO {file_to_write(folder)}
            (FORMAT parquet, PARTITION_BY (bucket), ROW_GROUP_SIZE {_ROWS})""")
    for part in taken.parts:
        part.unlink()
    return Split(folder, attributes)


def _joined(records: str, graph: Graph, person_id: str) -> str:
    """The records with the persons that the graph gives them."""
    identities = f"""
        SELECT position AS key, one."primary", one.namespace, one.id
        FROM (SELECT position, unnest(identities) AS one FROM {records} WHERE NOT is_named)"""
    return f"""
        (SELECT * REPLACE ({person_id} AS person_id)
         FROM (SELECT own.* REPLACE (coalesce(known.person_key, own.person_key) AS person_key)
               FROM {records} AS own
               LEFT JOIN ({persons_of(identities, graph.file)}) AS known ON own.position = key))"""
