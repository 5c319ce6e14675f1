"""SQL text for DuckDB: the one place where names and values are quoted."""

from pathlib import Path


def identifier(name: str) -> str:
    """`name` as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str | Path) -> str:
    """`value` as a string literal."""
    return "'" + str(value).replace("'", "''") + "'"
