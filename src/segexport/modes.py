"""Who may read what is written on this machine.

State, keys, profiles, discards and journeys are for the user of the service alone, whatever its
umask says. Datasets, and endpoint definitions for Pinpoint, are there to be read by others: their
mode is a setting, or else what the umask says. What a process makes is closed at first (`private`),
and then opened, so that at no moment anything is open by mistake.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

log: Final = structlog.stdlib.get_logger(__name__)

OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

_usual: int | None = None


@contextmanager
def private() -> Iterator[None]:
    """What this process makes inside is for its user alone; the umask it came with is kept.

    For whole processes: a umask is that of all threads.
    """
    global _usual  # noqa: PLW0603  (as is the umask itself)
    before = os.umask(OTHERS)
    _usual = before
    try:
        yield
    finally:
        _usual = None
        os.umask(before)


@dataclass(frozen=True, slots=True)
class Modes:
    """The modes of what others may read: of its files as set, or as the umask says."""

    file: int | None = None

    def give_file(self, path: Path) -> None:
        """Give a file its mode. Raises `OSError`."""
        self._give(path, 0o666 if self.file is None else self.file)

    def give_folder(self, path: Path) -> None:
        """Give a folder its mode: whoever may read files may pass. Raises `OSError`."""
        self._give(path, 0o777 if self.file is None else self.file | (self.file & 0o444) >> 2)

    def _give(self, path: Path, mode: int) -> None:
        if self.file is not None:
            path.chmod(mode)
        elif _usual is not None:
            with suppress(PermissionError):  # of an executor of Spark, which has a umask of its own
                path.chmod(mode & ~_usual)


AS_USUAL: Final = Modes()


def make_private(folder: Path) -> None:
    """Make a folder for its owner alone; its parents are shared. Raises `OSError`."""
    make_shared(folder.parent)
    folder.mkdir(mode=stat.S_IRWXU, exist_ok=True)


def make_shared(folder: Path) -> None:
    """Make a folder and its parents as the umask says, for what is in it has modes of its own.

    Raises `OSError`.
    """
    for path in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        path.mkdir(exist_ok=True)
        AS_USUAL.give_folder(path)


def close_to_others(paths: Iterable[Path]) -> None:
    """Take from others what they may do with these, where they are ours; say so, once for each."""
    for path in paths:
        with suppress(OSError):  # not there, or somebody else's
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & OTHERS:
                path.chmod(mode & ~OTHERS)
                log.warning(
                    "it was open to others, and is closed now", path=str(path), mode=f"{mode:04o}"
                )
