"""Publication: all at once or not yet, whatever interrupts it, whoever repeats it."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from segexport.errors import DatasetError
from segexport.exports import on_disk, publishing
from segexport.exports import staging as stagings
from segexport.exports.dataset import Dataset, Datasets
from segexport.exports.engine import Column
from segexport.exports.location import Location
from segexport.exports.object_store import ObjectStore
from segexport.exports.on_disk import OnDisk
from segexport.exports.outlets import endpoint_file
from segexport.exports.publishing import DiscardFolder, fixed, manifest_of, publish, stage_manifest
from segexport.exports.staging import Staging
from segexport.jobs.job import Job
from segexport.jobs.publication import Counts, DataFile, Publication, PublishedBatch
from segexport.store.discards import fingerprint
from support.job_stories import NOON, SCOPE, new_job
from support.s3 import Bucket, Root

BATCH = "0123456789abcdef"


@dataclass(frozen=True)
class Prepared:
    """A job just before COMPLETING: everything is in staging."""

    job: Job
    staging: Staging
    discards: DiscardFolder
    publication: Publication
    outlet: Location

    @property
    def dataset(self) -> Dataset:
        return self.staging.dataset

    def publish(self) -> None:
        publish(self.publication, self.staging, self.discards, self.outlet)

    def require_published(self) -> None:
        (batch,) = self.dataset.batches()
        batch.verify()
        assert batch.manifest.batch == BATCH
        assert sorted(batch.folder.sizes()) == [
            "manifest.json",
            *(file.name for file in self.publication.batches[0].files),
        ]
        file = self.publication.discards
        assert file is not None
        assert Path(file.path).read_text() == "discards"
        endpoints = [endpoint_file(self.job.id, index) for index in (0, 1)]
        assert sorted(self.outlet.sizes()) == endpoints
        assert [(self.outlet / name).read() for name in endpoints] == [b"first", b"second"]
        assert not self.staging.folder.exists()
        assert not self.staging.folder.on_disk(self.staging.scratch).exists()
        assert not any((self.discards.folder / ".staging").iterdir())


@pytest.fixture
def prepared(tmp_path: Path, root: Root) -> Prepared:
    return prepare(tmp_path, root.datasets)


@pytest.fixture
def crossing(tmp_path: Path, root: Root, bucket: Bucket) -> Prepared:
    """Endpoints that leave a folder for a bucket, or a bucket for a folder."""
    outlet = (
        OnDisk(tmp_path / "out") if root.bucket else Datasets(bucket.root, **bucket.options).root
    )
    return prepare(tmp_path, root.datasets, outlet=outlet)


def prepare(
    folder: Path, datasets: Datasets, name: str = "audience", outlet: Location | None = None
) -> Prepared:
    job = replace(new_job()[0].after, snapshot="s1")
    dataset = datasets.dataset(SCOPE, name)
    discards = DiscardFolder(folder / "discards")
    staging = Staging(dataset, job.id, epoch=2, scratch=folder / "uploads")
    staging.open()
    discards.open()
    files = []
    with duckdb.connect() as database:
        for index in (0, 3):
            path = staging.data(index)
            database.execute(f"COPY (FROM range({index + 1}) AS t(n)) TO '{path}' (FORMAT parquet)")
            files.append(
                DataFile(
                    name=path.name,
                    rows=index + 1,
                    size=path.stat().st_size,
                    sha256=fingerprint(path),
                )
            )
    endpoints = []
    for index, content in ((0, b"first"), (3, b"second")):
        path = staging.endpoints(index)
        path.write_bytes(content)
        size, sha256 = len(content), fingerprint(path)
        endpoints.append(DataFile(name=path.name, rows=1, size=size, sha256=sha256))
    staging.keep([*files, *endpoints])
    lost = replace(staging, epoch=1).data(1).name
    (staging.folder / lost).replace(b"left by a worker that was lost")
    staged = discards.staged(job.id, BATCH)
    staged.write_text("discards")
    publication = Publication(
        batches=(
            PublishedBatch(
                id=BATCH,
                files=tuple(files),
                counts=Counts(total=7, realized=5, failed=2),
                namespaces={"Email": 4},
            ),
        ),
        discards=fixed(staged, rows=2, final=discards.file(job.id)),
        endpoints=tuple(endpoints),
    )
    manifest = manifest_of(job, publication.batches[0], [Column("n", "BIGINT")], NOON)
    stage_manifest(staging, manifest)
    outlet = outlet or datasets.root / "out" / name
    return Prepared(job, staging, discards, publication, outlet)


def test_exactly_the_files_of_the_publication_become_the_batch(prepared: Prepared) -> None:
    assert not prepared.dataset.batches()
    prepared.publish()
    prepared.require_published()


def test_publishing_again_changes_nothing(prepared: Prepared, root: Root) -> None:
    prepared.publish()
    before = root.moments
    prepared.publish()
    assert root.moments == before
    prepared.require_published()


def test_endpoints_cross_from_a_folder_to_a_bucket_and_back(crossing: Prepared) -> None:
    crossing.publish()
    crossing.publish()
    crossing.require_published()


def test_endpoints_that_were_fetched_do_not_come_again(prepared: Prepared) -> None:
    prepared.publish()
    prepared.outlet.remove()
    prepared.publish()
    assert not prepared.outlet.exists()


def test_half_of_a_file_that_a_killed_worker_has_left_in_a_folder_goes(tmp_path: Path) -> None:
    prepared = prepare(tmp_path, Datasets(tmp_path / "datasets"))
    folder = Path(str(prepared.outlet))
    folder.mkdir(parents=True)
    (folder / f".{endpoint_file(prepared.job.id, 1)}.4711").write_text("ha")
    prepared.publish()
    prepared.require_published()


def test_without_its_endpoints_nothing_of_a_job_is_visible(prepared: Prepared) -> None:
    file = prepared.staging.folder / prepared.publication.endpoints[1].name
    file.unlink()
    with pytest.raises(DatasetError, match=file.name):
        prepared.publish()
    assert not prepared.dataset.batches()
    file.replace(b"second")
    prepared.publish()
    prepared.require_published()


class Killed(BaseException):
    """Stands for the end of the process."""


class Countdown:
    """Ends the process when the nth step begins."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def before(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise Killed
            return step(*args, **kwargs)

        return counted


STEPS = range(1, 30)


def count(countdown: Countdown, patches: pytest.MonkeyPatch) -> None:
    """Every rename, deletion and forcing to disk is a step, and every request to a store."""
    for owner, names in (
        (publishing, ("force_to_disk", "move")),
        (on_disk, ("force_to_disk", "move", "remove", "discard", "_gather")),
        (stagings, ("remove",)),
        (ObjectStore, ("request",)),
    ):
        for name in names:
            patches.setattr(owner, name, countdown.before(getattr(owner, name)))


@pytest.mark.parametrize("step", STEPS)
def test_a_publication_that_is_killed_before_any_step_is_finished_by_the_next(
    step: int, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    countdown = Countdown(step)
    with monkeypatch.context() as patches:
        count(countdown, patches)
        try:
            prepared.publish()
            assert countdown.left > 0, "a step was skipped"
        except Killed:
            patches.undo()
            for batch in prepared.dataset.batches():
                batch.verify()
                assert len(batch.paths) == 2
    prepared.publish()
    prepared.require_published()


def test_the_steps_above_are_all_there_are(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    countdown = Countdown(1000)
    count(countdown, monkeypatch)
    prepared.publish()
    assert 1000 - countdown.left < max(STEPS)


def test_two_who_both_believe_to_hold_the_job_publish_it_once(tmp_path: Path, root: Root) -> None:
    for round_ in range(20 if root.bucket else 40):
        prepared = prepare(tmp_path / str(round_), root.datasets, f"round {round_}")
        errors: list[BaseException] = []
        start = threading.Barrier(2)

        def work(
            prepared: Prepared = prepared,
            start: threading.Barrier = start,
            errors: list[BaseException] = errors,
        ) -> None:
            start.wait()
            try:
                prepared.publish()
            except BaseException as error:  # noqa: BLE001  (whatever it is, it is one too many)
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        prepared.require_published()


def test_a_file_that_has_vanished_is_named_and_can_be_brought_back(prepared: Prepared) -> None:
    file = prepared.staging.folder / prepared.publication.batches[0].files[1].name
    content = file.read()
    assert content
    file.unlink()
    with pytest.raises(DatasetError, match=r"part-00003-b000-e2\.parquet.*bring (it|them) back"):
        prepared.publish()
    assert not prepared.dataset.batches()
    file.replace(content)
    prepared.publish()
    prepared.require_published()


def test_batches_are_listed_in_the_order_of_their_making(tmp_path: Path, root: Root) -> None:
    first, second = (prepare(tmp_path, root.datasets) for _ in range(2))
    for prepared, batch, hours in ((second, "b" * 16, 1), (first, "c" * 16, 0)):
        (published,) = prepared.publication.batches
        published = replace(published, id=batch)
        publication = Publication(batches=(published,))
        manifest = manifest_of(prepared.job, published, [], NOON + timedelta(hours=hours))
        stage_manifest(prepared.staging, manifest)
        publish(publication, prepared.staging, prepared.discards)
    listed = [batch.manifest.job for batch in first.dataset.batches()]
    assert listed == [first.job.id, second.job.id]


def test_what_has_no_manifest_is_no_batch(prepared: Prepared) -> None:
    prepared.publish()
    (prepared.dataset.folder / "stray").open("begun")
    (prepared.dataset.folder / "copied" / "part-00000-b000-e1.parquet").replace(b"without manifest")
    (prepared.dataset.folder / ".staging" / "1").open("begun")
    (prepared.dataset.folder / ".staging" / "manifest.json").replace(b"{}")
    prepared.require_published()


def test_a_batch_that_has_changed_is_found_out(prepared: Prepared) -> None:
    prepared.publish()
    (batch,) = prepared.dataset.batches()
    counts = batch.manifest.counts.model_copy(update={"realized": 6})
    miscounted = replace(batch, manifest=batch.manifest.model_copy(update={"counts": counts}))
    with pytest.raises(DatasetError, match="do not add up"):
        miscounted.verify()
    first, second = batch.manifest.files
    wrong = (first, second.model_copy(update={"rows": 9}))
    with pytest.raises(DatasetError, match="has 4 rows; its manifest says 9"):
        replace(batch, manifest=batch.manifest.model_copy(update={"files": wrong})).verify()
    (batch.folder / second.name).replace(bytes(second.size))
    with pytest.raises(DatasetError, match=r"part-00003-b000-e2\.parquet has changed"):
        batch.verify()
    (batch.folder / first.name).unlink()
    with pytest.raises(DatasetError, match=r"part-00000-b000-e2\.parquet is missing"):
        batch.verify()


@pytest.mark.parametrize("manifest", [b"", b"{}", b'{"format": 2}'])
def test_a_manifest_that_cannot_be_read_is_named(prepared: Prepared, manifest: bytes) -> None:
    prepared.publish()
    (prepared.dataset.folder / BATCH / "manifest.json").replace(manifest)
    with pytest.raises(DatasetError, match=r"manifest\.json"):
        prepared.dataset.batches()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".staging", "x\0"])
def test_a_dataset_cannot_be_named_out_of_its_place(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="cannot name a folder"):
        Datasets(tmp_path).dataset(SCOPE, name)
