"""The TOML file of settings."""

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from segexport.errors import SettingsError
from segexport.faults import explaining

CONFIG_VARIABLE: Final = "SEGEXPORT_CONFIG"
DEFAULT_CONFIG: Final = Path("segexport.toml")


def read_file() -> Mapping[str, Any]:
    """What the file says: the one that is named, or the usual one where that is there.

    A byte order mark, which editors of Windows begin files with, says nothing. Raises
    `SettingsError` where the file cannot be read, or is not TOML.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    file = Path(named) if named else DEFAULT_CONFIG
    if not named and not os.path.lexists(file):
        return {}
    with explaining(_unreadable, file):
        content = file.read_bytes()
    try:
        read = tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _unreadable(str(file), f"line {line} is not UTF-8: save it as that") from None
    except tomllib.TOMLDecodeError as error:
        raise _unreadable(str(file), f"it is not TOML: {error}") from error
    for name, text in _texts(read):
        if "\0" in text:
            raise _unreadable(str(file), f"{name} holds a NUL character: remove it")
    return read


def _unreadable(file: str, why: str) -> SettingsError:
    of = f", the file that {CONFIG_VARIABLE} names," if os.environ.get(CONFIG_VARIABLE) else ""
    return SettingsError(f"the settings in {file}{of} cannot be read ({why})")


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a document, names of tables and settings included."""
    match value:
        case str():
            yield name, value
        case Mapping():
            for key, each in value.items():
                yield name or "a name", key
                yield from _texts(each, f"{name}.{key}" if name else key)
        case list():
            for each in value:
                yield from _texts(each, name)
