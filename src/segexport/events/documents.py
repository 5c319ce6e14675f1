"""Finding the JSON documents in a stream of lines: JSON, an array of documents, or NDJSON.

Nobody says which of them a file is. The first line that holds anything decides: if it is a
whole JSON value by itself, so is every other line (a file of one line is both); if not, the
whole file is one value. NDJSON is thus read line by line and never held in memory, and one
broken line does not hide the lines after it. Arrays count as the documents in them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import orjson


@dataclass(frozen=True, slots=True)
class Located:
    """A document and where it begins: its line from 1, and its index in an array from 0."""

    line: int
    index: int | None
    document: Any


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A place where there should be JSON and is none."""

    line: int
    reason: str


_BOM: Final = b"\xef\xbb\xbf"
_OPENING: Final = (b"{", b"[")

_Lines = Iterator[tuple[int, bytes]]


def read_documents(lines: Iterable[bytes]) -> Iterator[Located | Unreadable]:
    """The documents of a file, from its lines, in order. Never raises.

    A file without any document is itself unreadable: whoever checks it expects something.
    """
    full = _lines_with_content(lines)
    opening = next(full, None)
    if opening is None:
        yield Unreadable(1, "is empty where JSON is expected")
        return
    number, first = opening
    if first.strip() in _OPENING:
        yield from _whole(number, opening, full)
        return
    second = next(full, None)
    following = full if second is None else chain((second,), full)
    if _is_json(first) or (second is not None and _is_json(second[1])):
        yield from _line_by_line(chain((opening,), following))
    else:
        yield from _whole(number, opening, following)


def _lines_with_content(lines: Iterable[bytes]) -> _Lines:
    for number, line in enumerate(lines, 1):
        text = line.removeprefix(_BOM) if number == 1 else line
        if text.strip():
            yield number, text


def _line_by_line(lines: _Lines) -> Iterator[Located | Unreadable]:
    for number, line in lines:
        try:
            value = orjson.loads(line.rstrip())
        except orjson.JSONDecodeError as error:
            yield Unreadable(number, _reason(error))
        else:
            yield from _documents_in(number, value)


def _whole(number: int, first: tuple[int, bytes], rest: _Lines) -> Iterator[Located | Unreadable]:
    numbers, texts = zip(*chain((first,), rest), strict=True)
    try:
        value = orjson.loads(b"".join(texts))
    except orjson.JSONDecodeError as error:
        # Blank lines were left out, so the parser's line is counted in those that remain.
        line = numbers[min(error.lineno, len(numbers)) - 1]
        yield Unreadable(line, _reason(error))
    else:
        yield from _documents_in(number, value)


def _documents_in(number: int, value: Any) -> Iterator[Located]:
    if isinstance(value, list):
        for index, document in enumerate(value):
            yield Located(number, index, document)
    else:
        yield Located(number, None, value)


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def _reason(error: orjson.JSONDecodeError) -> str:
    return f"is not JSON at column {error.colno}: {error.msg}"
