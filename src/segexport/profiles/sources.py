"""Files of profile fragments, and the records in them.

Text, also gzipped, is cut into records here, some megabytes at a time, so that memory is bounded,
numbers are exact and a broken record harms no other. Parquet is read by DuckDB, as `records`
tells it to.
"""

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import IO, Final, cast

import duckdb
import orjson

from segexport.errors import FragmentsUnreadable
from segexport.profiles import parquet_rows
from segexport.profiles.cutting import Cut, CutShort, cut_lines, cut_values
from segexport.profiles.rules import NOT_JSON, NOT_UTF8, TOO_LARGE

_SOURCE_BITS: Final = 40  # a position is the source's index and, in these bits, the record's number
_PEEK: Final = 65_536
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
    """Some records: the number of the first one, their texts, and those blanked out of them.

    `end` tells how many bytes of the file are read so far.
    """

    first: int
    texts: Sequence[str]
    refused: Sequence[Refused]
    end: int = 0


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
    if head.startswith((b"PAR1", b"PARE")):  # the second where the footer is encrypted
        if gzipped:
            raise unreadable(path, ValueError("Parquet in gzip: unpack it"))
        return Source(path, Kind.PARQUET, size)
    kind = _json_kind(path, head.removeprefix(_BOM), is_cut=len(head) == _PEEK)
    return Source(path, kind, size, gzipped)


def chunks(source: Source) -> Iterator[Chunk]:
    """The records of a file of text, a few megabytes at a time; it is read to its very end.

    Raises `FragmentsUnreadable` if the file breaks off, cannot be read on, or is not what it
    was when it was packed.
    """
    try:
        with source.path.open("rb") as raw, _unpacked(raw, source) as stream:
            number = 1
            for texts, too_large in _cut(stream, source.kind):
                chunk = _decoded(number, texts, is_blank_refused=source.kind is not Kind.LINES)
                number += len(texts)
                if too_large is not None:
                    excerpt = Refused(number, TOO_LARGE, too_large.decode(errors="replace"))
                    chunk = replace(chunk, refused=(*chunk.refused, excerpt))
                    number += 1
                yield replace(chunk, end=raw.tell())
    except (OSError, EOFError, zlib.error, CutShort) as error:
        raise unreadable(source.path, error) from error


def records(source: Source, connection: duckdb.DuckDBPyConnection) -> str:
    """A query for the records of a Parquet file: position from 1, raw text.

    Raises `FragmentsUnreadable` if the file cannot be read.
    """
    try:
        return parquet_rows.rows(source.path, connection)
    except (duckdb.Error, ValueError) as error:  # or a schema that is none
        raise unreadable(source.path, error) from error


def unreadable(path: Path, error: Exception) -> FragmentsUnreadable:
    """The error that says which file cannot be read, and why."""
    why = (isinstance(error, OSError) and error.strerror) or str(error).partition("\n")[0]
    return FragmentsUnreadable(
        f"{path} cannot be read ({why}); nothing was loaded: mend the file or leave it out"
    )


def _json_kind(path: Path, head: bytes, *, is_cut: bool) -> Kind:
    """How records lie in a text that begins so; unless it `is_cut`, that is all of it."""
    suffixes = {suffix.lower() for suffix in path.suffixes}
    if suffixes & {".ndjson", ".jsonl"}:
        return Kind.LINES
    if head.lstrip().startswith(b"["):
        return Kind.ARRAY
    text = head.lstrip()
    first, *others = text.splitlines()[: -1 if is_cut else None] or (b"{}",)
    if ".json" not in suffixes or _is_whole(first):
        return Kind.LINES
    if _begins_with_values(text, is_cut=is_cut):
        return Kind.DOCUMENTS
    # A broken first line alone does not say that a record takes several.
    has_lines = first.strip() != b"{" and any(
        line[:1] == b"{" and _is_whole(line) for line in others
    )
    return Kind.LINES if has_lines or not others else Kind.DOCUMENTS


def _begins_with_values(text: bytes, *, is_cut: bool) -> bool:
    """Whether there is nothing but JSON values up to the end of a line, the first or a later one.

    One that goes on where the text `is_cut` counts.
    """
    whole = (text.rpartition(b"\n")[0] if is_cut else text).decode(errors="replace").rstrip()
    decoder, at = json.JSONDecoder(parse_int=str), 0
    try:
        while at < len(whole):
            _, at = decoder.raw_decode(whole, at)
            while whole[at : at + 1].isspace():
                if whole[at] == "\n":
                    return True
                at += 1
    except json.JSONDecodeError as error:
        return is_cut and error.pos >= len(whole)
    except RecursionError:
        return False
    return True


def _is_whole(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def _unpacked(raw: IO[bytes], source: Source) -> IO[bytes]:
    return cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if source.gzipped else raw


def _decoded(first: int, texts: Sequence[bytes], *, is_blank_refused: bool) -> Chunk:
    """These records as a chunk. What is refused is blank among its texts."""
    decoded, refused = [], []
    for number, text in enumerate(texts, start=first):
        plain = text.removeprefix(_BOM) if number == 1 else text
        try:
            decoded.append(plain.decode())
        except UnicodeDecodeError:
            decoded.append("")
            refused.append(Refused(number, NOT_UTF8, text.decode(errors="replace")))
        if is_blank_refused and not plain:
            refused.append(Refused(number, NOT_JSON, ""))
    return Chunk(first, decoded, refused)


def _cut(stream: IO[bytes], kind: Kind) -> Iterator[Cut]:
    if kind is Kind.LINES:
        return cut_lines(stream)
    return cut_values(stream, in_array=kind is Kind.ARRAY)
