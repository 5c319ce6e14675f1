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
from segexport.exports import publishing
from segexport.exports.dataset import Dataset, Datasets
from segexport.exports.engine import Column
from segexport.exports.publishing import DiscardFolder, fixed, manifest_of, publish, stage_manifest
from segexport.exports.staging import Staging
from segexport.jobs.job import Job
from segexport.jobs.publication import Counts, DataFile, Publication, PublishedBatch
from segexport.store.discards import fingerprint
from support.job_stories import NOON, SCOPE, new_job

BATCH = "0123456789abcdef"


@dataclass(frozen=True)
class Prepared:
    """A job just before COMPLETING: everything is in staging."""

    job: Job
    dataset: Dataset
    discards: DiscardFolder
    publication: Publication

    @property
    def staging(self) -> Path:
        return self.dataset.staging(self.job.id)

    def publish(self) -> None:
        publish(self.job.id, self.publication, self.dataset, self.discards)

    def require_published(self) -> None:
        (batch,) = self.dataset.batches()
        batch.verify()
        assert batch.manifest.batch == BATCH
        assert sorted(path.name for path in batch.folder.iterdir()) == [
            "manifest.json",
            *(file.name for file in self.publication.batches[0].files),
        ]
        file = self.publication.discards
        assert file is not None
        assert Path(file.path).read_text() == "discards"
        assert not self.staging.exists()
        assert not any((self.discards.folder / ".staging").iterdir())


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    return prepare(tmp_path)


def prepare(folder: Path) -> Prepared:
    job = replace(new_job()[0].after, snapshot="s1")
    dataset = Datasets(folder / "datasets").dataset(SCOPE, "audience")
    discards = DiscardFolder(folder / "discards")
    staging = Staging(dataset.staging(job.id), epoch=2)
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
    Staging(staging.folder, epoch=1).data(1).write_text("left by a worker that was lost")
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
    )
    manifest = manifest_of(job, publication.batches[0], [Column("n", "BIGINT")], NOON)
    stage_manifest(staging.folder, manifest)
    return Prepared(job, dataset, discards, publication)


def test_exactly_the_files_of_the_publication_become_the_batch(prepared: Prepared) -> None:
    assert not prepared.dataset.batches()
    prepared.publish()
    prepared.require_published()


def test_publishing_again_changes_nothing(prepared: Prepared) -> None:
    prepared.publish()
    before = sorted((path, path.stat().st_mtime_ns) for path in prepared.dataset.folder.rglob("*"))
    prepared.publish()
    after = sorted((path, path.stat().st_mtime_ns) for path in prepared.dataset.folder.rglob("*"))
    assert after == before
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


STEPS = range(1, 20)


@pytest.mark.parametrize("step", STEPS)
def test_a_publication_that_is_killed_before_any_step_is_finished_by_the_next(
    step: int, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    countdown = Countdown(step)
    with monkeypatch.context() as patches:
        for name in ("force_to_disk", "remove", "_move", "_gather"):
            patches.setattr(publishing, name, countdown.before(getattr(publishing, name)))
        try:
            prepared.publish()
            assert countdown.left > 0, "a step was skipped"
        except Killed:
            for batch in prepared.dataset.batches():
                batch.verify()
                assert len(batch.paths) == 2
    prepared.publish()
    prepared.require_published()


def test_the_steps_above_are_all_there_are(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    countdown = Countdown(1000)
    for name in ("force_to_disk", "remove", "_move", "_gather"):
        monkeypatch.setattr(publishing, name, countdown.before(getattr(publishing, name)))
    prepared.publish()
    assert 1000 - countdown.left < max(STEPS)


def test_two_who_both_believe_to_hold_the_job_publish_it_once(tmp_path: Path) -> None:
    for round_ in range(40):
        prepared = prepare(tmp_path / str(round_))
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
    file = prepared.staging / prepared.publication.batches[0].files[1].name
    away = file.rename(prepared.dataset.folder / ".away")
    with pytest.raises(DatasetError, match=r"part-00003-b000-e2\.parquet.*bring it back"):
        prepared.publish()
    assert not prepared.dataset.batches()
    away.rename(file)
    prepared.publish()
    prepared.require_published()


def test_batches_are_listed_in_the_order_of_their_making(tmp_path: Path) -> None:
    first, second = prepare(tmp_path), prepare(tmp_path)
    for prepared, batch, hours in ((second, "b" * 16, 1), (first, "c" * 16, 0)):
        (published,) = prepared.publication.batches
        published = replace(published, id=batch)
        publication = Publication(batches=(published,))
        manifest = manifest_of(prepared.job, published, [], NOON + timedelta(hours=hours))
        stage_manifest(prepared.staging, manifest)
        publish(prepared.job.id, publication, prepared.dataset, prepared.discards)
    listed = [batch.manifest.job for batch in first.dataset.batches()]
    assert listed == [first.job.id, second.job.id]


def test_what_has_no_manifest_is_no_batch(prepared: Prepared) -> None:
    prepared.publish()
    (prepared.dataset.folder / "stray").mkdir()
    (prepared.dataset.folder / ".staging" / "1").mkdir()
    (prepared.dataset.folder / ".staging" / "manifest.json").write_text("{}")
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
    batch.paths[1].write_bytes(bytes(second.size))
    with pytest.raises(DatasetError, match=r"part-00003-b000-e2\.parquet has changed"):
        batch.verify()
    batch.paths[0].unlink()
    with pytest.raises(DatasetError, match=r"part-00000-b000-e2\.parquet is missing"):
        batch.verify()


@pytest.mark.parametrize("manifest", [b"", b"{}", b'{"format": 2}'])
def test_a_manifest_that_cannot_be_read_is_named(prepared: Prepared, manifest: bytes) -> None:
    prepared.publish()
    (prepared.dataset.folder / BATCH / "manifest.json").write_bytes(manifest)
    with pytest.raises(DatasetError, match=r"manifest\.json"):
        prepared.dataset.batches()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".staging", "x\0"])
def test_a_dataset_cannot_be_named_out_of_its_place(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="cannot name a folder"):
        Datasets(tmp_path).dataset(SCOPE, name)
