"""How much the datasets may take of the disk, asked before a piece is written."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from segexport.errors import DatasetFull

RESERVE = 64 * 2**20
"""Bytes of the disk that are left to others: a disk that is quite full serves nobody."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What lies under `root` may come to `limit` bytes; without one, to what the disk has."""

    root: Path
    limit: int | None = None

    @property
    def used(self) -> int:
        """Bytes of all files below the root, those of exports that run among them."""
        return sum(path.lstat().st_size for path in self.root.rglob("*") if path.is_file())

    def require(self, expected: int) -> None:
        """Raise `DatasetFull` if so many bytes more would be too many."""
        place = next(path for path in (self.root, *self.root.parents) if path.exists())
        free = shutil.disk_usage(place).free
        if expected + RESERVE > free:
            raise DatasetFull(
                f"the next piece needs about {expected:,} bytes, and the disk of {self.root} has "
                f"{free:,} left, of which {RESERVE:,} stay free: make room, or set `datasets` to "
                "another disk"
            )
        if self.limit is None:
            return
        used = self.used
        if used + expected > self.limit:
            raise DatasetFull(
                f"the next piece needs about {expected:,} bytes, and {self.root} holds {used:,} of "
                f"the {self.limit:,} that exports.disk_budget allows: delete batches with "
                "`segexport datasets delete`, or raise it"
            )
