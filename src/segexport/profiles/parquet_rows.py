"""Rows of a Parquet file as JSON texts, with the names that stand in the file.

DuckDB compares names without case: of columns, or members of a struct, that it takes for one
it calls the second `name_1`, and a column without a name `C0`. So names come from the file's
own schema, and values by their places.

A column or member that a row lacks is null in Parquet, where JSON leaves it out; so does the
text. The exceptions are `identityMap` and `segmentMembership`, whose nulls `nulls` knows, and
MAPs, which need no null for what is not there.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import duckdb
import orjson
from duckdb.sqltypes import DuckDBPyType

from segexport.errors import FragmentsUnreadable
from segexport.profiles.numbers import DIGITS
from segexport.sql import identifier, joined, literal, parquet, parquet_schema

MAX_LISTS: Final = 8
"""Lists and MAPs in one another: DuckDB's time to plan a query doubles with each."""

_STATEMENTS: Final = frozenset({"identityMap", "segmentMembership"})
_EVERY: Final = "every"
_NESTED: Final = frozenset({"LIST", "MAP", "MAP_KEY_VALUE"})


@dataclass(frozen=True, slots=True)
class _Node:
    """A part of a file's schema. `nested`: annotated as a LIST or MAP.

    `digits`: those of a DECIMAL, 0 of other types.
    """

    name: str
    repeated: bool
    nested: bool
    digits: int
    children: tuple["_Node", ...]


def rows(path: Path, connection: duckdb.DuckDBPyConnection) -> str:
    """A query for the rows of a Parquet file: position from 1, raw, the row as a JSON object.

    Timestamps, however deep, are RFC 3339 strings in UTC, where they have no zone as well.

    Raises `FragmentsUnreadable` if two columns, or two members of one struct, have the same
    name, or one is a DECIMAL of which DuckDB makes doubles, and `duckdb.Error` or ValueError if
    the file cannot be read.
    """
    file = _File.opened(path, connection)
    _refuse_changed(path, file.schema, "")
    members = _members(
        (
            node.name,
            _text(column, kind, node, 0, keep=node.name.removeprefix("xdm:") in _STATEMENTS),
        )
        for column, kind, node in file.columns
    )
    return f"SELECT {_EVERY}.file_row_number + 1 AS position, {members} AS raw FROM {file.relation}"


def column(path: Path, name: str, connection: duckdb.DuckDBPyConnection) -> tuple[str, str] | None:
    """A query for the values of the one column that is called so, and their DuckDB type.

    None where there is no such column, or there are several. Raises as `rows`.
    """
    file = _File.opened(path, connection)
    found = [(column, str(kind)) for column, kind, node in file.columns if node.name == name]
    if len(found) != 1:
        return None
    ((value, kind),) = found
    return f"SELECT {value} AS {identifier(name)} FROM {file.relation}", kind


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it stands behind FROM, and its columns in their order: SQL, type and schema.

    They are numbered, so that none of them can be one of DuckDB's or our own.
    """

    relation: str
    schema: _Node
    columns: Sequence[tuple[str, DuckDBPyType, _Node]]

    @classmethod
    def opened(cls, path: Path, connection: duckdb.DuckDBPyConnection) -> Self:
        file = parquet([path])
        found = connection.execute(f"FROM {file} LIMIT 0").description or ()
        schema = _schema(connection, path)
        columns = tuple(
            (f"c{number}", kind, node)
            for number, ((_, kind, *_), node) in enumerate(zip(found, schema.children, strict=True))
        )
        names = ", ".join(name for name, *_ in columns)
        return cls(f"{file} AS {_EVERY}({names})", schema, columns)


def _schema(connection: duckdb.DuckDBPyConnection, path: Path) -> _Node:
    """The schema of a file: a tree, whose root's children are the columns."""
    listed = iter(
        connection.execute(f"""
            SELECT name, coalesce(num_children, 0), repetition_type, converted_type, logical_type,
                   coalesce(precision, 0)
            FROM {parquet_schema(path)} ORDER BY column_id""").fetchall()
    )
    return _node(listed)


def _node(listed: Iterator[Sequence[Any]]) -> _Node:
    name, children, repetition, converted, logical, digits = next(listed)
    return _Node(
        name=name,
        repeated=repetition == "REPEATED",
        nested=converted in _NESTED or logical in ("ListType()", "MapType()"),
        digits=digits,
        children=tuple(_node(listed) for _ in range(children)),
    )


def _refuse_changed(path: Path, node: _Node, above: str) -> None:
    """Refuse what would come in as something else than it is in the file."""
    seen = set()
    for child in node.children:
        place = f"{above}{child.name}"
        if child.name in seen:
            raise FragmentsUnreadable(
                f"{path} has two columns {place!r}, and nothing tells which counts; nothing was "
                "loaded: rename one of them or leave it out"
            )
        if child.digits > DIGITS:
            raise FragmentsUnreadable(
                f"{path} has a column {place!r} of DECIMALs with {child.digits} digits, and "
                f"{DIGITS} can be kept; nothing was loaded: write it with fewer, or as strings"
            )
        seen.add(child.name)
        _refuse_changed(path, child, f"{place}.")


def _text(value: str, kind: DuckDBPyType, node: _Node, depth: int, *, keep: bool) -> str:
    """SQL for the JSON text of a value; NULL of NULL. `keep` the members that are null."""
    inner, item = _children(kind), f"item{depth}"
    if depth > MAX_LISTS:
        raise ValueError(f"lists and MAPs lie more than {MAX_LISTS} deep in one another")
    match kind.id:
        case "struct":
            texts = (
                (one.name, _text(f"struct_extract_at({value}, {at})", of, one, depth, keep=keep))
                for at, (of, one) in enumerate(zip(inner, node.children, strict=True), start=1)
            )
            return f"CASE WHEN {value} IS NOT NULL THEN {_members(texts, keep=keep)} END"
        case "list" | "array":
            element, only_member = _element(node)
            text = _text(item, inner[0], element, depth + 1, keep=keep)
            if only_member is not None:
                text = _members([(only_member, text)], keep=keep)
            texts_of = f"list_transform({value}, lambda {item}: coalesce({text}, 'null'))"
            listed = f"concat('[', {joined(texts_of, ',')}, ']')"
            return f"CASE WHEN {value} IS NOT NULL THEN {listed} END"
        case "map":
            (entry,) = node.children
            _, named = entry.children
            text = _text(f"{item}.value", inner[1], named, depth + 1, keep=keep)
            member = f"{_name(f'{item}.key', inner[0])} || ':' || coalesce({text}, 'null')"
            texts_of = f"list_transform(map_entries({value}), lambda {item}: {member})"
            listed = f"concat('{{', {joined(texts_of, ',')}, '}}')"
            return f"CASE WHEN {value} IS NOT NULL THEN {listed} END"
        case _:
            return _scalar(value, kind)


def _scalar(value: str, kind: DuckDBPyType) -> str:
    """SQL for the JSON text of a value that has no parts."""
    return f"to_json({_in_xdm(value, kind)})::VARCHAR"


def _name(value: str, kind: DuckDBPyType) -> str:
    """SQL for the JSON text of the key of a MAP, which is a string in JSON."""
    return f"to_json({_in_xdm(value, kind)}::VARCHAR)::VARCHAR"


def _in_xdm(value: str, kind: DuckDBPyType) -> str:
    """SQL for a value as XDM's JSON has it: times are RFC 3339 in UTC.

    They have nanoseconds only where there are some: one moment has one text in every unit.
    """
    if not kind.id.startswith("timestamp"):
        return value
    micros = f"strftime({value}, '%Y-%m-%dT%H:%M:%S.%f')"
    if not kind.id.endswith("_ns"):
        return f"{micros} || 'Z'"
    # DuckDB 2.0's %n gives what happens to lie in memory.
    nanos = f"(epoch_ns({value}) % 1000 + 1000) % 1000"
    return f"{micros} || CASE {nanos} WHEN 0 THEN 'Z' ELSE format('{{:03d}}Z', {nanos}) END"


def _members(texts: Iterable[tuple[str, str]], *, keep: bool = False) -> str:
    """SQL for an object of names and texts of values; without, or with, those that are null."""
    members = ", ".join(
        f"{literal(orjson.dumps(name).decode() + ':')} || "
        + (f"coalesce({text}, 'null')" if keep else text)
        for name, text in texts
    )
    return f"'{{' || concat_ws(',', {members}) || '}}'"


def _element(node: _Node) -> tuple[_Node, str | None]:
    """The element of a list; or what DuckDB takes for it, and the name of the member it is of.

    As Parquet's LogicalTypes.md reads older files, in which the repeated group is the element
    and not around it. DuckDB does not keep such an element's only member apart from it.
    """
    if node.repeated and not node.nested:
        return node, None
    (repeated,) = node.children
    if repeated.nested or len(repeated.children) != 1:
        return repeated, None
    (child,) = repeated.children
    return child, child.name if repeated.name in ("array", f"{node.name}_tuple") else None


def _children(kind: DuckDBPyType) -> Sequence[DuckDBPyType]:
    """The types of the parts. An array's last child is its length."""
    if kind.id not in ("struct", "list", "array", "map"):
        return ()
    return [child for _, child in kind.children if isinstance(child, DuckDBPyType)]
