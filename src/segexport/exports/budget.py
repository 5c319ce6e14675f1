"""How much the datasets may take of the disk, asked before a piece is written."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from segexport.errors import DatasetFull

RESERVE: Final = 64 * 2**20
"""Bytes of the disk that are left to others: a disk that is quite full serves nobody."""


class Budget:
    """What lies under `root` may come to `limit` bytes; without one, to what the disk has.

    Holds for all that one process writes; several processes see of each other what is
    written, not what is about to be. May be used by several threads.
    """

    def __init__(self, root: Path, limit: int | None = None) -> None:
        self._root = root
        self._limit = limit
        self._promised = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes of all files below the root, those of exports that run among them."""
        size = 0
        for folder, _, names in os.walk(self._root):
            for name in names:
                with suppress(FileNotFoundError):  # moved or swept just now
                    size += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118  (hot)
        return size

    @contextmanager
    def reserved(self, expected: int) -> Iterator[None]:
        """Keep so many bytes for what the block writes.

        Raises `DatasetFull` if they are not there, beside those that others keep.
        """
        with self._lock:
            self._require(expected)
            self._promised += expected
        try:
            yield
        finally:
            with self._lock:
                self._promised -= expected

    def _require(self, expected: int) -> None:
        wanted = expected + self._promised
        place = next(path for path in (self._root, *self._root.parents) if path.exists())
        free = shutil.disk_usage(place).free
        if wanted + RESERVE > free:
            raise DatasetFull(
                f"the next pieces need about {wanted:,} bytes, and the disk of {self._root} has "
                f"{free:,} left, of which {RESERVE:,} stay free: make room, or set `datasets` to "
                "another disk"
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
