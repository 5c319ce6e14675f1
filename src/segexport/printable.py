"""Text of others, so that a terminal shows what is there and obeys none of it."""

import re
import unicodedata
from typing import Final

_HIDDEN: Final = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Control and format characters (those that turn the direction of writing among them), halves of
surrogate pairs, separators of lines and paragraphs: Unicode's general categories."""
_BEYOND_ASCII: Final = re.compile(r"[^\x20-\x7e]")


def printable(text: str) -> str:
    r"""The text with everything that cannot be seen, or moves what can, as an escape: `\u202e`."""
    return _BEYOND_ASCII.sub(lambda found: _escaped(found[0]), text)


def printable_json(text: str) -> str:
    """The same for JSON on one line, which stays the same JSON."""
    return _BEYOND_ASCII.sub(lambda found: _escaped_in_json(found[0]), text)


def _escaped(letter: str) -> str:
    if unicodedata.category(letter) not in _HIDDEN:
        return letter
    return letter.encode("unicode_escape").decode()


def _escaped_in_json(letter: str) -> str:
    if unicodedata.category(letter) not in _HIDDEN:
        return letter
    units = letter.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
