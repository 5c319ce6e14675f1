"""SQL text for DuckDB: the one place where names, values and files are quoted.

DuckDB takes the name of a file that it reads for a pattern (`*`, `?`, `[`), its beginning for a
scheme (`s3:`, `file:`) or the home folder (`~`), what follows a `?` for the parameters of a URL,
from which it guesses the compression, and a folder called `name=value` above it for a column.
None of that is meant by whoever names a file here: it is that file.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from segexport.errors import FileNameUnusable

URL: Final = "s3://"
"""How the address of an object begins. All else is the path of a file of this machine."""

_EXACT: Final = "exact,"
"""A name that no column has."""
_PATTERN: Final = re.compile(r"[*?[]")


def identifier(name: str) -> str:
    """`name` as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """`value` as a string literal; files have `file_to_read` and `file_to_write`."""
    return "'" + value.replace("'", "''") + "'"


def file_name(file: str | Path, *, is_pattern: bool = False) -> str:
    """The name of a file, or a folder, in a setting of DuckDB: absolute, and in UTF-8.

    If it `is_pattern`, it can be one as well. Raises `FileNameUnusable` for what cannot.
    """
    if isinstance(file, str) and file.startswith(URL):
        return file
    name = os.path.join(os.getcwd(), file)  # noqa: PTH109, PTH118  (`..` behind a link stays)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise FileNameUnusable(
            f"{name!a} cannot be read or written: its name is not UTF-8; rename it, or the folder "
            "that is called so"
        ) from None
    if is_pattern and "\\" in name and _PATTERN.search(name):
        raise FileNameUnusable(
            f"{name} cannot be read: a backslash and one of * ? [ are in its name; rename it, or "
            "the folder that is called so"
        )
    return name


def file_to_read(file: str | Path) -> str:
    """A string literal by which a table function of DuckDB reads this file and no other.

    `file` is a path, or the URL of an object. Raises `FileNameUnusable` for a name that DuckDB
    cannot be given.
    """
    return literal(_PATTERN.sub(r"[\g<0>]", file_name(file, is_pattern=True)))


def file_to_write(file: Path) -> str:
    """A string literal by which COPY writes this file, or this folder.

    Raises `FileNameUnusable` for a name that DuckDB cannot be given.
    """
    return literal(file_name(file))


def tells_of(message: str, folder: Path) -> bool:
    """Whether a message of DuckDB is about a file below this folder."""
    path = str(folder.absolute())
    return path in message or _PATTERN.sub(r"[\g<0>]", path) in message


def parquet(files: Sequence[str | Path], *, numbered: bool = False) -> str:
    """A table function that reads these Parquet files, and nothing but what is in them.

    DuckDB would otherwise make a column of every folder called `name=value` above a file,
    in place of a column of that name in the file. If `numbered`, there is a column
    file_row_number as well: a row's place in its file, from 0.
    """
    number = ", file_row_number = true" if numbered else ""
    return f"read_parquet({_listed(files)}, hive_partitioning = false{number})"


def parquet_metadata(file: Path) -> str:
    """A table function that gives one row about a Parquet file, `num_rows` among others."""
    return f"parquet_file_metadata({_listed([file])})"


def parquet_schema(file: Path) -> str:
    """A table function that gives the schema of a Parquet file, depth first: a row a node."""
    return f"parquet_schema({_listed([file])})"


def is_changed_by_json(kind: str) -> bool:
    """Whether DuckDB's readers and writers of JSON give values of this type in other digits."""
    return "JSON" in kind or "DECIMAL(" in kind


def ndjson(files: Sequence[str | Path], columns: Mapping[str, str]) -> str:
    """What reads these NDJSON files, all gzipped or none, as these columns, behind FROM.

    `columns` maps names to DuckDB types.
    """
    if any(map(is_changed_by_json, columns.values())):
        # `from_json` takes all numbers of a document as they are written, if one of its types is
        # a DECIMAL.
        types = json.dumps({**columns, _EXACT: "DECIMAL(1, 0)"})
        return (
            f"(SELECT * EXCLUDE ({identifier(_EXACT)}) "
            f"FROM (SELECT unnest(from_json(json, {literal(types)})) FROM {lines(files)}))"
        )
    types = ", ".join(f"{identifier(name)}: {literal(kind)}" for name, kind in columns.items())
    return (
        f"read_json({_listed(files)}, format = 'newline_delimited', {_compression(files)}, "
        f"hive_partitioning = false, columns = {{{types}}})"
    )


def joined(texts: str, separator: str) -> str:
    """The strings of a list as one, NULL of none; a NULL among them is left out.

    `array_to_string` is a macro that has its list computed twice.
    """
    return f"list_aggregate({texts}, 'string_agg', {literal(separator)})"


def lines(files: Sequence[str | Path]) -> str:
    """A table function that gives a row for each line of JSON in files, all gzipped or none."""
    return (
        f"read_ndjson_objects({_listed(files)}, {_compression(files)}, hive_partitioning = false)"
    )


def text(file: Path) -> str:
    """A table function that gives one row, with the text of this file as its `content`."""
    return f"read_text({_listed([file])})"


def _listed(files: Sequence[str | Path]) -> str:
    return f"[{', '.join(map(file_to_read, files))}]"


def _compression(files: Sequence[str | Path]) -> str:
    gzipped = {str(file).endswith(".gz") for file in files}
    assert len(gzipped) <= 1  # noqa: S101  (the files of a batch have one format)
    return f"compression = '{'gzip' if True in gzipped else 'none'}'"
