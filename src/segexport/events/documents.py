"""Finding the JSON documents in a text: JSON, an array of documents, NDJSON, or JSON in a row.

Nobody says which of them a file is, and nothing is decided about a file as a whole. Wherever a
document may begin, one is read, over as many lines as it takes; what begins with `[` is an array,
and its elements are the documents. So no more is held than one document, and whatever is broken
hides nothing but itself:

- A line that is no JSON and begins none is broken by itself.
- A document that is broken ends where the next one begins: at the next line with `{` or `[` at
  its beginning that is not indented more than the broken one's first. (The line right after that
  first one may be indented as it likes.) A bracket that closes at that indentation ends it too.
- In an array, an element that is broken within its line ends at the next comma.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import orjson

from segexport.events.lookahead import Broken, Lookahead
from segexport.events.parsing import Parsed, parse
from segexport.events.xdm import Path


@dataclass(frozen=True, slots=True)
class Located:
    """A document and where it begins: its line from 1, and its index in an array from 0.

    `repeated` are the places where an object in it has a name twice.
    """

    line: int
    index: int | None
    document: Any
    repeated: Sequence[Path] = ()


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A place where there should be JSON and is none."""

    line: int
    reason: str


_Found = Iterator[Located | Unreadable]

_BOM: Final = b"\xef\xbb\xbf"
_OPENING: Final = (b"{", b"[")
_CLOSING: Final = {b"{": b"}", b"[": b"]"}
_OF_A_REGISTRY: Final = re.compile(rb"\x00.{4}[{[]", re.DOTALL)
_NOTHING: Final = "is an empty array, and there is nothing to judge"


def read_documents(pieces: Iterable[bytes]) -> _Found:
    """The documents of a text, in order, from its pieces (lines, or parts of long ones).

    Raises nothing of its own. A text without any document is itself unreadable: whoever checks
    it expects something.
    """
    text = Lookahead(pieces)
    text.skip(_BOM)
    first = text.next_byte()
    if not first:
        yield Unreadable(1, "is empty where JSON is expected")
    while first:
        line = text.rest_of_line()
        parsed = _parsed(line) if line is not None and text.column == text.indentation else None
        if line is None or parsed is None:
            yield from _part(text, first, line)
        else:
            number = text.line
            text.end_line(len(line))
            yield from _documents_in(parsed, number)
        first = text.next_byte()


def _parsed(text: bytes) -> Parsed | None:
    try:
        return parse(text)
    except orjson.JSONDecodeError:
        return None


def _part(text: Lookahead, first: bytes, line: bytes | None) -> _Found:
    """What begins here and is not the one document of its line, and nothing after it."""
    if first == b"[" and _is_array_of_documents(line):
        yield from _array(text)
    elif first in _OPENING:
        yield from _value(text, first)
    else:
        place = _Place.of(text)
        found = line if line is not None else text.through_line(text.offset)
        text.skip_line()
        yield place.unreadable(found)


def _is_array_of_documents(line: bytes | None) -> bool:
    """Whether an array has elements that are objects or arrays, as far as its first line tells.

    An array of anything else is a value like others, and a line of a log (`[INFO] …`) is none.
    """
    return line is None or line[1:].lstrip()[:1] in (b"", *_OPENING)


def _value(text: Lookahead, first: bytes) -> _Found:
    """A value by itself. One after another in a line are fine, as long as each is in brackets."""
    place = _Place.of(text)
    value = text.value()
    if not isinstance(value, Broken) and text.has_after(len(value), but=_OPENING):
        value = Broken(text.offset + len(value))
    if isinstance(value, Broken):
        yield _skip_broken(text, first, value)
    else:
        text.advance(len(value))
        yield from place.documents(value)


class _After(Enum):
    """What lies before a place in an array."""

    BRACKET = "["
    COMMA = ","
    ELEMENT = "an element"
    BROKEN = "an element that is broken: anything may follow"


def _array(text: Lookahead) -> _Found:
    """The elements of an array, one by one.

    Where it begins on a broken line, elements follow that are none, without commas. So a comma
    that is missing is told once.
    """
    began = text.line
    is_told = False
    index = 0
    after = _After.BRACKET
    text.advance(1)
    while (first := text.next_byte()) not in {b"]", b""}:
        place = _Place.of(text, index)
        if first == b",":
            if after in {_After.BRACKET, _After.COMMA}:
                yield Unreadable(place.line, "is not JSON: an element is missing before a comma")
            after = after if after is _After.BROKEN else _After.COMMA
            text.advance(1)
            continue
        if after is _After.ELEMENT and not is_told:
            reason = f"is not JSON: a comma is missing in the array that begins on line {began}"
            yield Unreadable(place.line, reason)
            is_told = True
        value = text.value()
        if isinstance(value, Broken):
            yield _skip_broken(text, first, value, index)
            is_told = is_told or place.line == began
            after = _After.BROKEN
        else:
            text.advance(len(value))
            yield from place.documents(value)
            after = _After.ELEMENT
        index += 1
    if first:
        yield from _end_of_array(text, after)
    elif not is_told and after is not _After.BROKEN:
        yield Unreadable(began, "is not JSON: the array that begins here is not closed")


def _end_of_array(text: Lookahead, after: _After) -> _Found:
    line = text.line
    if after is _After.BRACKET:
        yield Unreadable(line, _NOTHING)
    elif after is _After.COMMA:
        yield Unreadable(line, "is not JSON: a comma is the last thing in an array")
    if text.has_after(1, but=_OPENING):
        text.skip_line()
        yield Unreadable(line, "is not JSON: something follows the end of an array")
    else:
        text.advance(1)


def _skip_broken(
    text: Lookahead, first: bytes, broken: Broken, index: int | None = None
) -> Unreadable:
    """Go to where the next document may begin; what is wrong with the one that began here."""
    place = _Place.of(text, index)
    before, own_line = text.through_line(broken.offset), text.through_line(text.offset)
    reach = before[: broken.offset - text.offset]
    goes_on = bool(reach[len(own_line) :].strip())  # validly, into the lines after its first
    if index is None or not text.skip_element():
        _skip_lines(text, first, in_array=index is not None, goes_on=goes_on)
    if broken.reason is not None:
        return Unreadable(place.line, broken.reason)
    return place.unreadable(before[: text.offset - place.offset])


def _skip_lines(text: Lookahead, first: bytes, *, in_array: bool, goes_on: bool) -> None:
    indentation = text.indentation
    text.skip_line()
    is_next = True
    while found := text.next_byte():
        is_outside = text.indentation <= indentation
        if found in _OPENING and (is_outside or is_next):
            return
        if is_outside:
            if found not in _CLOSING.values():
                if not goes_on:
                    return
            elif in_array:
                if found == _CLOSING.get(first):
                    text.advance(1)
                return
            else:
                if text.has_after(1, but=_OPENING):
                    text.skip_line()
                else:
                    text.advance(1)
                return
        is_next = False
        text.skip_lines(indentation, to_bracket=goes_on)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where something begins: line and column, bytes before it, and its index in an array."""

    line: int
    column: int
    offset: int
    index: int | None

    @classmethod
    def of(cls, text: Lookahead, index: int | None = None) -> "_Place":
        return cls(text.line, text.column, text.offset, index)

    def documents(self, value: bytes) -> _Found:
        """The document that a value is, or those of an array."""
        parsed = _parsed(value)
        if parsed is None:
            yield self.unreadable(value)
        elif self.index is None:
            yield from _documents_in(parsed, self.line)
        else:
            yield Located(self.line, self.index, parsed.document, parsed.repeated)

    def unreadable(self, text: bytes) -> Unreadable:
        """What is wrong with a text that begins here and is no JSON."""
        text = text.rstrip()
        if _OF_A_REGISTRY.match(text):
            return Unreadable(
                self.line, "begins with the five bytes of a schema registry's serializer"
            )
        try:
            text.decode()
            orjson.loads(text)
        except UnicodeDecodeError as error:
            lines = text[: error.start].splitlines() or [b""]
            column = len(lines[-1]) + (self.column if len(lines) == 1 else 0) + 1
            reason = (
                f"is not UTF-8 at column {column} (byte 0x{text[error.start]:02X}), as JSON has to "
                "be, but perhaps Latin-1 (iconv -f LATIN1 -t UTF-8 converts it)"
            )
            return Unreadable(self.line + len(lines) - 1, reason)
        except orjson.JSONDecodeError as error:
            column = error.colno + (self.column if error.lineno == 1 else 0)
            reason = f"is not JSON at column {column}: {error.msg}"
            return Unreadable(self.line + error.lineno - 1, reason)
        return Unreadable(self.line, "is not JSON that every reader takes")


def _documents_in(parsed: Parsed, line: int) -> _Found:
    if not isinstance(parsed.document, list):
        yield Located(line, None, parsed.document, parsed.repeated)
        return
    for index, document in enumerate(parsed.document):
        repeated = [path[1:] for path in parsed.repeated if path[:1] in {(), (index,)}]
        yield Located(line, index, document, tuple(repeated))
    if not parsed.document:
        yield Unreadable(line, _NOTHING)
