"""Publication: staged files become a batch and a discard file, all at once or not yet.

First everything is prepared in staging, while the export may still fail: the manifest, and
the one discard file of the job. Then the job's row fixes the outcome (COMPLETING). From
there `publish` only goes forward: every step finds out whether it has been done before, so
that it may be interrupted anywhere and repeated by anyone who holds the job, or believes to.
How a batch appears is a matter of where datasets lie, see `Location.publish`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from segexport.errors import DatasetError
from segexport.exports.dataset import (
    Manifest,
    ManifestColumn,
    ManifestCounts,
    ManifestFile,
)
from segexport.exports.disk import discard, explaining, force_to_disk, make_folder, move
from segexport.exports.engine import Column
from segexport.exports.layout import MANIFEST, STAGING
from segexport.exports.location import Location
from segexport.exports.outlets import endpoint_file
from segexport.exports.staging import Staging
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


def stage_manifest(staging: Staging, manifest: Manifest) -> None:
    """Write a batch's manifest beside its files, ready to be published. Raises `DatasetError`."""
    (staging.folder / _staged_manifest(manifest.batch)).replace(manifest.to_json())


def publish(
    publication: Publication,
    staging: Staging,
    discards: DiscardFolder,
    outlet: Location | None = None,
) -> None:
    """Make exactly what the job's row says visible. Idempotent.

    `outlet` is where endpoint definitions go, if there are some. Raises `DatasetError`; what
    was done by then stays done, and a repetition goes on there.
    """
    if outlet is not None:
        _deliver(publication, staging, outlet)
    if publication.discards is not None:
        staged = discards.staged(staging.job_id, publication.batches[0].id)
        move(staged, Path(publication.discards.path))
        force_to_disk(discards.folder)
    for batch in publication.batches:
        names = [file.name for file in batch.files]
        folder = staging.dataset.folder / batch.id
        folder.publish(staging.folder, names, _staged_manifest(batch.id))
    discards.sweep(staging.job_id)
    staging.remove()


def _deliver(publication: Publication, staging: Staging, outlet: Location) -> None:
    """Bring the endpoint definitions out, before the batch is there.

    Once it is, they have been, and whoever fetches them may have moved them away since.
    """
    batch = staging.dataset.folder / publication.batches[0].id / MANIFEST
    if batch.exists():
        return
    for index, file in enumerate(publication.endpoints):
        name = endpoint_file(staging.job_id, index)
        try:
            outlet.receive(staging.folder / file.name, name, staging.scratch)
        except DatasetError:
            # Another worker that believes to hold the job may have been faster.
            if not batch.exists():
                raise
            return


def _staged_manifest(batch_id: str) -> str:
    return f"manifest-{batch_id}.json"
