"""A file of API keys with one key in it, and a server's ring over it."""

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from segexport.http.keys import IssuedKey, KeyFile, KeyRing, MasterKey

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def master() -> MasterKey:
    return MasterKey("0123456789abcdefghijklmnopqrstuv")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> KeyFile:
    return KeyFile(tmp_path_factory.mktemp("keys") / "keys.json")


@pytest.fixture(scope="module")
def issued(file: KeyFile, master: MasterKey) -> IssuedKey:
    """The one key in the file."""
    return file.create(master, "ci", organization="acme", now=NOW)


@pytest.fixture(scope="module")
def ring(file: KeyFile, master: MasterKey, issued: IssuedKey) -> KeyRing:
    assert file.keys() == (issued.key,)
    return KeyRing(file, master)
