"""Where a running export keeps its files until they are published."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from segexport.errors import DatasetError
from segexport.jobs.publication import DataFile
from segexport.jobs.request import FileFormat

LIVE_INSTANCES: Final = "instances.parquet"
"""The keys that were in the job's journey when its first attempt began: without an epoch, so
that all attempts judge alike."""


@dataclass(frozen=True, slots=True)
class Staging:
    """A job's staging folder, as the worker sees it that holds the job under `epoch`.

    The epoch stands in every name, so that a worker that has lost the job without knowing
    it yet never writes into a file of its successor.
    """

    folder: Path
    epoch: int
    format: FileFormat = FileFormat.PARQUET

    def open(self) -> None:
        """Make the folder, and see that it can be written. Raises `DatasetError`."""
        make_folder(self.folder)
        with explaining(self.folder):
            probe = self.folder / f"probe-e{self.epoch}"
            probe.write_bytes(b"\0")
            probe.unlink()

    def data(self, index: int, batch: int = 0) -> Path:
        """The exported profiles of a piece for one of the job's batches."""
        return self.folder / f"part-{index:05d}-b{batch:03d}-e{self.epoch}.{self.format}"

    def discards(self, index: int) -> Path:
        """The discards of a piece."""
        return self.folder / f"discards-{index:05d}-e{self.epoch}.parquet"

    def holds(self, file: DataFile | None) -> bool:
        """Whether a file that is recorded is there, as long as it was."""
        if file is None:
            return True
        path = self.folder / file.name
        return path.is_file() and path.stat().st_size == file.size


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, all of them durable. Raises `DatasetError`."""
    with explaining(folder):
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        force_to_disk(path.parent)


def discard(*paths: Path) -> None:
    """Delete files that may not be there."""
    for path in paths:
        path.unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """Delete a folder that may not be there. Raises `DatasetError`."""
    while folder.exists():
        with explaining(folder):
            try:
                shutil.rmtree(folder)
            except FileNotFoundError:
                continue  # somebody else deletes it as well, and is welcome
            except OSError as error:
                # A worker that has lost the job has just begun something in it.
                if error.errno != errno.ENOTEMPTY:
                    raise


def force_to_disk(path: Path) -> None:
    """Return once a file's content, or a folder's entries, would survive a power cut."""
    with explaining(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, waiting for it. The kernel frees it when the process ends."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def explaining(path: Path) -> Iterator[None]:
    """Turn an `OSError` inside into a `DatasetError` that says what to do."""
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"{error.filename or path} cannot be written ({error.strerror or error}); "
            "check the folder's permissions and the free space"
        ) from error
