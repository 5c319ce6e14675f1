"""Rows as lines of JSON, put together from texts.

DuckDB writes JSON by itself, but reads what is JSON already with numbers as doubles, and a
DECIMAL with all its zeros. Here the text of such a value is taken as it is.
"""

from collections.abc import Mapping, Sequence

import orjson
from duckdb.sqltypes import DuckDBPyType

from segexport.profiles.numbers import decimal_text
from segexport.sql import identifier, is_changed_by_json, joined, literal


def needs_lines(columns: Mapping[str, DuckDBPyType]) -> bool:
    """Whether any of these columns has values that DuckDB would write otherwise."""
    return any(is_changed_by_json(str(kind)) for kind in columns.values())


def line(columns: Mapping[str, DuckDBPyType]) -> str:
    """SQL for the JSON object of a row with these columns, as a string."""
    return _object({name: (identifier(name), kind) for name, kind in columns.items()})


def _text(value: str, kind: DuckDBPyType, depth: int = 0) -> str:
    """SQL for the JSON of a value, as a string; NULL of NULL."""
    if not is_changed_by_json(str(kind)):
        return f"to_json({value})::VARCHAR"
    match kind.id:
        case "struct":
            members = {
                name: (f"{value}.{identifier(name)}", inner) for name, inner in _children(kind)
            }
            return f"CASE WHEN {value} IS NOT NULL THEN {_object(members, depth)} END"
        case "list":
            # Called as no column can be, in which its members would be looked for.
            item, ((_, inner),) = identifier(f"item{depth},"), _children(kind)
            texts = f"coalesce({_text(item, inner, depth + 1)}, 'null')"
            texts = joined(f"list_transform({value}, lambda {item}: {texts})", ",")
            return f"CASE WHEN {value} IS NOT NULL THEN concat('[', {texts}, ']') END"
        case "decimal":
            return decimal_text(value, str(kind))
        case _:
            return f"{value}::VARCHAR"


def _children(kind: DuckDBPyType) -> Sequence[tuple[str, DuckDBPyType]]:
    return [(name, child) for name, child in kind.children if isinstance(child, DuckDBPyType)]


def _object(members: Mapping[str, tuple[str, DuckDBPyType]], depth: int = 0) -> str:
    parts: list[str] = []
    for name, (value, kind) in members.items():
        before = f"{',' if parts else '{'}{orjson.dumps(name).decode()}:"
        parts += [literal(before), f"coalesce({_text(value, kind, depth)}, 'null')"]
    return f"concat({', '.join(parts)}, '}}')"
