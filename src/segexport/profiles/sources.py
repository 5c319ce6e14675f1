"""Files of profile fragments, and the records in them.

NDJSON (also gzipped) is cut into chunks at line ends here, so that memory is bounded, line
numbers are exact and a broken line harms no other. A JSON array, pretty-printed JSON and
Parquet are read by DuckDB, as `records` tells it to.
"""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO, Final

import duckdb
import orjson
from duckdb.sqltypes import DuckDBPyType

from segexport.errors import FragmentsUnreadable
from segexport.profiles.rules import NOT_UTF8, TOO_LARGE
from segexport.sql import file_to_read, identifier, literal, parquet

MAX_RECORD: Final = 16 * 2**20
"""Bytes in one record."""
CHUNK: Final = 8 * 2**20
"""Bytes of NDJSON that are checked at once."""

_SOURCE_BITS: Final = 40  # a position is the source's index and, in these bits, the record's number
_PEEK: Final = 65_536
_KEPT: Final = 1_000  # bytes of a record that is too large to be kept
_BOM: Final = b"\xef\xbb\xbf"


class Kind(Enum):
    """How records lie in a file."""

    LINES = "one JSON object a line"
    ARRAY = "one JSON array of objects"
    DOCUMENTS = "JSON objects one after the other"
    PARQUET = "Parquet, a record a row"


@dataclass(frozen=True, slots=True)
class Source:
    """A file of fragments. `size` is in bytes."""

    path: Path
    kind: Kind
    size: int
    gzipped: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that cannot be checked at all: its number from 1, the reason, its text."""

    number: int
    reason: str
    raw: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some lines: the number of the first one, their text, and those blanked out of it.

    `end` tells how many bytes of the file are read so far.
    """

    first: int
    text: str
    refused: Sequence[Refused]
    end: int


def position_of(source: int, record: int) -> int:
    """A number for a record of several sources, in their order; `record` counts from 1."""
    return (source << _SOURCE_BITS) + record


def place_of(position: int) -> tuple[int, int]:
    """The source's index and the record's number that make this position."""
    return position >> _SOURCE_BITS, position & ((1 << _SOURCE_BITS) - 1)


def open_source(path: Path) -> Source:
    """Look at a file and tell what it is, by its first bytes and, for lines, its name.

    Raises `FragmentsUnreadable` if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_PEEK)
            size = file.seek(0, 2)
        gzipped = head.startswith(b"\x1f\x8b")
        if gzipped:
            with gzip.open(path) as unpacked:
                head = unpacked.read(_PEEK)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from error
    if head.startswith(b"PAR1"):
        return Source(path, Kind.PARQUET, size)
    return Source(path, _json_kind(path, head.removeprefix(_BOM)), size, gzipped)


def chunks(source: Source) -> Iterator[Chunk]:
    """The lines of an NDJSON file, a few megabytes at a time.

    Raises `FragmentsUnreadable` if the file breaks off or cannot be read on.
    """
    try:
        with source.path.open("rb") as raw, _unpacked(raw, source) as stream:
            number = 1
            for lines, too_large in _cut(stream):
                text, broken = _decoded(lines.removeprefix(_BOM) if number == 1 else lines)
                refused = [
                    Refused(number + at, NOT_UTF8, line.decode(errors="replace"))
                    for at, line in broken
                ]
                count = lines.count(b"\n")
                if too_large is not None:
                    excerpt = too_large.decode(errors="replace")
                    refused.append(Refused(number + count, TOO_LARGE, excerpt))
                    count += 1
                yield Chunk(number, text, refused, raw.tell())
                number += count
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(source.path, error) from error


def records(source: Source, connection: duckdb.DuckDBPyConnection) -> str:
    """A query for the records of a file that is not NDJSON: position from 1, raw text.

    Parquet values become JSON as in XDM: timestamps are RFC 3339 strings in UTC.
    Raises `FragmentsUnreadable` if the file cannot be read.
    """
    file = file_to_read(source.path)
    if source.kind is not Kind.PARQUET:
        form = "array" if source.kind is Kind.ARRAY else "unstructured"
        return f"""
            SELECT row_number() OVER () AS position, json AS raw
            FROM read_json_objects({file}, format = '{form}',
                                   compression = '{"gzip" if source.gzipped else "none"}',
                                   maximum_object_size = {MAX_RECORD})"""
    try:
        columns = connection.execute(f"FROM {parquet([source.path])} LIMIT 0").description or ()
    except duckdb.Error as error:
        raise unreadable(source.path, error) from error
    members = ", ".join(
        f"{literal(name)}, {_in_xdm(identifier(name), kind)}" for name, kind, *_ in columns
    )
    return f"""
        SELECT file_row_number + 1 AS position, json_object({members})::VARCHAR AS raw
        FROM {parquet([source.path], numbered=True)}"""


def unreadable(path: Path, error: Exception) -> FragmentsUnreadable:
    """The error that says which file cannot be read, and why."""
    why = (isinstance(error, OSError) and error.strerror) or str(error).partition("\n")[0]
    return FragmentsUnreadable(
        f"{path} cannot be read ({why}); nothing was loaded: mend the file or leave it out"
    )


def _json_kind(path: Path, head: bytes) -> Kind:
    if set(path.suffixes) & {".ndjson", ".jsonl"}:
        return Kind.LINES
    if head.lstrip().startswith(b"["):
        return Kind.ARRAY
    first, newline, _ = head.lstrip().partition(b"\n")
    if not newline or ".json" not in path.suffixes:
        return Kind.LINES
    try:
        orjson.loads(first)
    except orjson.JSONDecodeError:
        return Kind.DOCUMENTS
    return Kind.LINES


def _unpacked(raw: BinaryIO, source: Source) -> BinaryIO | gzip.GzipFile:
    return gzip.GzipFile(fileobj=raw) if source.gzipped else raw


def _cut(stream: BinaryIO | gzip.GzipFile) -> Iterator[tuple[bytes, bytes | None]]:
    """Whole lines, and after them the beginning of a line that is too large, if one follows."""
    rest, skipping = b"", False
    while block := stream.read(CHUNK):
        if skipping:
            _, newline, block = block.partition(b"\n")
            skipping = not newline
        rest += block
        cut = rest.rfind(b"\n") + 1
        lines, rest = rest[:cut], rest[cut:]
        if len(rest) > MAX_RECORD:
            yield lines, rest[:_KEPT]
            rest, skipping = b"", True
        elif lines:
            yield lines, None
    if rest:
        yield rest, None


def _decoded(lines: bytes) -> tuple[str, Sequence[tuple[int, bytes]]]:
    """The text of the lines; those that are not UTF-8 are blank in it, and listed."""
    try:
        return lines.decode(), ()
    except UnicodeDecodeError:
        good, broken = [], []
        for number, line in enumerate(lines.split(b"\n")):
            try:
                good.append(line.decode())
            except UnicodeDecodeError:
                good.append("")
                broken.append((number, line))
        return "\n".join(good), broken


def _in_xdm(value: str, kind: DuckDBPyType, depth: int = 0) -> str:
    """SQL for a Parquet value whose timestamps, however deep, are RFC 3339 strings."""
    if "TIMESTAMP" not in str(kind):
        return value
    item = f"item{depth}"
    match kind.id:
        case "struct":
            members = ", ".join(
                f"{identifier(name)} := {_in_xdm(f'{value}.{identifier(name)}', inner, depth)}"
                for name, inner in _children(kind)
            )
            return f"CASE WHEN {value} IS NOT NULL THEN struct_pack({members}) END"
        case "list" | "array":
            ((_, element), *_) = _children(kind)
            return f"list_transform({value}, lambda {item}: {_in_xdm(item, element, depth + 1)})"
        case "map":
            _, (_, element) = _children(kind)
            entry = f"key := {item}.key, value := {_in_xdm(f'{item}.value', element, depth + 1)}"
            return (
                f"map_from_entries(list_transform(map_entries({value}), "
                f"lambda {item}: struct_pack({entry})))"
            )
        case name if name.startswith("timestamp"):
            return f"strftime({value}, '%Y-%m-%dT%H:%M:%S.%fZ')"
        case _:
            return value


def _children(kind: DuckDBPyType) -> Sequence[tuple[str, DuckDBPyType]]:
    # An array's last child is its length.
    return [(name, child) for name, child in kind.children if isinstance(child, DuckDBPyType)]
