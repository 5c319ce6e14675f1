"""How much the datasets may take, and their pieces of the disk, asked before one is written."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from segexport.errors import DatasetFull
from segexport.exports.location import Location

RESERVE: Final = 64 * 2**20
"""Bytes of the disk that are left to others: a disk that is quite full serves nobody."""


class Budget:
    """What lies under `root` may come to `limit` bytes; without one, to what the disk has.

    Pieces are written to `disk`, a folder that need not be there yet: the root itself, if it
    is one, else one on this machine. Holds for all that one process writes; several
    processes see of each other what is written, not what is about to be. May be used by
    several threads.
    """

    def __init__(self, root: Location, disk: Path, limit: int | None = None) -> None:
        self._root = root
        self._disk = disk
        self._limit = limit
        self._promised = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes of all files below the root, those of exports that run among them."""
        return self._root.bytes_below()

    @contextmanager
    def reserved(self, expected: int) -> Iterator[None]:
        """Keep so many bytes for what the block writes.

        Raises `DatasetFull` if they are not there, beside those that others keep, and
        `DatasetError` where nobody can tell.
        """
        with self._lock:
            self._promised += expected
            wanted = self._promised
        try:
            # Outside the lock: to count what an object store holds takes its time.
            self._require(wanted)
            yield
        finally:
            with self._lock:
                self._promised -= expected

    def _require(self, wanted: int) -> None:
        place = next(path for path in (self._disk, *self._disk.parents) if path.exists())
        free = shutil.disk_usage(place).free
        if wanted + RESERVE > free:
            raise DatasetFull(
                f"the next pieces need about {wanted:,} bytes, and the disk of {self._disk} has "
                f"{free:,} left, of which {RESERVE:,} stay free: make room, or set `datasets` or "
                "`data` to another disk"
            )
        if self._limit is None:
            return
        used = self.used
        if used + wanted > self._limit:
            raise DatasetFull(
                f"the next pieces need about {wanted:,} bytes, and {self._root} holds {used:,} of "
                f"the {self._limit:,} that exports.disk_budget allows: delete batches with "
                "`segexport datasets delete`, or raise it"
            )
