"""A folder for what an engine cannot hold in memory, one per process, gone with it."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

_LOCK: Final = "lock"


class SpillFolder:
    """A fresh folder under `root`; what killed processes have left there is removed first.

    Whose process lives holds a lock on a file in its folder. The kernel lets go of it when
    the process ends, however it ends; a process id would say less, since containers that
    share a volume number their processes apart.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.path = root / uuid4().hex
        with _alone(root):  # a folder that is new and not locked yet looks like an abandoned one
            self.path.mkdir()
            self._lock = _locked(self.path)
            for other in root.iterdir():
                if other != self.path:
                    _remove_if_abandoned(other)

    def remove(self) -> None:
        """Delete the folder and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _locked(folder: Path) -> int | None:
    """The open lock of a folder, or None if a living process holds it."""
    descriptor = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_if_abandoned(folder: Path) -> None:
    try:
        lock = _locked(folder)
    except OSError:  # another process has just removed it
        return
    if lock is not None:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
