"""The command line as people use it: processes in a folder."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segexport.http.interfaces import ADDRESS
from support.waiting import wait_until

_COMMAND = (sys.executable, "-m", "segexport")
_WITHOUT_PRIVILEGES = ("setpriv", "--bounding-set=-all") if os.geteuid() == 0 else ()
"""Makes permissions hold for root, too: run as usual by everybody else."""


class Segexport:
    """Runs `segexport …` as processes of their own, in an empty folder."""

    def __init__(self, folder: Path, **variables: str) -> None:
        """With these settings, and none that the tests were started with."""
        self.folder = folder
        self.is_privileged = True
        inherited = {name: value for name, value in os.environ.items() if "SEGEXPORT" not in name}
        self.environment = {
            **inherited,
            "SEGEXPORT_HTTP__PORT": "0",
            "COLUMNS": "200",
            **variables,
        }

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
            env={**self.environment, **variables},
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
            env=self.environment,
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
                [*(() if self.is_privileged else _WITHOUT_PRIVILEGES), *_COMMAND, "serve"],
                stderr=log,
                text=True,
                cwd=self.folder,
                env={**self.environment, **variables},
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

    @property
    def address(self) -> str:
        """Where the running service listens, such as `http://127.0.0.1:41231`."""
        data = self.folder / self.environment.get("SEGEXPORT_DATA", ".segexport")
        return (data / ADDRESS).read_text()
