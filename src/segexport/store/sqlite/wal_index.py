"""The file `-shm` that SQLite keeps beside a file with a write-ahead log, read from outside.

What is where in it is documented at sqlite.org/walformat.html, "WAL-Index File Format". It tells
how much of the log has been copied into the file, and byte 121 is locked by whoever copies.

A process that closes any descriptor of a file loses all of its POSIX locks on it, SQLite's own
among them (sqlite.org/howtocorrupt.html, 2.2). So descriptors are closed only when no store is
open in this process.
"""

import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_BYTES: Final = 136
_SALTS: Final = slice(32, 40)
"""Two random numbers that change when the log begins anew."""
_COPIED: Final = slice(96, 100)
"""The frames of the log that are in the file."""
_BEGUN: Final = slice(128, 132)
"""The frames that may be: noted before any of them is copied."""
_COPYING: Final = 121
"""The byte that is locked while somebody copies."""
_RETRY: Final = 0.002
"""Seconds between two tries to lock it: who only looks has it for microseconds."""

copying: Final = threading.Lock()
"""Held by the thread of this process that copies a log into its file, or keeps others from it:
POSIX locks keep processes apart, and not threads."""


class Descriptors:
    """Descriptors of files that SQLite locks as well, kept for as long as any store is open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stores = 0
        self._unused: list[int] = []

    def hold(self) -> None:
        """One store more is open, or about to be."""
        with self._lock:
            self._stores += 1

    def let_go(self, *unused: int) -> None:
        """One store less; these were its descriptors."""
        with self._lock:
            self._stores -= 1
            self._unused += unused
            if not self._stores:
                for descriptor in self._unused:
                    os.close(descriptor)
                self._unused.clear()


descriptors: Final = Descriptors()


class WalIndex:
    """The index of a log that a connection of this process has open.

    `descriptors` is told of the store before, and of `descriptor` when all connections are closed.
    """

    def __init__(self, path: Path) -> None:
        """Raises `OSError`."""
        self.descriptor: Final = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def progress(self) -> bytes:
        """What stays the same for as long as nobody copies. Raises `OSError`."""
        header = os.pread(self.descriptor, _BYTES, 0)
        return header[_SALTS] + header[_COPIED] + header[_BEGUN]

    @contextmanager
    def nobody_copies(self, patience: float) -> Iterator[bool]:
        """Nobody copies inside of the block; False where somebody does for `patience` seconds."""
        until = time.monotonic() + patience
        if not copying.acquire(timeout=patience):
            yield False
            return
        try:
            held = self._lock(until)
            try:
                yield held
            finally:
                if held:
                    fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, _COPYING)
        finally:
            copying.release()

    def _lock(self, until: float) -> bool:
        while True:
            try:
                fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _COPYING)
            except OSError as error:
                if error.errno not in {errno.EACCES, errno.EAGAIN}:
                    raise
                if time.monotonic() > until:
                    return False
                time.sleep(_RETRY)
            else:
                return True
