"""Cuts a stream of bytes into the texts of records, without looking into them.

Lines are cut at their ends. The values of a JSON array, and JSON values one after the other, are
cut where their brackets are balanced, whatever else is wrong with them: what is no JSON then is
one record and harms no other.
"""

import re
from collections.abc import Iterator, Sequence
from typing import IO, Final

from segexport.profiles.rules import KEPT, MAX_RECORD

BLOCK: Final = 8 * 2**20
"""Bytes that are read at once."""

Cut = tuple[Sequence[bytes], bytes | None]
"""Whole records, and after them the beginning of one that is too large, if one follows."""

_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_OPENING: Final = b"[{"
_CLOSING: Final = b"]}"


def _next(marks: bytes) -> re.Pattern[bytes]:
    """Finds the first of these characters that is in no string."""
    others = rb'[^"' + re.escape(marks) + rb"]*+"
    return re.compile(
        others + rb"(?:" + _STRING + others + rb")*+([" + re.escape(marks) + rb"])", re.DOTALL
    )


def _nested(depth: int) -> bytes:
    """What matches an object or an array with so many levels."""
    levels, others = b"", rb'[^"\[\]{}]*+'
    for _ in range(depth):
        inner = b"|".join(filter(None, (_STRING, levels)))
        levels = rb"[\[{]" + others + rb"(?:(?:" + inner + rb")" + others + rb")*+[\]}]"
    return levels


_BRACKET: Final = _next(b"[]{}")
_BRACKET_OR_COMMA: Final = _next(b"[]{},")
_SHALLOW: Final = re.compile(rb'[^"\[\]{},]*+' + _nested(8), re.DOTALL)
"""Finds the end of most values at once, which is twice as fast as from bracket to bracket."""
_WHOLE: Final = re.compile(rb'[^"]*+(?:' + _STRING + rb'[^"]*+)*+', re.DOTALL)


class CutShort(ValueError):
    """A text of JSON values that does not end as it should; says where it goes wrong."""


def cut_lines(stream: IO[bytes]) -> Iterator[Cut]:
    """The lines, without their ends; blank ones are among them."""
    rest, is_skipping = b"", False
    while block := stream.read(BLOCK):
        if is_skipping:
            _, newline, block = block.partition(b"\n")
            is_skipping = not newline
        rest += block
        whole, newline, rest = rest.rpartition(b"\n")
        lines = whole.split(b"\n") if newline else ()
        if len(rest) > MAX_RECORD:
            yield lines, rest[:KEPT]
            rest, is_skipping = b"", True
        elif lines:
            yield lines, None
    if rest:
        yield (rest,), None


def cut_values(stream: IO[bytes], *, in_array: bool) -> Iterator[Cut]:
    """The values of one JSON array, or values that follow one another.

    Raises `CutShort` where the text breaks off, or something follows the array.
    """
    values = _Values(in_array=in_array)
    while block := stream.read(BLOCK):
        values.add(block)
        whole, too_large = values.whole(), values.too_large()
        if whole or too_large is not None:
            yield whole, too_large
    last = values.last()
    if last:
        yield (last,), None


class _Values:
    """The part of a text that is not cut yet."""

    def __init__(self, *, in_array: bool) -> None:
        self._top = 1 if in_array else 0
        self._depth = 0  # of the brackets that are open
        self._rest = b""  # from the beginning of a value on; of one that is skipped, its end
        self._seen = 0  # bytes of that which were looked at
        self._is_skipping = False
        self._is_closed = False  # the array is

    def add(self, block: bytes) -> None:
        """What comes next in the text."""
        self._rest += block

    def whole(self) -> Sequence[bytes]:
        """The values that have ended."""
        start, values = 0, []
        for mark in self._boundaries():
            value = self._rest[start : self._seen - self._top].strip()
            start = self._seen
            if mark in _OPENING:
                continue
            if self._is_closed and mark != b"]":
                raise CutShort("a JSON array is closed by a brace")
            # Nothing before the end of an array is no value: it is empty, or has a last comma.
            if not self._is_skipping and (value or not self._is_closed):
                values.append(value)
            self._is_skipping = False
        self._rest, self._seen = self._rest[start:], self._seen - start
        if self._is_closed:
            if self._rest.strip():
                raise CutShort("something follows the JSON array")
            self._rest, self._seen = b"", 0
        return values

    def too_large(self) -> bytes | None:
        """The beginning of the value that has not ended, when it has become too large."""
        beginning = None
        if not self._is_skipping and len(self._rest) > MAX_RECORD:
            beginning, self._is_skipping = self._rest[:KEPT], True
        if self._is_skipping:
            self._rest, self._seen = _shortened(self._rest[self._seen :]), 0
        return beginning

    def last(self) -> bytes:
        """What the text ends with; nothing but white space is nothing."""
        if self._top and not self._is_closed:
            raise CutShort("a JSON array breaks off before its end")
        if self._depth > self._top or not _WHOLE.fullmatch(self._rest):
            raise CutShort("a JSON object breaks off before its end")
        return b"" if self._is_skipping else self._rest.strip()

    def _boundaries(self) -> Iterator[bytes]:
        """The marks at which values end, and that with which an array begins."""
        while not self._is_closed:
            pattern = _BRACKET
            if self._depth == self._top:
                value = _SHALLOW.match(self._rest, self._seen)
                if value is not None:
                    self._seen = value.end()
                if self._top:
                    pattern = _BRACKET_OR_COMMA
                elif value is not None:
                    yield _CLOSING
                    continue
            found = pattern.match(self._rest, self._seen)
            if found is None:
                return
            self._seen, mark = found.end(), found[1]
            if mark in _OPENING:
                self._depth += 1
                is_boundary = self._depth == self._top
            elif mark in _CLOSING:
                self._depth = max(self._depth - 1, 0)
                self._is_closed = self._depth < self._top
                is_boundary = self._is_closed or self._depth == self._top == 0
            else:
                is_boundary = True
            if is_boundary:
                yield mark


def _shortened(rest: bytes) -> bytes:
    """As much of a text that is thrown away as is needed to know where its last string ends."""
    whole = _WHOLE.match(rest)
    assert whole is not None  # noqa: S101  (it matches nothing as well)
    tail = rest[whole.end() :]
    if not tail:
        return b""
    slashes = len(tail) - len(tail.rstrip(b"\\"))
    return b'"' + b"\\" * (slashes % 2)
