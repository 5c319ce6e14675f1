"""Names that our SQL and DuckDB use, so that attributes may be called like them all."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import segexport
from segexport.exports.fields import EVENT_LIST, IDENTITIES, IDENTITY_MAP, SEGMENT_MEMBERSHIP
from segexport.profiles.fragments import RESERVED

_NAME: Final = re.compile(r'\bAS "?([a-z_]+)\b|\blambda ([a-z_]+):|: Final = "([a-z_]+)"')
"""Aliases, parameters of lambdas, and constants."""
_PARTS: Final = ("exports", "profiles")
_OF_DUCKDB: Final = ("file_row_number", "filename", "file_index", "rowid", "json", "main", "temp")
_NO_ATTRIBUTES: Final = (*RESERVED, EVENT_LIST, IDENTITIES, IDENTITY_MAP, SEGMENT_MEMBERSHIP)


def own_names() -> Sequence[str]:
    """Every alias and parameter in the SQL of the package that can be an attribute's name."""
    package = Path(segexport.__file__).parent
    modules = [file.read_text() for part in _PARTS for file in (package / part).rglob("*.py")]
    found = {name for text in modules for name in _NAME.findall(text) for name in name if name}
    reserved = {name.lower() for name in _NO_ATTRIBUTES}
    return sorted(name for name in found.union(_OF_DUCKDB) if name not in reserved)
