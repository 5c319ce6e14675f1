"""What an engine writes beside a file before it becomes that file."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """A folder on the same disk as a file to be; not there at first, and gone at the end."""
    folder = target.with_name(f".{target.name}.writing")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
