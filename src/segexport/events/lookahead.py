"""A JSON text that is read piece by piece: where its next value ends, and what lies before that.

Python's own `json` finds the end of a value without being told where its text ends (`raw_decode`),
orjson does not. It is given the bytes as Latin-1: one letter a byte, so that places are the same,
and all that JSON is made of is ASCII.
"""

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

MAX_DOCUMENT: Final = 8 * 2**20
"""Bytes of one document."""
MAX_LINE: Final = 2**20
"""Bytes of a line that is held as a whole."""
MAX_SKIPPED: Final = 2**16
"""Bytes that are read at once where they are passed over."""

_TOKEN: Final = 16
"""Bytes in which the end of a text may make an error of a token that it cuts; of strings, more."""
_BLANK: Final = b" \t\r\n"
_BLANKS: Final = re.compile(rb"[ \t\r\n]*")
_REST: Final = re.compile(rb"[ \t\r]*([^ \t\r]?)")
_ELEMENTS: Final = re.compile(rb'"(?:[^"\\\n]|\\.)*"|[][{},\n]')
_DECODER: Final = json.JSONDecoder(parse_int=float)  # Python's int refuses very long numbers


@lru_cache(maxsize=64)
def _line_beginning(indentation: int, *, to_bracket: bool) -> re.Pattern[bytes]:
    first = rb"[][{}]" if to_bracket else rb"[^ \t\r\n]"
    return re.compile(rb"^[ \t\r]{0,%d}%s" % (indentation, first), re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Broken:
    """A value that is none. `offset` is where that shows, in bytes of the whole text.

    `reason` is there where the text itself is not what is wrong.
    """

    offset: int
    reason: str | None = None


class Lookahead:
    """The bytes of a text from some place on, a few of them held at a time.

    `line` counts from 1, `column` is the number of bytes before the place in its line, and
    `indentation` the column of that line's first byte that is not blank.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        """A piece may be any part of the text; where each is a line, one line is held."""
        self._pieces = iter(pieces)
        self._held = b""
        self._letters: str | None = None
        self._at = 0
        self._before = 0  # bytes of the text before those held
        self._ended = False
        self.line = 1
        self.column = 0
        self.indentation = 0

    @property
    def offset(self) -> int:
        """How many bytes of the text lie before the place."""
        return self._before + self._at

    def skip(self, prefix: bytes) -> None:
        """Leave out a prefix, if the text has it here."""
        while len(self._held) - self._at < len(prefix) and self._more():
            pass
        if self._held.startswith(prefix, self._at):
            self._at += len(prefix)

    def next_byte(self) -> bytes:
        """Go to the next byte that is not blank; the byte, or none at the end of the text."""
        is_new = not self.column
        while True:
            first = self._held[self._at : self._at + 1]
            if not first:
                if not self._more():
                    return b""
            elif first in _BLANK:
                blank = _BLANKS.match(self._held, self._at)
                is_new = self._go(blank.end() if blank is not None else self._at) or is_new
            else:
                if is_new:
                    self.indentation = self.column
                return first

    def rest_of_line(self) -> bytes | None:
        """The line from here to its end; None if that is longer than `MAX_LINE`."""
        while (end := self._held.find(b"\n", self._at) + 1) == 0:
            if len(self._held) - self._at >= MAX_LINE:
                return None
            if not self._more():
                end = len(self._held)
                break
        return self._held[self._at : end]

    def value(self) -> bytes | Broken:
        """The JSON value that begins here, or where it turns out to be none."""
        while True:
            letters = self._text()
            try:
                _, end = _DECODER.raw_decode(letters, self._at)
            except json.JSONDecodeError as error:
                broken = Broken(self._before + error.pos)
                is_cut = self._may_be_cut(error)
            except RecursionError:
                return Broken(self.offset, "is nested more deeply than can be read")
            else:
                if end < len(letters) or letters[end - 1] in '}]"' or self._ended:
                    return self._held[self._at : end]
                broken, is_cut = Broken(self._before + end), True
            if not is_cut or self._ended:
                return broken
            if len(letters) - self._at > MAX_DOCUMENT:
                limit = f"{MAX_DOCUMENT // 2**20} MiB"
                reason = f"is a document of more than {limit}, and none may be larger"
                return Broken(self._before + len(letters), reason)
            self._more()

    def has_after(self, size: int, *, but: Collection[bytes]) -> bool:
        """Whether something follows in the line, behind so many bytes, that begins otherwise."""
        while True:
            found = _REST.match(self._held, self._at + size)
            rest = found[1] if found is not None else b""
            if rest or not self._more():
                return rest not in {b"", b"\n", *but}

    def end_line(self, size: int) -> None:
        """Go on by the bytes that are the rest of the line."""
        self._at += size
        self.line += 1
        self.column = 0

    def advance(self, size: int) -> None:
        """Go on by so many bytes; they are held."""
        self._go(self._at + size)

    def through_line(self, offset: int) -> bytes:
        """What is held from here to the end of the line in which an offset lies."""
        end = self._held.find(b"\n", max(offset - self._before, self._at)) + 1
        return self._held[self._at : end or len(self._held)]

    def skip_line(self) -> None:
        """Go to the beginning of the next line, however far it is."""
        while (end := self._held.find(b"\n", self._at)) < 0:
            self._go(len(self._held))
            if not self._more():
                return
        self._go(end + 1)

    def skip_lines(self, indentation: int, *, to_bracket: bool) -> None:
        """Go to the next line that has something and is indented so far at most.

        With `to_bracket` it also has to begin with a bracket.
        """
        begins = _line_beginning(indentation, to_bracket=to_bracket)
        self.skip_line()
        while (found := begins.search(self._held, self._at)) is None:
            self._go(self._held.rfind(b"\n", self._at) + 1 or self._at)
            if len(self._held) - self._at > MAX_LINE:
                self.skip_line()
            elif not self._more(MAX_SKIPPED):
                self._go(len(self._held))
                return
        self._go(found.start())

    def skip_element(self) -> bool:
        """Go to the comma or bracket after an array's element in this line, valid or not.

        Whether there is one among the bytes that are held.
        """
        depth = 0
        for found in _ELEMENTS.finditer(self._held, self._at):
            match found[0]:
                case b"{" | b"[":
                    depth += 1
                case b"}" | b"]" if depth:
                    depth -= 1
                case b"\n":
                    break
                case b"," | b"]" if not depth:
                    self._go(found.start())
                    return True
        return False

    def _text(self) -> str:
        if self._letters is None:
            self._letters = self._held.decode("latin-1")
        return self._letters

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        """Whether a value may be right and go on after what is held. No token spans two lines."""
        if self._held.endswith(b"\n"):
            return error.pos >= len(self._held.rstrip(_BLANK))
        is_string = error.msg.startswith("Unterminated string")
        return is_string or error.pos >= len(self._held) - _TOKEN

    def _more(self, least: int = 1) -> bool:
        """Hold as many bytes again as lie ahead, up to one document; whether there were any."""
        self._before += self._at
        ahead = self._held[self._at :]
        if not ahead and least == 1:
            self._held, self._at, self._letters = next(self._pieces, b""), 0, None
            self._ended = not self._held
            return not self._ended
        wanted = max(least, min(len(ahead), MAX_DOCUMENT + 1 - len(ahead)))
        parts = [ahead]
        size = 0
        while size < wanted and (piece := next(self._pieces, b"")):
            parts.append(piece)
            size += len(piece)
        self._ended = size < wanted
        self._held, self._at, self._letters = b"".join(parts), 0, None
        return size > 0

    def _go(self, to: int) -> bool:
        """Go to a place among the bytes that are held; whether that is in another line."""
        lines = self._held.count(b"\n", self._at, to)
        if lines:
            self.line += lines
            self.column = to - self._held.rindex(b"\n", self._at, to) - 1
        else:
            self.column += to - self._at
        self._at = to
        return lines > 0
