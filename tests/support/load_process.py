"""A process of its own that loads a file and kills itself at a given point, with SIGKILL.

    python -m support.load_process STORE FILE POINT

POINT: `reading`, `merging 0`, `merging 1`, … (before that bucket), `renaming` (everything is
on disk), `renamed` (nothing is left but to tidy up).
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from segexport.profiles import builder
from segexport.profiles.loading import load
from support.fragments import NOW, RESOURCES


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(store: str, file: str, point: str) -> None:
    """Load until the point is reached."""
    rename = Path.rename

    def renaming(self: Path, target: Any) -> Path:
        if point == "renaming":
            _die()
        renamed = rename(self, target)
        if point == "renamed":
            _die()
        return renamed

    def progress(step: str, done: int, _total: int) -> None:
        if point in {step, f"{step} {done}"}:
            _die()

    with (
        mock.patch.object(builder, "FRAGMENTS_PER_BUCKET", 32),
        mock.patch.object(Path, "rename", renaming),
    ):
        load(Path(store), [Path(file)], now=NOW, resources=RESOURCES, progress=progress)


if __name__ == "__main__":
    main(*sys.argv[1:])
