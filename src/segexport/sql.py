"""SQL text for DuckDB: the one place where names and values are quoted."""

from collections.abc import Mapping, Sequence
from pathlib import Path


def identifier(name: str) -> str:
    """`name` as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str | Path) -> str:
    """`value` as a string literal."""
    return "'" + str(value).replace("'", "''") + "'"


def parquet(files: Sequence[str | Path]) -> str:
    """A table function that reads these Parquet files, and nothing but what is in them.

    DuckDB would otherwise make a column of every folder called `name=value` above a file,
    in place of a column of that name in the file.
    """
    return f"read_parquet([{', '.join(map(literal, files))}], hive_partitioning = false)"


def ndjson(files: Sequence[str | Path], columns: Mapping[str, str]) -> str:
    """A table function that reads these NDJSON files, gzipped or not, as these columns.

    `columns` maps names to DuckDB types.
    """
    types = ", ".join(f"{identifier(name)}: {literal(kind)}" for name, kind in columns.items())
    return (
        f"read_json([{', '.join(map(literal, files))}], format = 'newline_delimited', "
        f"hive_partitioning = false, columns = {{{types}}})"
    )


def lines(files: Sequence[Path]) -> str:
    """A table function that gives a row for each line of JSON in these files."""
    return f"read_ndjson_objects([{', '.join(map(literal, files))}], hive_partitioning = false)"
