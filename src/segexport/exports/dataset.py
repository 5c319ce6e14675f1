"""Datasets: folders of batches, each visible through its manifest.

Folders may be those of a file system or of an object store, see `location`.

    <datasets>/<organization>/<sandbox>/<dataset id>/
      dataset.json                        what was registered of it; need not be there
      <batch id>/manifest.json            the batch is what its manifest names, nothing else
      <batch id>/part-00003-b000-e2.parquet   piece 3, batch 0 of the job, written under epoch 2
                                              of the job's lease
      .staging/<job id>/                  of exports that run; not for readers

A batch appears whole: by the renaming of its folder, or on an object store by the creation
of its manifest. It never changes afterwards, but for the erasure of a person, which makes
the next revision of its manifest.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal, Self

import duckdb
import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from segexport.database import open_database
from segexport.errors import DatasetError, Problem
from segexport.exports.layout import MANIFEST, REGISTRATION, STAGING
from segexport.exports.location import Location, locate
from segexport.jobs.job import Scope
from segexport.jobs.request import ExportRequest, FileFormat
from segexport.jobs.values import MAX_NAME, unfit
from segexport.modes import AS_USUAL, Modes
from segexport.settings import Settings
from segexport.sql import lines, ndjson, parquet
from segexport.store.discards import fingerprint
from segexport.validation import all_words, repeated_name

_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@=-]*")
"""No step that leads elsewhere, nothing hidden, and no pattern that would stand for other files."""


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

    folder: Location
    manifest: Manifest

    @property
    def paths(self) -> Sequence[str]:
        """Its data files, in the order of their pieces: paths, or URLs on an object store."""
        return tuple(str(self.folder / file.name) for file in self.manifest.files)

    @property
    def relation(self) -> str:
        """What stands behind FROM in a query of DuckDB, see `attach`."""
        if self.manifest.file_format is FileFormat.PARQUET:
            return parquet(self.paths)
        columns = {column.name: column.type for column in self.manifest.columns}
        return ndjson(self.paths, columns)

    def attach(self, database: duckdb.DuckDBPyConnection) -> None:
        """Let this database read `relation`. Without an object store there is nothing to do."""
        self.folder.attach(database)

    @property
    def size(self) -> int:
        """Bytes of its data files."""
        return sum(file.size for file in self.manifest.files)

    def faults(self) -> Iterator[str]:
        """Everything in which the files differ from the manifest, and it from itself.

        Reads every file twice: once for its checksum, once for its rows; from an object
        store it is brought for that, one at a time. Raises `DatasetError`.
        """
        sizes = self.folder.sizes()
        with open_database() as database, TemporaryDirectory() as scratch:
            for file in self.manifest.files:
                where = self.folder / file.name
                found = sizes.get(file.name)
                if found is None:
                    yield f"{where} is missing"
                elif found != file.size:
                    yield f"{where} has {found} bytes; its manifest says {file.size}"
                else:
                    fault = _fault(database, file, where.get(Path(scratch)))
                    where.forget(Path(scratch))
                    if fault:
                        yield f"{where} {fault}"
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
        if Dataset(self.folder.parent).staging(self.manifest.job).exists():
            raise DatasetError(
                f"job {self.manifest.job} is still publishing batch {self.manifest.batch}; wait "
                "for its end, then delete the batch"
            )
        self.folder.sizes()  # it is refused before anything of it is gone
        (self.folder / MANIFEST).unlink()
        self.folder.remove()


def _fault(database: duckdb.DuckDBPyConnection, file: ManifestFile, path: Path) -> str | None:
    """What is wrong with a file that is as long as it should be."""
    if file.sha256 and fingerprint(path) != file.sha256:
        return "has changed: its SHA-256 is not the one in its manifest"
    relation = parquet([path]) if path.suffix == ".parquet" else lines([path])
    try:
        ((rows,),) = database.execute(f"SELECT count(*) FROM {relation}").fetchall()
    except duckdb.Error as error:
        return f"is damaged ({str(error).splitlines()[0]})"
    return None if rows == file.rows else f"has {rows} rows; its manifest says {file.rows}"


@dataclass(frozen=True, slots=True)
class Dataset:
    """One dataset of one sandbox; its folder need not exist yet.

    All that it does raises `DatasetError` where something cannot be read or written.
    """

    folder: Location

    def batch(self, batch_id: str) -> Batch:
        """A batch. Raises `DatasetError` if it is not there, or its manifest not readable."""
        batch = self._batch(batch_id)
        if batch is None:
            raise DatasetError(
                f"{self.folder} has no batch {batch_id!r}; `segexport datasets show` shows those "
                "there are"
            )
        return batch

    def batches(self) -> Sequence[Batch]:
        """The visible batches, oldest first."""
        names = (name for name in self.folder.folders() if not name.startswith("."))
        found = (batch for batch in map(self._batch, names) if batch is not None)
        return sorted(found, key=lambda b: (b.manifest.created, b.folder.name))

    def _batch(self, batch_id: str) -> Batch | None:
        folder = self.folder / batch_id
        content = (folder / MANIFEST).read()
        if content is None:
            return None
        try:
            manifest = Manifest.model_validate_json(content)
        except ValidationError as error:
            raise DatasetError(
                f"{folder / MANIFEST} is not a manifest that this version reads "
                f"({all_words(error)}); restore it from a copy, or delete the batch's folder "
                "yourself"
            ) from error
        for file in manifest.files:
            if not _FILE_NAME.fullmatch(file.name) or file.name == MANIFEST:
                raise DatasetError(
                    f"{folder / MANIFEST} names {file.name!r}, which is no file of its batch: "
                    "nothing was read or deleted; restore it from a copy, or delete the batch's "
                    "folder yourself"
                )
        return Batch(folder, manifest)

    @property
    def registered_schema(self) -> str | None:
        """The name of the schema that was registered for the dataset, if one was."""
        file = self.folder / REGISTRATION
        content = file.read()
        if content is None:
            return None
        try:
            if repeated_name(content) is not None:
                raise ValueError("a name is there twice")  # noqa: TRY301
            return str(orjson.loads(content)["schema"])
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(
                f"{file} cannot be read ({error}); register the dataset again with "
                "`segexport datasets register`"
            ) from error

    def register(self, schema: str) -> None:
        """Say which schema its batches have to have.

        Raises `DatasetError` for a name that no request can have.
        """
        if not 0 < len(schema) <= MAX_NAME:
            raise DatasetError(f"the name of a schema has 1 to {MAX_NAME} characters")
        if hidden := unfit(schema):
            raise DatasetError(f"no schema can be called {schema[:MAX_NAME]!a}: {hidden}")
        (self.folder / REGISTRATION).replace(orjson.dumps({"schema": schema}) + b"\n")

    def delete(self) -> None:
        """Delete all batches and what was registered.

        Raises `DatasetError`, also while a job writes to it; batches that were deleted by
        then stay so.
        """
        busy = (self.folder / STAGING).folders()
        if busy:
            raise DatasetError(
                f"job {', '.join(busy)} writes to {self.folder}; cancel it or wait for its end, "
                "then delete the dataset"
            )
        for batch in self.batches():
            batch.delete()
        self.folder.remove()

    def staging(self, job_id: int) -> Location:
        """Where the export of this job writes until it is published."""
        return self.folder / STAGING / str(job_id)


def schema_problems(request: ExportRequest, dataset: Dataset) -> Sequence[Problem]:
    """What is wrong with the schema of a request, if the dataset has one registered."""
    registered = dataset.registered_schema
    if registered in {None, request.schema_.name}:
        return ()
    what = f"dataset {request.destination.dataset_id!r} is registered with schema {registered!r}"
    return (Problem("schema.name", f"{what}, not {request.schema_.name!r}; name that one"),)


class Datasets:
    """All datasets below a root: a folder, or `s3://bucket/prefix`.

    `options` say how an object store is reached, in the words of s3fs: `endpoint_url`,
    `key`, `secret` and so on; what is not said is taken from the usual places of AWS. `modes`
    are those of files in a folder.
    """

    def __init__(self, root: str | Path, *, modes: Modes = AS_USUAL, **options: Any) -> None:
        self.root: Location = locate(root, options, modes)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those that the settings name."""
        modes = settings.exports.modes
        return cls(settings.datasets_root, modes=modes, **settings.s3.as_options())

    def dataset(self, scope: Scope, dataset_id: str) -> Dataset:
        """A dataset of a sandbox. Raises `DatasetError` for a name that is no folder's name."""
        folder = self.root
        for step in (scope.organization, scope.sandbox, dataset_id):
            if not step or step.startswith(".") or "/" in step or "\0" in step:
                raise DatasetError(f"{step!r} cannot name a folder of a dataset")
            folder /= step
        return Dataset(folder)

    def named(self, scope: Scope) -> Sequence[str]:
        """The ids of a sandbox's datasets."""
        return (self.root / scope.organization / scope.sandbox).folders()

    def every(self) -> Iterator[tuple[Scope, Dataset]]:
        """The datasets of all sandboxes."""
        for organization in self.root.folders():
            for sandbox in (self.root / organization).folders():
                scope = Scope(organization, sandbox)
                for name in self.named(scope):
                    yield scope, Dataset(self.root / organization / sandbox / name)

    def staged(self) -> Iterator[tuple[Scope, int, Location]]:
        """Everything in staging: whose job, its id, its folder."""
        for scope, dataset in self.every():
            for name in (dataset.folder / STAGING).folders():
                if name.isdecimal():
                    yield scope, int(name), dataset.staging(int(name))
