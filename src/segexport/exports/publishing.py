"""Publication: staged files become a batch and a discard file, all at once or not yet.

First everything is prepared in staging, while the export may still fail: the manifest, and
the one discard file of the job. Then the job's row fixes the outcome (COMPLETING). From
there `publish` only moves: every step finds out whether it has been done before, so that
it may be interrupted anywhere and repeated by anyone who holds the job, or believes to.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from segexport.errors import DatasetError
from segexport.exports.dataset import (
    MANIFEST,
    STAGING,
    Dataset,
    Manifest,
    ManifestColumn,
    ManifestCounts,
    ManifestFile,
)
from segexport.exports.engine import Column
from segexport.exports.staging import discard, explaining, force_to_disk, make_folder, remove
from segexport.jobs.job import Job
from segexport.jobs.publication import DiscardFile, Publication, PublishedBatch
from segexport.store.discards import fingerprint


@dataclass(frozen=True, slots=True)
class DiscardFolder:
    """The discard files of finished jobs; `.staging` in it holds those of running ones."""

    folder: Path

    def file(self, job_id: int) -> Path:
        """Where a job's discard file is in the end."""
        return self.folder / f"{job_id}.parquet"

    def staged(self, job_id: int, batch_id: str) -> Path:
        """Where it waits for publication, in the same file system."""
        return self.folder / STAGING / f"{job_id}.{batch_id}.parquet"

    def open(self) -> None:
        """Make the folders. Raises `DatasetError`."""
        make_folder(self.folder / STAGING)

    def sweep(self, job_id: int) -> None:
        """Delete what a job has left in staging."""
        discard(*(self.folder / STAGING).glob(f"{job_id}.*.parquet"))


def fixed(
    staged: Path, *, rows: int, final: Path, go_on: Callable[[], None] = lambda: None
) -> DiscardFile:
    """Force a complete discard file to disk and take its fingerprint; `final` is its home.

    `go_on` as for a `fingerprint`.
    """
    force_to_disk(staged)
    force_to_disk(staged.parent)
    with explaining(staged):
        sha256 = fingerprint(staged, go_on)
    return DiscardFile(path=str(final.absolute()), sha256=sha256, rows=rows)


def manifest_of(
    job: Job, batch: PublishedBatch, columns: Sequence[Column], now: datetime
) -> Manifest:
    """The manifest of a batch that the job is about to publish."""
    request = job.request
    counts = batch.counts
    return Manifest(
        job=job.id,
        organization=job.scope.organization,
        sandbox=job.scope.sandbox,
        dataset=request.destination.dataset_id,
        batch=batch.id,
        snapshot=job.snapshot or "",
        segments=tuple(request.document()["filter"]["segments"]),
        segment=None
        if batch.segment is None
        else request.document()["filter"]["segments"][batch.segment],
        fields=request.fields,
        schema_name=request.schema_.name,
        file_format=request.destination.format,
        columns=tuple(ManifestColumn(name=c.name, type=c.type) for c in columns),
        files=tuple(
            ManifestFile(name=f.name, rows=f.rows, size=f.size, sha256=f.sha256)
            for f in batch.files
        ),
        counts=ManifestCounts(
            total=counts.total,
            realized=counts.realized,
            failed=counts.failed,
            namespaces=dict(batch.namespaces),
        ),
        created=now,
    )


def stage_manifest(staging: Path, manifest: Manifest) -> None:
    """Write a batch's manifest beside its files, ready to be moved. Raises `DatasetError`."""
    path = _staged_manifest(staging, manifest.batch)
    with explaining(path):
        path.write_bytes(manifest.to_json())
    force_to_disk(path)
    force_to_disk(staging)


def publish(
    job_id: int, publication: Publication, dataset: Dataset, discards: DiscardFolder
) -> None:
    """Make exactly what the job's row says visible. Idempotent.

    Raises `DatasetError`; what was done by then stays done, and a repetition goes on there.
    """
    if publication.discards is not None:
        staged = discards.staged(job_id, publication.batches[0].id)
        _move(staged, Path(publication.discards.path))
        force_to_disk(discards.folder)
    staging = dataset.staging(job_id)
    for batch in publication.batches:
        _publish(batch, staging, dataset)
    discards.sweep(job_id)
    remove(staging)


def _publish(batch: PublishedBatch, staging: Path, dataset: Dataset) -> None:
    folder = dataset.folder / batch.id
    if not folder.exists():
        try:
            _gather(staging, batch)
            _move(staging / batch.id, folder)
        except DatasetError:
            # Another worker that believes to hold the job may have been faster by a step.
            if not folder.exists():
                raise
        force_to_disk(dataset.folder)


def _gather(staging: Path, batch: PublishedBatch) -> None:
    """Bring the batch's files and its manifest together in one folder."""
    gathered = staging / batch.id
    with explaining(gathered):
        gathered.mkdir(exist_ok=True)
    for file in batch.files:
        _move(staging / file.name, gathered / file.name)
    _move(_staged_manifest(staging, batch.id), gathered / MANIFEST)
    force_to_disk(gathered)


def _move(source: Path, target: Path) -> None:
    """Rename, unless that has been done already."""
    with explaining(source):
        try:
            source.rename(target)
        except FileNotFoundError:
            if not target.exists():
                raise DatasetError(
                    f"{source} is needed for a publication and gone, and {target} is not there; "
                    "bring it back, the publication then goes on by itself"
                ) from None


def _staged_manifest(staging: Path, batch_id: str) -> Path:
    return staging / f"manifest-{batch_id}.json"
