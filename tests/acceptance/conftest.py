"""A folder with a small sample store, and the command line over it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from segexport.profiles.builder import Resources
from segexport.profiles.sample import build_sample
from support.waiting import wait_until

PROFILES = 3_000
_COMMAND = (sys.executable, "-m", "segexport")


class Segexport:
    """Runs `segexport …` as processes of their own, in an empty folder."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._environment = environment

    def __call__(
        self, *arguments: str, stdin: str | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [*_COMMAND, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self.folder,
            env={**self._environment, **variables},
            check=False,
        )

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A command while it runs; both of its outputs are one."""
        process = subprocess.Popen(
            [*_COMMAND, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env=self._environment,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    @contextmanager
    def serving(self, **variables: str) -> Iterator[subprocess.Popen[str]]:
        """`segexport serve`, until the block ends."""
        with self.log.open("w") as log:
            process = subprocess.Popen(
                [*_COMMAND, "serve"],
                stderr=log,
                text=True,
                cwd=self.folder,
                env={**self._environment, **variables},
            )
            try:
                wait_until(lambda: '"serving"' in self.log.read_text(), 20, "it serves")
                yield process
            finally:
                process.kill()
                process.wait()

    @property
    def log(self) -> Path:
        """What the service logs."""
        return self.folder / "serve.log"


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
    inherited = {name: value for name, value in os.environ.items() if "SEGEXPORT" not in name}
    return Segexport(
        tmp_path,
        {
            **inherited,
            "SEGEXPORT_DATA": str(tmp_path / "data"),
            "SEGEXPORT_PROFILES": str(sample),
            "SEGEXPORT_HTTP__PORT": "0",
            "COLUMNS": "200",
        },
    )
