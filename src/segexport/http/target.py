"""What a request is aimed at, in the one form that routes understand.

A target may be a whole URL (RFC 9112, section 3.2.2), as some clients and proxies send it. Then
that URL says which host is meant, and not the header Host.
"""

import re
from typing import Final
from urllib.parse import unquote

from starlette.types import Scope

_WHOLE: Final = re.compile(rb"(?i:https?)://([^/?#]*)(/.*)?", re.DOTALL)


def in_origin_form(scope: Scope) -> Scope:
    """The same request, aimed at a path."""
    found = _WHOLE.fullmatch(scope["raw_path"])
    if found is None:
        return scope
    host, raw_path = found[1].lower(), found[2] or b"/"
    others = [(name, value) for name, value in scope["headers"] if name != b"host"]
    return {
        **scope,
        "raw_path": raw_path,
        "path": unquote(raw_path.decode("ascii")),
        "headers": [(b"host", host), *others],
    }
