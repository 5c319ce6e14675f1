"""A JSON text as a document, and the names that an object in it has twice.

A parser keeps one of two equal names, which one is its own choice, and says nothing (RFC 8259,
section 4). So what one reader judges is not what another one reads.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from segexport.events.xdm import Path
from segexport.validation import repeated_names

MAX_REPEATED: Final = 20
"""Repeated names of one text that are told."""

_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
_MAY_BE_COLON: Final = b"\\u003"


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document, and where it has a name twice: the first `MAX_REPEATED` such places.

    The path is empty where the text is nested too deeply for the place to be told.
    """

    document: Any
    repeated: Sequence[Path] = ()


def parse(text: bytes) -> Parsed:
    """Parse a JSON text. Raises `orjson.JSONDecodeError`."""
    document = orjson.loads(text)
    return Parsed(document, () if _keeps_every_name(text, document) else _repeated(text))


def _keeps_every_name(text: bytes, document: Any) -> bool:
    """Whether a document has as many names as its text: quick to tell, and cautious.

    What a parser leaves out, it leaves out with its colon. Other colons stand in strings, where
    they are the same in text and document unless the text escapes them.
    """
    if _MAY_BE_COLON in text:
        return False
    try:
        written = orjson.dumps(document)
    except orjson.JSONEncodeError:  # it nests more deeply than it writes
        return False
    return text.count(b":") == written.count(b":")


class _Object(list[tuple[str, Any]]):
    """The names and values of a JSON object, all of them."""


def _repeated(text: bytes) -> Sequence[Path]:
    try:
        root = json.loads(text, object_pairs_hook=_Object)
    except RecursionError:
        return ((),) if _names_in(orjson.loads(text)) < _names_written(text) else ()
    found: list[Path] = []
    waiting: list[tuple[Path, Any]] = [((), root)]
    while waiting and len(found) < MAX_REPEATED:
        path, part = waiting.pop()
        if isinstance(part, _Object):
            found += [(*path, name) for name in repeated_names(part)]
            waiting += [((*path, name), value) for name, value in reversed(part)]
        elif isinstance(part, list):
            waiting += [((*path, at), value) for at, value in reversed([*enumerate(part)])]
    return found[:MAX_REPEATED]


def _names_written(text: bytes) -> int:
    return _STRING.sub(b"", text).count(b":")


def _names_in(document: Any) -> int:
    names = 0
    waiting = [document]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            names += len(part)
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return names
