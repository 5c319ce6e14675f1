"""Where a running export keeps its files until they are published."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from segexport.exports.dataset import Dataset
from segexport.exports.disk import discard, make_folder, remove
from segexport.exports.location import Location
from segexport.jobs.publication import DataFile
from segexport.jobs.request import FileFormat

LIVE_INSTANCES: Final = "instances.parquet"
"""The keys that were in the job's journey when its first attempt began: without an epoch, so
that all attempts judge alike."""


@dataclass(frozen=True, slots=True)
class Staging:
    """A job's staging folder, as the worker sees it that holds the job under `epoch`.

    The epoch stands in every name, so that a worker that has lost the job without knowing
    it yet never writes into a file of its successor. Paths are those of this machine: below
    `scratch`, where the dataset lies on an object store. What is to stay has to be kept.
    """

    dataset: Dataset
    job_id: int
    epoch: int
    scratch: Path
    format: FileFormat = FileFormat.PARQUET

    @property
    def folder(self) -> Location:
        """Where the files are, once they are kept."""
        return self.dataset.staging(self.job_id)

    def open(self) -> None:
        """Make the folder, and see that it can be written. Raises `DatasetError`."""
        self.folder.open(f"probe-e{self.epoch}")
        make_folder(self.folder.on_disk(self.scratch))

    def data(self, index: int, batch: int = 0) -> Path:
        """The exported profiles of a piece for one of the job's batches."""
        return self._path(f"part-{index:05d}-b{batch:03d}-e{self.epoch}.{self.format}")

    def discards(self, index: int) -> Path:
        """The discards of a piece."""
        return self._path(f"discards-{index:05d}-e{self.epoch}.parquet")

    def endpoints(self, index: int) -> Path:
        """The endpoint definitions of a piece."""
        return self._path(f"endpoints-{index:05d}-e{self.epoch}.json.gz")

    def keep(self, files: Sequence[DataFile]) -> None:
        """Make files stay that are complete, for whoever takes the job over as well.

        Raises `DatasetError`; what was kept by then is overwritten by another try.
        """
        names = [file.name for file in files]
        self.folder.put(names, self.scratch)
        for name in names:
            (self.folder / name).forget(self.scratch)

    def kept(self) -> Callable[[DataFile], bool]:
        """Tells of a recorded file whether it is there, as long as it was."""
        sizes = self.folder.sizes()
        return lambda file: sizes.get(file.name) == file.size

    @contextmanager
    def opened(self, names: Sequence[str]) -> Iterator[Sequence[Path]]:
        """Kept files, as paths for as long as the block lasts."""
        files = [self.folder / name for name in names]
        try:
            yield [file.get(self.scratch) for file in files]
        finally:
            for file in files:
                file.forget(self.scratch)

    def shared(self, name: str, make: Callable[[Path], object]) -> Path:
        """The path of a file that all attempts at the job have in common.

        The first of them makes it; whoever makes it at the same time gets that of the other.
        """
        file = self.folder / name
        if not file.exists():
            file.forget(self.scratch)  # of an attempt that never came to share it
            make(file.on_disk(self.scratch))
            self.folder.put_first(name, self.scratch)
        return file.get(self.scratch)

    def withdraw(self, *paths: Path) -> None:
        """Delete files that nobody knows of yet. Raises `DatasetError`."""
        discard(*paths)
        for path in paths:
            (self.folder / path.name).unlink()

    def remove(self) -> None:
        """Delete all that is staged, here and there. Raises `DatasetError`."""
        self.folder.remove()
        remove(self.folder.on_disk(self.scratch))

    def _path(self, name: str) -> Path:
        return (self.folder / name).on_disk(self.scratch)
