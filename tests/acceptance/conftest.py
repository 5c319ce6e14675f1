"""A folder with a small sample store, and the command line over it."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from segexport.exports.builder import Engine
from segexport.exports.sample import build_sample

PROFILES = 3_000

Segexport = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile store of 3 000 made-up profiles; read it, do not change it."""
    store = tmp_path_factory.mktemp("sample") / "profiles"
    build_sample(
        store,
        profiles=PROFILES,
        seed=1,
        now=datetime(2026, 1, 1, tzinfo=UTC),
        engine=Engine(threads=2),
    )
    return store


@pytest.fixture
def environment(tmp_path: Path, sample: Path) -> Mapping[str, str]:
    """The environment of a process that works in a folder of its own."""
    inherited = {name: value for name, value in os.environ.items() if "SEGEXPORT" not in name}
    return {
        **inherited,
        "SEGEXPORT_DATA": str(tmp_path / "data"),
        "SEGEXPORT_PROFILES": str(sample),
        "COLUMNS": "200",
    }


@pytest.fixture
def segexport(environment: Mapping[str, str], tmp_path: Path) -> Segexport:
    """Run `segexport …` as a process of its own, in an empty folder."""

    def run(
        *arguments: str, stdin: str | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "segexport", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            env={**environment, **variables},
            check=False,
        )

    return run
