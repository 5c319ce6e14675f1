"""SQL text for DuckDB: the one place where names and values are quoted."""

from collections.abc import Sequence
from pathlib import Path


def identifier(name: str) -> str:
    """`name` as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str | Path) -> str:
    """`value` as a string literal."""
    return "'" + str(value).replace("'", "''") + "'"


def parquet(files: Sequence[Path]) -> str:
    """A table function that reads these Parquet files."""
    return f"read_parquet([{', '.join(map(literal, files))}])"
