"""The kinds of values that settings have."""

import re
from contextlib import suppress
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from segexport.errors import FileNameUnusable
from segexport.sql import file_to_read

FOLDER_NAME: Final = r"^[A-Za-z0-9_][A-Za-z0-9_.@-]*$"
"""Letters, digits, `_ . @ -`, not led by a dot."""
MAX_FOLDER_NAME: Final = 128


def matching(pattern: str, words: str) -> tuple[Any, Any]:
    """What an annotated str has to match, wholly; `words` say what that is."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern.removeprefix("^").removesuffix("$"), text):
            raise ValueError(words)
        return text

    return Field(json_schema_extra={"pattern": pattern}), AfterValidator(check)


FOLDER_WORDS: Final = "must be letters, digits and _ . @ -, not led by a dot"
FolderName = Annotated[str, Field(max_length=MAX_FOLDER_NAME), *matching(FOLDER_NAME, FOLDER_WORDS)]
TopicName = Annotated[
    str, *matching(r"^[A-Za-z0-9._-]{1,240}$", "must be 1 to 240 letters, digits and . _ -")
]


def seconds(value: object) -> object:
    """Environment variables are text: take `15` and `0.5` for seconds there as well."""
    if isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    return value


def _on_this_machine(value: object) -> object:
    if isinstance(value, str) and "://" in value:
        raise ValueError("name a folder of this machine; only `datasets` may be a URL")
    return value


def _nameable(folder: Path) -> Path:
    try:
        file_to_read(folder)
    except FileNameUnusable as error:
        raise ValueError(str(error)) from error
    return folder


Folder = Annotated[Path, BeforeValidator(_on_this_machine), AfterValidator(_nameable)]
"""A folder with files that DuckDB reads. Its name is taken as it is."""


def _root(value: object) -> object:
    """Tell a URL from a folder, whose name may look like anything else."""
    if not isinstance(value, str) or "://" not in value:
        return value if value is None else _nameable(Path(str(value)))
    if not re.fullmatch(r"s3://[^/?#@]+(/[^?#]*)?", value):
        raise ValueError("name a folder, or s3://bucket/prefix")
    return value


DatasetsRoot = Annotated[Path | str, BeforeValidator(_root)]
"""A folder, or `s3://bucket/prefix`."""

SIZE = r"^(\d+(?:\.\d+)?) ?([KMGT])(i?)B$"
Size = Annotated[str, *matching(SIZE, "give a size such as 2GB or 512MiB")]
"""Bytes in DuckDB's notation: 2GB, 512MiB."""
Duration = Annotated[timedelta, BeforeValidator(seconds), Field(gt=timedelta(0))]


def bytes_of(size: str) -> int:
    found = re.fullmatch(SIZE, size)
    assert found is not None  # noqa: S101  (checked when the setting was read)
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** (1 + "KMGT".index(unit)))


LOOPBACK: Final = "localhost, 127.0.0.0/8 or ::1"
"""What `is_loopback` takes for this machine alone."""


def is_loopback(host: str | None) -> bool:
    """Whether a host is this machine alone: one of `LOOPBACK`, an IPv6 address also in brackets.

    Another name may lead to such an address, but not everywhere and not for ever.
    """
    host = without_brackets(host or "").lower()
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def without_brackets(host: str) -> str:
    """A host as sockets want it: `[::1]` is how URLs write `::1`."""
    found = re.fullmatch(r"\[([^\[\]]*:[^\[\]]*)\]", host)
    return found[1] if found else host


def is_safe_url(url: str) -> bool:
    """Whether what is sent there cannot be read on its way: https, or http on loopback."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    return bool(host) if parts.scheme == "https" else parts.scheme == "http" and is_loopback(host)


class Section(BaseModel):
    """A group of settings; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
