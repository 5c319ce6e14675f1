"""Exports to S3: the same as to a folder, and what can go wrong on the way there."""

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import duckdb
import pytest
from s3fs import S3FileSystem
from structlog.testing import capture_logs

from segexport.errors import DatasetError, DatasetFull, DatasetUnreachable, SettingsError
from segexport.exports.dataset import Batch, Datasets
from segexport.exports.instances import Instances
from segexport.exports.publishing import DiscardFolder
from segexport.exports.workbench import Workbench
from segexport.jobs.job import FaultKind, Job
from segexport.jobs.lifecycle import JobState
from segexport.jobs.publication import Counts
from segexport.jobs.reading import parse_request
from segexport.profiles.builder import Resources
from support.interfaces import serving
from support.people import write_snapshot
from support.plain_export import plain_export
from support.s3 import SECRET, Bucket
from support.stuck import Gate, Through, gated, is_reached
from support.waiting import until
from support.workplace import DATASET, GOLD, JOURNEY, PEOPLE, SCOPE, Workplace, request_for

ONE_BY_ONE = {"pieces_in_flight": 1}


async def place_on(bucket: Bucket, folder: Path, **exports: Any) -> Workplace:
    place = await Workplace.open(folder, bucket.settings, **exports)
    write_snapshot(place.settings.profiles_folder, PEOPLE, buckets=4)
    return place


@pytest.fixture
async def place(bucket: Bucket, tmp_path: Path) -> AsyncIterator[Workplace]:
    place = await place_on(bucket, tmp_path, **ONE_BY_ONE)
    yield place
    await place.store.close()


@pytest.fixture
async def mortal_place(mortal_bucket: Bucket, tmp_path: Path) -> AsyncIterator[Workplace]:
    place = await place_on(mortal_bucket, tmp_path, **ONE_BY_ONE)
    yield place
    await place.store.close()


def elsewhere(place: Workplace) -> Callable[[Workbench], Workbench]:
    """The change to a workbench on another machine, which has nothing of this one's disk."""
    return lambda bench: replace(bench, scratch=place.folder / "elsewhere")


def rows(batch: Batch) -> list[Any]:
    with duckdb.connect() as database:
        batch.attach(database)
        query = f"SELECT * EXCLUDE (person_id), person_id::BIGINT FROM {batch.relation}"
        return sorted(database.execute(query).fetchall(), key=lambda row: int(row[-1]))


async def assert_published_once(place: Workplace, bucket: Bucket, job: Job) -> None:
    """The job's 20 members are in one batch, and nothing else is in the bucket."""
    job = await place.job(job)
    assert job.state is JobState.COMPLETED
    assert job.counts == Counts(total=20, realized=20, failed=0)
    (batch,) = place.dataset.batches()
    batch.verify()
    assert [row[-1] for row in rows(batch)] == list(range(1, 41, 2))
    below = f"acme/prod/{DATASET}/{batch.manifest.batch}"
    files = [file.name for file in batch.manifest.files]
    assert bucket.keys == sorted(f"{below}/{name}" for name in ["manifest.json", *files])
    assert not place.left_behind()


@pytest.mark.parametrize("form", ["parquet", "ndjson.gz"])
async def test_an_export_to_s3_has_the_rows_of_an_export_to_a_folder(
    place: Workplace, tmp_path: Path, form: str
) -> None:
    request = parse_request(
        {
            "destination": {"datasetId": DATASET, "segmentPerBatch": True, "format": form},
            "filter": {"segments": [{"segmentId": "gold"}]},
            "journey": JOURNEY,
        }
    )
    (tmp_path / "local").mkdir()
    local = await Workplace.open(tmp_path / "local")
    write_snapshot(local.settings.profiles_folder, PEOPLE, buckets=4)
    batches, counts = [], []
    for each in (place, local):
        async with each.working():
            job = await each.ended(await each.submit(request))
        (batch,) = each.dataset.batches()
        batch.verify()
        batches.append(batch)
        counts.append(job.counts)
        assert not each.left_behind()
    there, here = batches
    assert rows(there) == rows(here)
    assert counts[0] == counts[1] == Counts(total=20, realized=9, failed=11)
    assert [file.rows for file in there.manifest.files] == [
        file.rows for file in here.manifest.files
    ]
    assert there.paths[0].startswith("s3://")
    await local.store.close()


async def test_a_prefix_of_any_name_is_that_prefix(bucket: Bucket, tmp_path: Path) -> None:
    prefix = "a*[1]{b,c} 100%2F+&'é=5"
    settings = {**bucket.settings, "datasets": f"{bucket.root}/{prefix}"}
    place = await Workplace.open(tmp_path, settings)
    write_snapshot(place.settings.profiles_folder, PEOPLE)
    for form in ("parquet", "ndjson.gz"):
        document = {"destination": {"datasetId": DATASET, "format": form}}
        async with place.working():
            job = await place.ended(await place.submit(parse_request(document)))
        assert (job.state, job.fault) == (JobState.COMPLETED, None)
    for batch in place.dataset.batches():
        batch.verify()
        assert [row[-1] for row in rows(batch)] == list(range(1, 41))
    assert {key.partition("/")[0] for key in bucket.keys} == {prefix}
    await place.store.close()


async def test_what_is_written_is_in_the_bucket_and_not_on_the_disk_once_a_piece_is_done(
    place: Workplace, bucket: Bucket
) -> None:
    gate = Gate("run_piece", nth=3)
    async with place.working(place.new_worker(change=gated(gate))):
        job = await place.submit(request_for(GOLD))
        await is_reached(gate)
        staging = f"acme/prod/{DATASET}/.staging/{job.id}"
        parts = [f"{staging}/part-{index:05d}-b000-e1.parquet" for index in (0, 1)]
        assert bucket.keys == [*parts, f"{staging}/probe-e1"]
        here = place.settings.datasets_folder
        assert not [path for path in here.rglob("*") if path.is_file()]
        assert not place.dataset.batches()
        gate.opened.set()
        job = await place.ended(job)
    await assert_published_once(place, bucket, job)


async def test_a_worker_on_another_machine_keeps_the_pieces_that_are_finished(
    place: Workplace, bucket: Bucket
) -> None:
    gate = Gate("run_piece", nth=3)
    async with place.working(place.new_worker(change=gated(gate))):
        job = await place.submit(request_for(GOLD))
        await is_reached(gate)
    async with place.working(place.new_worker("two", elsewhere(place))):
        job = await place.ended(job)
    assert [piece.epoch for piece in await place.store.pieces(job.id)] == [1, 1, 2, 2]
    await assert_published_once(place, bucket, job)


async def test_a_piece_whose_object_has_vanished_is_run_again(
    place: Workplace, bucket: Bucket
) -> None:
    gate = Gate("run_piece", nth=4)
    async with place.working(place.new_worker(change=gated(gate))):
        job = await place.submit(request_for(GOLD))
        await is_reached(gate)
    (place.dataset.staging(job.id) / "part-00001-b000-e1.parquet").unlink()
    async with place.working(place.new_worker("two", elsewhere(place))):
        job = await place.ended(job)
    assert [piece.epoch for piece in await place.store.pieces(job.id)] == [1, 2, 1, 2]
    await assert_published_once(place, bucket, job)


async def test_all_attempts_judge_by_the_live_instances_of_the_first(place: Workplace) -> None:
    live = Instances(place.settings.journeys_folder, SCOPE)
    keys = place.folder / "keys.txt"
    keys.write_text("m1\n")
    live.add("v1", "Email", [keys], Resources(threads=1))
    gate = Gate("run_piece", nth=3)
    async with place.working(place.new_worker(change=gated(gate))):
        job = await place.submit(request_for(GOLD, journey=JOURNEY))
        await is_reached(gate)
    keys.write_text("".join(f"m{number}\n" for number in range(9)))
    live.add("v1", "Email", [keys], Resources(threads=1))
    async with place.working(place.new_worker("two", elsewhere(place))):
        job = await place.ended(job)
    expected = plain_export(request_for(GOLD, journey=JOURNEY), PEOPLE, live={"m1"})
    assert job.counts is not None
    assert job.counts.realized == len(expected.profiles) > 0
    assert place.left_behind()  # the copy of the table on the first machine
    async with place.working(place.new_worker("one")):

        async def is_swept() -> bool:
            return not place.left_behind()

        await until(is_swept, 20, "the first machine is swept as well")


# Of two who do the same, the first


def test_a_manifest_that_another_worker_has_made_meanwhile_stays(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Datasets(bucket.root, **bucket.options).root
    staging, batch = root / "staging", root / "batch"
    (staging / "part").replace(b"data")
    (staging / "staged.json").replace(b"the first revision")
    copy = S3FileSystem._copy

    async def copy_slowly(self: Any, *arguments: Any, **options: Any) -> None:
        await copy(self, *arguments, **options)
        await self._pipe_file(f"{batch}/manifest.json", b"the second revision")

    monkeypatch.setattr(S3FileSystem, "_copy", copy_slowly)
    batch.publish(staging, ["part"], "staged.json")
    assert (batch / "manifest.json").read() == b"the second revision"


def test_what_others_write_is_seen_at_once(bucket: Bucket) -> None:
    datasets = Datasets(bucket.root, **bucket.options)
    datasets.dataset(SCOPE, "one").register("s")
    assert list(datasets.named(SCOPE)) == ["one"]
    bucket.files.pipe_file(f"{bucket.root}/acme/prod/two/dataset.json", b"{}")
    assert list(datasets.named(SCOPE)) == ["one", "two"]


def test_a_shared_file_is_that_of_whoever_was_first(bucket: Bucket, tmp_path: Path) -> None:
    folder = Datasets(bucket.root, **bucket.options).root / "staging"
    for number, content in enumerate((b"first", b"second")):
        scratch = tmp_path / str(number)
        path = (folder / "shared").on_disk(scratch)
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        folder.put_first("shared", scratch)
        assert (folder / "shared").get(scratch).read_bytes() == b"first"


# Cancelling


async def hang(*_: Any, **__: Any) -> None:
    await asyncio.sleep(3600)


async def test_a_cancel_does_not_wait_for_an_upload_that_hangs(
    place: Workplace, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def upload(*_: Any, **__: Any) -> None:
        loop.call_soon_threadsafe(hanging.set)
        await hang()

    monkeypatch.setattr(S3FileSystem, "_put_file", upload)
    async with place.working():
        job = await place.submit(request_for(GOLD))
        await asyncio.wait_for(hanging.wait(), 20)
        asked = time.monotonic()
        await place.commands.cancel(SCOPE, job.id)
        await place.reached(job, JobState.CANCELLED)
        assert time.monotonic() - asked < 1
    assert not bucket.keys
    assert not place.left_behind()


@pytest.mark.parametrize("piece", [1, 2, 3, 4])
async def test_a_cancelled_job_leaves_nothing_in_the_bucket(
    place: Workplace, bucket: Bucket, piece: int
) -> None:
    gate = Gate("run_piece", nth=piece)
    async with place.working(place.new_worker(change=gated(gate))):
        job = await place.submit(request_for(GOLD, journey=JOURNEY))
        await is_reached(gate)
        asked = time.monotonic()
        await place.commands.cancel(SCOPE, job.id)
        job = await place.reached(job, JobState.CANCELLED)
        assert time.monotonic() - asked < 1
    assert not bucket.keys
    assert not place.left_behind()


def test_an_upload_that_is_broken_off_leaves_no_parts_behind(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Datasets(bucket.root, **bucket.options).root / "folder"
    monkeypatch.setattr("segexport.exports.in_bucket.PART", 5 << 20)
    plain = S3FileSystem._call_s3

    async def call(self: Any, method: str, *arguments: Any, **options: Any) -> Any:
        if method == "upload_part" and options["PartNumber"] == 3:
            # As when the thread lets go of the request: nothing of s3fs cleans up.
            raise asyncio.CancelledError
        return await plain(self, method, *arguments, **options)

    file = (folder / "large").on_disk(tmp_path)
    file.parent.mkdir(parents=True)
    file.write_bytes(bytes(11 << 20))
    with monkeypatch.context() as patches:
        patches.setattr(S3FileSystem, "_call_s3", call)
        with pytest.raises(BaseException):  # noqa: B017, PT011  (whatever cancelling makes of it)
            folder.put(["large"], tmp_path)
    assert len(bucket.unfinished_uploads) == 1
    folder.remove()
    assert not bucket.unfinished_uploads
    folder.put(["large"], tmp_path)
    assert folder.sizes() == {"large": 11 << 20}


# The object store is away


async def test_a_store_that_is_away_while_pieces_run_is_a_failure_that_passes(
    mortal_place: Workplace, mortal_bucket: Bucket
) -> None:
    place = mortal_place
    gate = Gate("run_piece", nth=2)
    with capture_logs() as logged:
        async with place.working(place.new_worker(change=gated(gate))):
            job = await place.submit(request_for(GOLD))
            await is_reached(gate)
            mortal_bucket.server.go_away()
            gate.opened.set()

            async def has_failed() -> bool:
                return bool(await place.store.failures([job.id]))

            await until(has_failed, 20, "a piece has failed")
            mortal_bucket.server.come_back()
            job = await place.ended(job)
    failure = (await place.store.failures([job.id]))[job.id][0]
    assert failure.piece == 1
    assert failure.message == "the place of the dataset does not answer, or takes nothing"
    told = next(line for line in logged if line["event"] == "a piece has failed")["error"]
    assert f"s3://{mortal_bucket.name}/exports/acme/prod/audience" in told
    assert "cannot be reached" in told
    assert "check that the object store runs" in told
    assert SECRET not in told
    assert job.attempts == 1
    await assert_published_once(place, mortal_bucket, job)


async def test_a_store_that_stays_away_fails_the_job_with_the_reason(
    mortal_place: Workplace, mortal_bucket: Bucket
) -> None:
    exports = mortal_place.settings.exports.model_copy(update={"piece_tries": 2})
    settings = mortal_place.settings.model_copy(update={"exports": exports})
    place = replace(mortal_place, settings=settings)
    gate = Gate("run_piece")
    async with place.working(place.new_worker(change=gated(gate))):
        job = await place.submit(request_for(GOLD))
        await is_reached(gate)
        mortal_bucket.server.go_away()
        gate.opened.set()
        job = await place.ended(job)
    assert job.fault is not None
    assert job.fault.kind is FaultKind.FAILED
    assert job.fault.detail is not None
    assert "piece 0 has failed 2 times" in job.fault.message
    assert "does not answer" in job.fault.message
    assert "piece 0 has failed 2 times" in job.fault.detail
    assert "cannot be reached" in job.fault.detail
    mortal_bucket.server.come_back()
    assert mortal_bucket.keys  # what could not be swept then
    async with place.working(place.new_worker("two")):

        async def is_swept() -> bool:
            return not mortal_bucket.keys

        await until(is_swept, 20, "the next worker sweeps")


async def test_a_cancel_does_not_wait_for_a_store_that_is_away(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segexport.exports.attempt.SWEEPING", 0.3)
    gate = Gate("run_piece", nth=2)
    async with place.working(place.new_worker(change=gated(gate))):
        job = await place.submit(request_for(GOLD))
        await is_reached(gate)
        for method in ("_find", "_bulk_delete"):
            monkeypatch.setattr(S3FileSystem, method, hang)
        asked = time.monotonic()
        await place.commands.cancel(SCOPE, job.id)
        await place.reached(job, JobState.CANCELLED)
        assert time.monotonic() - asked < 1.5


async def test_a_publication_goes_on_when_the_store_is_back(
    mortal_place: Workplace, mortal_bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    place = mortal_place
    gate = Gate("staged", nth=2)  # the first step of a publication

    def change(bench: Workbench) -> Workbench:
        through = cast("DiscardFolder", Through(bench.discards, gate.passing))
        return replace(bench, discards=through)

    async with place.working(place.new_worker(change=change)):
        job = await place.submit(request_for(GOLD, journey=JOURNEY))
        await is_reached(gate)
        mortal_bucket.server.go_away()
        gate.opened.set()
        said = ""

        async def is_told() -> bool:
            nonlocal said
            said += "".join(capsys.readouterr())
            return "the publication cannot go on" in said

        await until(is_told, 20, "the worker says that it cannot go on")
        assert (await place.job(job)).state is JobState.COMPLETING
        mortal_bucket.server.come_back()
        job = await place.ended(job)
    assert job.state is JobState.COMPLETED
    (batch,) = place.dataset.batches()
    batch.verify()
    assert not place.left_behind()


# What is said, and what is not


def test_a_bucket_that_is_not_there_is_named(bucket: Bucket) -> None:
    datasets = Datasets("s3://there-is-none/x", **bucket.options)
    dataset = datasets.dataset(SCOPE, DATASET)
    for look in (dataset.batches, lambda: dataset.register("a schema")):
        with pytest.raises(DatasetError, match="no bucket for s3://there-is-none/x/acme"):
            look()


def test_a_refusal_is_no_outage_and_says_what_to_look_at(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(S3FileSystem, "_cat_file", refuse)
    dataset = Datasets(bucket.root, **bucket.options).dataset(SCOPE, DATASET)
    with pytest.raises(DatasetError, match=r"refuses access.*Access Denied.*credentials") as told:
        dataset.batch("b")
    assert not isinstance(told.value, DatasetUnreachable)


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (PermissionError("Access Denied"), "dataset"),
        (RuntimeError("closed"), "dataset.unreachable"),
    ],
)
async def test_a_request_that_the_store_refuses_to_be_checked_is_asked_to_come_again(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, refusal: Exception, code: str
) -> None:
    async def refuse(*_: Any, **__: Any) -> None:
        raise refusal

    monkeypatch.setattr(S3FileSystem, "_cat_file", refuse)
    document = request_for(GOLD).document()
    with capture_logs() as logged:
        async with serving(place) as house, house.client() as client:
            answer = await client.post("/jobs", json=document)
    assert (answer.status_code, answer.json()["code"]) == (503, code), answer.text
    assert answer.headers["retry-after"]
    (line,) = [line for line in logged if line["event"] == "a request cannot be served"]
    assert str(refusal) in line["error"]


def test_a_disk_of_this_machine_that_is_full_is_not_blamed_on_the_store(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fill(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(S3FileSystem, "_get_file", fill)
    file = Datasets(bucket.root, **bucket.options).root / "file"
    with pytest.raises(DatasetFull, match="the disk of this machine has no room"):
        file.get(tmp_path)


def test_deletions_that_do_nothing_are_noticed(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Datasets(bucket.root, **bucket.options).root / "folder"
    (folder / "file").replace(b"x")

    async def delete(*_: Any, **__: Any) -> None:
        """S3 answers 200 and lists what it has refused, which s3fs does not read."""

    monkeypatch.setattr(S3FileSystem, "_bulk_delete", delete)
    with pytest.raises(DatasetError, match="could be deleted"):
        folder.remove()


@pytest.mark.parametrize("root", ["gs://bucket/x", "s3://", "s3:///x", "https://bucket/x"])
def test_another_kind_of_address_is_refused(root: str) -> None:
    with pytest.raises(DatasetError, match="name a folder, or s3://bucket/prefix"):
        Datasets(root)


def test_options_that_s3fs_does_not_take_are_refused() -> None:
    with pytest.raises(SettingsError, match="s3fs refuses"):
        Datasets("s3://bucket/x", key="k", username="u")


def test_secrets_are_in_no_representation(bucket: Bucket) -> None:
    datasets = Datasets(bucket.root, **bucket.options)
    dataset = datasets.dataset(SCOPE, DATASET)
    with suppress(DatasetError):
        dataset.batch("b")
    assert SECRET not in f"{datasets!r} {datasets.root!r} {dataset!r} {bucket.settings['s3']!r}"


def test_a_name_that_looks_like_a_pattern_is_only_a_name(bucket: Bucket) -> None:
    datasets = Datasets(bucket.root, **bucket.options)
    for name in ("a*c", "abc", "a[b]c", "a?c"):
        datasets.dataset(SCOPE, name).register("s")
    assert list(datasets.named(SCOPE)) == ["a*c", "a?c", "a[b]c", "abc"]
    for name in ("a*c", "a[b]c", "a?c"):
        datasets.dataset(SCOPE, name).delete()
    assert list(datasets.named(SCOPE)) == ["abc"]
