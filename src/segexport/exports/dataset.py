"""Datasets: folders of batches, each visible through its manifest.

    <datasets>/<organization>/<sandbox>/<dataset id>/
      <batch id>/manifest.json            the batch is what its manifest names, nothing else
      <batch id>/part-00003-e2.parquet    piece 3, written under epoch 2 of the job's lease
      .staging/<job id>/                  of exports that run; not for readers

A batch appears whole, by the renaming of its folder, and never changes afterwards.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import duckdb
from pydantic import BaseModel, ConfigDict, ValidationError

from segexport.database import open_database
from segexport.errors import DatasetError
from segexport.jobs.job import Scope
from segexport.sql import parquet

MANIFEST: Final = "manifest.json"
STAGING: Final = ".staging"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ManifestColumn(_Part):
    """A column, with its type in DuckDB's words."""

    name: str
    type: str


class ManifestFile(_Part):
    """A file of the batch; `size` in bytes."""

    name: str
    rows: int
    size: int


class ManifestCounts(_Part):
    """Profiles: total = realized (the rows of the files) + failed (discarded)."""

    total: int
    realized: int
    failed: int
    namespaces: Mapping[str, int]


class Manifest(_Part):
    """What a batch is: where it came from, its files, its counts."""

    format: Literal[1] = 1
    job: int
    organization: str
    sandbox: str
    dataset: str
    batch: str
    snapshot: str
    segments: tuple[Mapping[str, Any], ...]  # as in the request
    fields: str  # as in the request: empty for all
    schema_name: str
    columns: tuple[ManifestColumn, ...]
    files: tuple[ManifestFile, ...]
    counts: ManifestCounts
    created: datetime

    def to_json(self) -> bytes:
        """The manifest as it stands in its file."""
        return self.model_dump_json(indent=2).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Batch:
    """A visible batch."""

    folder: Path
    manifest: Manifest

    @property
    def paths(self) -> Sequence[Path]:
        """Its data files, in the order of their pieces."""
        return tuple(self.folder / file.name for file in self.manifest.files)

    @property
    def relation(self) -> str:
        """What stands behind FROM in a query of DuckDB."""
        return parquet(self.paths)

    def verify(self) -> None:
        """Count the rows of every file again, and compare with the manifest.

        Raises `DatasetError` that names the first file or count that differs.
        """
        with open_database() as database:
            for file, path in zip(self.manifest.files, self.paths, strict=True):
                if not path.is_file() or path.stat().st_size != file.size:
                    raise DatasetError(f"{path} is missing or has not the size in its manifest")
                query = f"SELECT count(*) FROM {parquet([path])}"
                try:
                    ((rows,),) = database.execute(query).fetchall()
                except duckdb.Error as error:
                    raise DatasetError(
                        f"{path} is damaged ({str(error).splitlines()[0]})"
                    ) from error
                if rows != file.rows:
                    raise DatasetError(f"{path} has {rows} rows; its manifest says {file.rows}")
        counts = self.manifest.counts
        rows = sum(file.rows for file in self.manifest.files)
        if rows != counts.realized or counts.total != counts.realized + counts.failed:
            raise DatasetError(f"the counts in {self.folder / MANIFEST} do not add up")


@dataclass(frozen=True, slots=True)
class Dataset:
    """One dataset of one sandbox; its folder need not exist yet."""

    folder: Path

    def batch(self, batch_id: str) -> Batch:
        """A batch. Raises `DatasetError` if it is not there, or its manifest not readable."""
        folder = self.folder / batch_id
        try:
            return Batch(folder, Manifest.model_validate_json((folder / MANIFEST).read_bytes()))
        except OSError as error:
            raise DatasetError(
                f"{self.folder} has no batch {batch_id!r} ({error.strerror})"
            ) from error
        except ValidationError as error:
            raise DatasetError(
                f"{folder / MANIFEST} is not a manifest that this version reads: {error}"
            ) from error

    def batches(self) -> Sequence[Batch]:
        """The visible batches, oldest first."""
        found = (path.parent.name for path in self.folder.glob(f"[!.]*/{MANIFEST}"))
        return sorted(map(self.batch, found), key=lambda b: (b.manifest.created, b.folder.name))

    def staging(self, job_id: int) -> Path:
        """Where the export of this job writes until it is published."""
        return self.folder / STAGING / str(job_id)


@dataclass(frozen=True, slots=True)
class Datasets:
    """All datasets below a folder."""

    root: Path

    def dataset(self, scope: Scope, dataset_id: str) -> Dataset:
        """A dataset of a sandbox. Raises `DatasetError` for a name that is no folder's name."""
        steps = (scope.organization, scope.sandbox, dataset_id)
        for step in steps:
            if not step or step.startswith(".") or "/" in step or "\0" in step:
                raise DatasetError(f"{step!r} cannot name a folder of a dataset")
        return Dataset(self.root.joinpath(*steps))

    def staged(self) -> Iterator[tuple[Scope, int, Path]]:
        """Everything in staging: whose job, its id, its folder."""
        for folder in self.root.glob(f"*/*/*/{STAGING}/*"):
            if folder.name.isdecimal():
                organization, sandbox = folder.parts[-5:-3]
                yield Scope(organization, sandbox), int(folder.name), folder
