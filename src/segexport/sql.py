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
    """A table function that reads these Parquet files, and nothing but what is in them.

    DuckDB would otherwise make a column of every folder called `name=value` above a file,
    in place of a column of that name in the file.
    """
    return f"read_parquet([{', '.join(map(literal, files))}], hive_partitioning = false)"
