"""Datasets: folders of batches, each visible through its manifest.

    <datasets>/<organization>/<sandbox>/<dataset id>/
      dataset.json                        what was registered of it; need not be there
      <batch id>/manifest.json            the batch is what its manifest names, nothing else
      <batch id>/part-00003-b000-e2.parquet   piece 3, batch 0 of the job, written under epoch 2
                                              of the job's lease
      .staging/<job id>/                  of exports that run; not for readers

A batch appears whole, by the renaming of its folder. It never changes afterwards, but for
the erasure of a person, which makes the next revision of its manifest.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import duckdb
import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from segexport.database import open_database
from segexport.errors import DatasetError, Problem
from segexport.exports.staging import explaining, force_to_disk, make_folder, remove
from segexport.jobs.job import Scope
from segexport.jobs.request import ExportRequest, FileFormat
from segexport.sql import lines, ndjson, parquet
from segexport.store.discards import fingerprint

MANIFEST: Final = "manifest.json"
REGISTRATION: Final = "dataset.json"
STAGING: Final = ".staging"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ManifestColumn(_Part):
    """A column, with its type in DuckDB's words."""

    name: str
    type: str


class ManifestFile(_Part):
    """A file of the batch; `size` in bytes, `sha256` in hex (empty where nobody took it)."""

    name: str
    rows: int
    size: int
    sha256: str = ""


class ManifestCounts(_Part):
    """Profiles: total = realized + failed (discarded).

    The files have `realized - erased` rows: `erased` persons were taken out since.
    """

    total: int
    realized: int
    failed: int
    namespaces: Mapping[str, int]
    erased: int = 0


class Manifest(_Part):
    """What a batch is: where it came from, its files, its counts.

    `segment` is the one of the request that the batch is for, where each has a batch of its
    own. Manifests of format 1 have no checksums, and no `person_id` in their files.
    """

    format: Literal[1, 2] = 2
    revision: int = 1
    job: int
    organization: str
    sandbox: str
    dataset: str
    batch: str
    snapshot: str
    segments: tuple[Mapping[str, Any], ...]  # as in the request
    segment: Mapping[str, Any] | None = None
    fields: str  # as in the request: empty for all
    schema_name: str
    file_format: FileFormat = FileFormat.PARQUET
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
        if self.manifest.file_format is FileFormat.PARQUET:
            return parquet(self.paths)
        columns = {column.name: column.type for column in self.manifest.columns}
        return ndjson(self.paths, columns)

    @property
    def size(self) -> int:
        """Bytes of its data files."""
        return sum(file.size for file in self.manifest.files)

    def faults(self) -> Iterator[str]:
        """Everything in which the files differ from the manifest, and it from itself.

        Reads every file twice: once for its checksum, once for its rows.
        """
        with open_database() as database:
            for file, path in zip(self.manifest.files, self.paths, strict=True):
                fault = _fault(database, file, path)
                if fault:
                    yield fault
        counts = self.manifest.counts
        rows = sum(file.rows for file in self.manifest.files)
        if rows != counts.realized - counts.erased or counts.total != (
            counts.realized + counts.failed
        ):
            yield f"the counts in {self.folder / MANIFEST} do not add up"

    def verify(self) -> None:
        """Raise `DatasetError` that names everything that `faults` finds."""
        faults = list(self.faults())
        if faults:
            raise DatasetError(
                f"batch {self.manifest.batch} is damaged: {'; '.join(faults)}; "
                "export it again, or bring the files back"
            )

    def delete(self) -> None:
        """Make the batch invisible, then delete its files.

        Raises `DatasetError`, also while the batch's job is still being published.
        """
        staging = self.folder.parent / STAGING / str(self.manifest.job)
        if staging.exists():
            raise DatasetError(
                f"job {self.manifest.job} is still publishing batch {self.manifest.batch}; wait "
                "for its end, then delete the batch"
            )
        with explaining(self.folder):
            (self.folder / MANIFEST).unlink(missing_ok=True)
        force_to_disk(self.folder)
        remove(self.folder)


def _fault(database: duckdb.DuckDBPyConnection, file: ManifestFile, path: Path) -> str | None:
    if not path.is_file():
        return f"{path} is missing"
    if path.stat().st_size != file.size:
        return f"{path} has {path.stat().st_size} bytes; its manifest says {file.size}"
    if file.sha256 and fingerprint(path) != file.sha256:
        return f"{path} has changed: its SHA-256 is not the one in its manifest"
    relation = parquet([path]) if path.suffix == ".parquet" else lines([path])
    try:
        ((rows,),) = database.execute(f"SELECT count(*) FROM {relation}").fetchall()
    except duckdb.Error as error:
        return f"{path} is damaged ({str(error).splitlines()[0]})"
    return None if rows == file.rows else f"{path} has {rows} rows; its manifest says {file.rows}"


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

    @property
    def registered_schema(self) -> str | None:
        """The name of the schema that was registered for the dataset, if one was.

        Raises `DatasetError` if that cannot be read.
        """
        path = self.folder / REGISTRATION
        try:
            return str(orjson.loads(path.read_bytes())["schema"])
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(
                f"{path} cannot be read ({error}); register the dataset again with "
                "`segexport datasets register`"
            ) from error

    def register(self, schema: str) -> None:
        """Say which schema its batches have to have. Raises `DatasetError`."""
        make_folder(self.folder)
        path = self.folder / REGISTRATION
        written = path.with_suffix(".next")
        with explaining(path):
            written.write_bytes(orjson.dumps({"schema": schema}) + b"\n")
            force_to_disk(written)
            written.rename(path)
        force_to_disk(self.folder)

    def delete(self) -> None:
        """Delete all batches and what was registered.

        Raises `DatasetError`, also while a job writes to it; batches that were deleted by
        then stay so.
        """
        busy = sorted(path.name for path in (self.folder / STAGING).glob("*"))
        if busy:
            raise DatasetError(
                f"job {', '.join(busy)} writes to {self.folder}; cancel it or wait for its end, "
                "then delete the dataset"
            )
        for batch in self.batches():
            batch.delete()
        remove(self.folder)

    def staging(self, job_id: int) -> Path:
        """Where the export of this job writes until it is published."""
        return self.folder / STAGING / str(job_id)


def schema_problems(request: ExportRequest, dataset: Dataset) -> Sequence[Problem]:
    """What is wrong with the schema of a request, if the dataset has one registered."""
    registered = dataset.registered_schema
    if registered in {None, request.schema_.name}:
        return ()
    what = f"dataset {request.destination.dataset_id!r} is registered with schema {registered!r}"
    return (Problem("schema.name", f"{what}, not {request.schema_.name!r}; name that one"),)


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

    def named(self, scope: Scope) -> Sequence[str]:
        """The ids of a sandbox's datasets."""
        folder = self.root / scope.organization / scope.sandbox
        if not folder.is_dir():
            return ()
        return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))

    def every(self) -> Iterator[Dataset]:
        """The datasets of all sandboxes."""
        for folder in sorted(self.root.glob("*/*/*")):
            if folder.is_dir():
                yield Dataset(folder)

    def staged(self) -> Iterator[tuple[Scope, int, Path]]:
        """Everything in staging: whose job, its id, its folder."""
        for folder in self.root.glob(f"*/*/*/{STAGING}/*"):
            if folder.name.isdecimal():
                organization, sandbox = folder.parts[-5:-3]
                yield Scope(organization, sandbox), int(folder.name), folder
