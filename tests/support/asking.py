"""The command line, run in a thread of the test's process, beside services of the test."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from structlog.testing import capture_logs

from segexport.cli import main
from segexport.http.keys import IssuedKey
from support.workplace import SCOPE, Workplace


@dataclass(frozen=True)
class Said:
    """What a command has said, its exit status, and what was logged meanwhile."""

    status: int
    out: str
    err: str
    log: str

    @property
    def error(self) -> str:
        """The one line about what went wrong."""
        (line,) = [one for one in self.err.splitlines() if one.startswith("error ")]
        return line


class CommandLine:
    """`segexport …`, for `SCOPE`, with what a workplace has unless it asks a service."""

    def __init__(
        self, place: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self._patch = monkeypatch
        self._capsys = capsys
        # Logs go on as the tests have them, also those of what runs beside the command.
        monkeypatch.setattr("segexport.cli.app.configure_logging", lambda **_: None)
        self.set(
            data=place.settings.data,
            profiles=place.settings.profiles_folder,
            organization=SCOPE.organization,
            sandbox=SCOPE.sandbox,
        )

    def set(self, **settings: Any) -> None:
        """Set these from now on; two underscores between section and name."""
        for name, value in settings.items():
            self._patch.setenv(f"SEGEXPORT_{name.upper()}", str(value))

    def sign_in(self, key: IssuedKey) -> None:
        """Ask services with this key."""
        self.set(client__api_key=key.key.client_id, client__client_secret=key.client_secret)

    async def __call__(self, *arguments: str) -> Said:
        """Run a command to its end."""
        self._capsys.readouterr()
        self._patch.setattr("sys.argv", ["segexport", *arguments])
        with capture_logs() as logged:
            status = await asyncio.to_thread(_exit_status)
        return Said(status, *self._capsys.readouterr(), log=repr(logged))


def _exit_status() -> int:
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0
