"""What a request is aimed at, in the one form that routes understand.

A target may be a whole URL (RFC 9112, section 3.2.2), as some clients and proxies send it. Then
that URL says which host is meant, and not the header Host.

A path is taken apart at its slashes first, and then each segment is decoded (RFC 3986, section
2.4): an id with a slash, which clients write as `%2F`, stays one segment. Nothing else is done to
it, so the segments `.` and `..` are ids like any other.
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from pydantic import AfterValidator
from starlette.convertors import Convertor
from starlette.types import Scope

_WHOLE: Final = re.compile(rb"(?i:https?)://([^/?#]*)(/.*)?", re.DOTALL)


def routable(scope: Scope) -> Scope:
    """The same request, aimed at a path (`path`) whose slashes are those between segments."""
    found = _WHOLE.fullmatch(scope["raw_path"])
    if found is None:
        return {**scope, "path": _routed(scope["raw_path"])}
    host, raw_path = found[1].lower(), found[2] or b"/"
    others = [(name, value) for name, value in scope["headers"] if name != b"host"]
    return {
        **scope,
        "raw_path": raw_path,
        "path": _routed(raw_path),
        "headers": [(b"host", host), *others],
    }


def _routed(raw_path: bytes) -> str:
    """A path of decoded segments, in which only `/` and `%` are still encoded.

    Bytes that are no UTF-8 become lone surrogates, which no text has: so nothing has such
    an id.
    """
    segments = (
        unquote_to_bytes(segment).decode(errors="surrogateescape")
        for segment in raw_path.split(b"/")
    )
    return "/".join(segment.replace("%", "%25").replace("/", "%2F") for segment in segments)


class Segment(Convertor[str]):
    """A parameter of a route that is one segment of such a path: gives it whole."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        """The text that was put into the path."""
        return value.replace("%2F", "/").replace("%25", "%")

    def to_string(self, value: str) -> str:
        """The way back."""
        return value.replace("%", "%25").replace("/", "%2F")


SEGMENT: Final = Segment()


def _text(segment: str) -> str:
    try:
        segment.encode()
    except UnicodeEncodeError:
        raise ValueError("is no text: write it in UTF-8, each byte percent-encoded") from None
    return segment


TEXT: Final = AfterValidator(_text)
"""Of a parameter in a path that may be any text."""
