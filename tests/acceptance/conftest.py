"""A folder with a small sample store, and the command line over it."""

import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from segexport.profiles.builder import Resources
from segexport.profiles.sample import build_sample
from support.command_line import Segexport

PROFILES = 3_000


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile store of 3 000 made-up profiles; read it, do not change it."""
    store = tmp_path_factory.mktemp("sample") / "profiles"
    build_sample(
        store,
        profiles=PROFILES,
        seed=1,
        now=datetime(2026, 1, 1, tzinfo=UTC),
        resources=Resources(threads=2),
    )
    return store


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c() -> Iterator[None]:
    """Programs heed Ctrl-C, even if these tests run in the background, where shells ignore it."""
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, inherited)


@pytest.fixture
def segexport(tmp_path: Path, sample: Path) -> Segexport:
    """The command line over the sample's profiles and an empty store."""
    return Segexport(
        tmp_path,
        SEGEXPORT_DATA=str(tmp_path / "data"),
        SEGEXPORT_PROFILES=str(sample),
    )
