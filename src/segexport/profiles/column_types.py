"""The types of columns: what follows from all values together, those held and those that come.

JSON tells integers from other numbers, and no more. A column of integers that becomes one of
doubles, or has numbers that a double does not hold, is looked at whole: it stays DOUBLE where
that changes no number, becomes a DECIMAL where all fit into one, and JSON otherwise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb

from segexport.profiles.attributes import (
    DECIMAL,
    EMPTY_ARRAY,
    Tree,
    column_in_document,
    flatten,
    join,
    leaves,
    scale_of,
    structure,
    tree_of,
)
from segexport.profiles.numbers import DIGITS, digits, in_double, unmarked
from segexport.profiles.snapshots import Attribute
from segexport.sql import identifier, literal, parquet

_EMPTY: Final = "VARCHAR[]"
"""What arrays without an element are taken for."""


def column_types(
    connection: duckdb.DuckDBPyConnection,
    found: Tree,
    *,
    exact: bool,
    records: Sequence[Path],
    known: Sequence[Attribute],
    held: Sequence[Path],
) -> Sequence[Attribute]:
    """The attributes of all records: those of the files `held`, and of new `records`.

    `known` are the attributes that are held, `found` those of the new records, whose JSON is in
    the column attributes, with marked numbers only if `exact`.
    """
    new = dict(leaves(found))
    types = {one.path: one.type for one in known}
    for path, kind in types.items():
        if kind == _EMPTY and new.get(path, _EMPTY) not in {_EMPTY, EMPTY_ARRAY}:
            types[path] = _array_type(connection, path, held)
    joined = flatten(join(tree_of([Attribute(*one) for one in types.items()]), found))
    doubtful = [
        one
        for one in joined
        if one.path in new
        and one.type.startswith(("DOUBLE", DECIMAL))
        and (exact or types.get(one.path, one.type) != one.type or one.type.startswith(DECIMAL))
    ]
    columns = [_Column(one.path, one.type.endswith("[]"), types.get(one.path)) for one in doubtful]
    look = _Look(connection, records, held)
    changed = look.types_of(look.inexact(columns))
    return [
        Attribute(one.path, changed.get(one.path, _EMPTY if one.type == EMPTY_ARRAY else one.type))
        for one in joined
    ]


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of numbers, or arrays of them, and the type with which it is held, if it is."""

    path: str
    is_array: bool
    held_as: str | None

    @property
    def new(self) -> str:
        """The texts of the numbers in the struct `document`, as a list."""
        kind = "VARCHAR[]" if self.is_array else "VARCHAR"
        text = column_in_document(Attribute(self.path, kind), "document", "attributes")
        numbers = text if self.is_array else f"[{text}]"
        return f"list_transform({numbers}, lambda number: {unmarked('number')})"

    @property
    def held(self) -> str:
        """The texts of the numbers that are held, as a list."""
        if self.held_as is None:
            return "NULL::VARCHAR[]"
        column = identifier(self.path)
        return f"{column}::VARCHAR[]" if self.is_array else f"[{column}::VARCHAR]"


@dataclass(frozen=True, slots=True)
class _Look:
    """A look at columns of the new records and of the files that are held."""

    connection: duckdb.DuckDBPyConnection
    records: Sequence[Path]
    files: Sequence[Path]

    def inexact(self, columns: Sequence[_Column]) -> Sequence[_Column]:
        """Those with numbers that a double does not hold."""
        is_inexact = f"len(list_filter({{}}, lambda number: NOT {in_double('number')})) > 0"
        found = self._of(columns, f"coalesce(bool_or({is_inexact}), false)")
        return [
            column
            for column, is_so in zip(columns, found, strict=True)
            if is_so or (column.held_as or "").startswith(DECIMAL)
        ]

    def types_of(self, columns: Sequence[_Column]) -> Mapping[str, str]:
        """The types in which all their numbers are kept, by path."""
        each = f"list_transform({{}}, lambda number: {digits('number')})"  # NULL: not finite
        before, behind = (
            f"coalesce(max(list_max(list_transform({each}, lambda one: one.{side}))), 0)"
            for side in ("before", "behind")
        )
        finite = f"NOT list_contains(list_transform({each}, lambda one: one IS NULL), true)"
        found = self._of(
            columns,
            f"struct_pack(before := {before}, behind := {behind}, "
            f"finite := coalesce(bool_and({finite}), true))",
        )
        types = {}
        for column, numbers in zip(columns, found, strict=True):
            scale = numbers["behind"]
            if column.held_as and column.held_as.startswith(DECIMAL):
                scale = max(scale, scale_of(column.held_as))
            fits = numbers["finite"] and numbers["before"] + scale <= DIGITS
            decimal = f"{DECIMAL}{scale}){'[]' if column.is_array else ''}"
            types[column.path] = decimal if fits else "JSON"
        return types

    def _of(self, columns: Sequence[_Column], aggregate: str) -> Sequence[Any]:
        """The aggregate of each column's lists of texts, all of new and held numbers together."""
        if not columns:
            return ()
        names = [f"c{number}" for number in range(len(columns))]
        new = ", ".join(f"{one.new} AS {name}" for one, name in zip(columns, names, strict=True))
        shape = structure(
            [Attribute(one.path, "VARCHAR[]" if one.is_array else "VARCHAR") for one in columns]
        )
        documents = (
            f"SELECT attributes, from_json(attributes, {literal(shape)}) AS document "
            f"FROM {parquet(self.records)} WHERE reason IS NULL"
        )
        query = f"SELECT {new} FROM ({documents})"
        if self.files:
            held = ", ".join(one.held for one in columns)
            query = f"{query} UNION ALL SELECT {held} FROM {parquet(self.files)}"
        known = "list_filter({}, lambda number: number IS NOT NULL)"
        items = ", ".join(aggregate.replace("{}", known.format(name)) for name in names)
        (row,) = self.connection.execute(f"SELECT {items} FROM ({query})").fetchall()
        return row


def _array_type(connection: duckdb.DuckDBPyConnection, path: str, held: Sequence[Path]) -> str:
    """The type of a column of arrays of strings: they may have never had any."""
    column = identifier(path)
    some = f"len(list_filter({column}, lambda one: one IS NOT NULL)) > 0"
    found = connection.execute(f"SELECT 1 FROM {parquet(held)} WHERE {some} LIMIT 1").fetchone()
    return _EMPTY if found else EMPTY_ARRAY
