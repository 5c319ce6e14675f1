"""A worker that is killed with SIGKILL, wherever: another one finishes, and counts are exact."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import duckdb
import pytest

from segexport.commands import advance
from segexport.jobs import job as steps
from segexport.jobs.job import Job
from segexport.jobs.lifecycle import JobState
from segexport.jobs.publication import Counts
from segexport.store.discards import DiscardReader
from support import worker_process
from support.forked import Forked
from support.people import Identity, Person, write_snapshot
from support.plain_export import plain_export
from support.s3 import Bucket
from support.worker_process import LEASE, Point, killed_worker, start_worker
from support.workplace import SCOPE, Workplace, request_for

pytestmark = pytest.mark.crash

GOLD = ("ups", "gold")
PEOPLE = [
    Person(
        number,
        [{"person.name.lastName": f"n{number}"}],
        {"Email": [Identity(f"m{number % 50}")]} if number % 7 else None,
        memberships={GOLD: "realized"} if number % 3 else {},
    )
    for number in range(1, 121)
]
BUCKETS = 4
REQUEST = request_for(
    GOLD, fields="person.name.lastName", journey={"versionId": "v", "namespace": "Email"}
)

POINTS = [
    Point("before", "commit PREPARING_FOR_INITIALIZATION"),
    Point("after", "commit PREPARING_FOR_INITIALIZATION"),
    Point("after", "commit INITIALIZING"),
    Point("before", "commit PROCESSING"),
    Point("after", "commit PROCESSING"),
    Point("during", "prepare"),
    Point("during", "run_piece"),
    Point("after", "run_piece"),
    Point("before", "save_piece"),
    Point("after", "save_piece"),
    Point("after", "save_piece", BUCKETS),
    Point("after", "join_discards"),
    Point("before", "commit COMPLETING"),
    Point("after", "commit COMPLETING"),
    Point("after", "move"),  # the discard file
    Point("after", "move", 2),  # the first data file
    Point("after", "move", 1 + BUCKETS),  # the last data file
    Point("after", "move", 2 + BUCKETS),  # the manifest
    Point("after", "move", 3 + BUCKETS),  # the batch
    Point("before", "remove"),
    Point("after", "remove"),
    Point("after", "commit COMPLETED"),
]


POINTS_ON_S3 = [
    Point("during", "request put_file"),
    Point("after", "request put_file", 2),
    Point("after", "save_piece", 2),
    Point("after", "join_discards"),
    Point("after", "commit COMPLETING"),
    Point("during", "request copy"),
    Point("after", "request copy"),
    Point("after", "request pipe_file", 6),  # the manifest: the batch is visible
    Point("before", "request bulk_delete"),
    Point("after", "request bulk_delete"),
    Point("after", "commit COMPLETED"),
]


@pytest.fixture(scope="module")
def workers() -> Iterator[Forked]:
    with Forked(worker_process) as forked:
        yield forked


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Workplace]:
    place = await Workplace.open(tmp_path, lease=LEASE)
    write_snapshot(place.settings.profiles_folder, PEOPLE, buckets=BUCKETS)
    yield place
    await place.store.close()


async def require_exact_outcome(place: Workplace, job: Job) -> None:
    """One batch, one discard file, each milestone told once, all as the plain export says."""
    expected = plain_export(REQUEST, PEOPLE)
    job = await place.job(job)
    assert job.state is JobState.COMPLETED
    realized, failed = len(expected.profiles), len(expected.discards)
    assert job.counts == Counts(total=realized + failed, realized=realized, failed=failed)
    (batch,) = place.dataset.batches()
    batch.verify()
    with duckdb.connect() as database:
        batch.attach(database)
        found = database.execute(f"SELECT person FROM {batch.relation}").fetchall()
    assert sorted(str(row[0]) for row in found) == sorted(
        str(profile["person"]) for profile in expected.profiles
    )
    assert job.publication is not None
    assert job.publication.discards is not None
    with DiscardReader(job.publication.discards) as reader:
        assert reader.read(1000) == sorted(
            expected.discards, key=lambda row: (row[2] % BUCKETS, row[2])
        )
    assert await place.told(job) == ["queued", "started", "discards", "finished"]
    assert not place.left_behind()


@pytest.mark.parametrize("point", POINTS, ids=str)
async def test_another_worker_finishes_what_a_killed_one_began(
    point: Point, workers: Forked, place: Workplace
) -> None:
    job = await place.submit(REQUEST)
    await killed_worker(workers, place.folder, point)
    async with place.working():
        job = await place.ended(job)
    await require_exact_outcome(place, job)


@pytest.mark.parametrize("point", POINTS_ON_S3, ids=str)
async def test_another_worker_finishes_on_s3_what_a_killed_one_began(
    point: Point,
    workers: Forked,
    bucket: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in bucket.variables.items():
        monkeypatch.setenv(name, value)  # for the process that is killed
    place = await Workplace.open(tmp_path, bucket.settings, lease=LEASE)
    write_snapshot(place.settings.profiles_folder, PEOPLE, buckets=BUCKETS)
    job = await place.submit(REQUEST)
    await killed_worker(workers, place.folder, point)
    async with place.working():
        job = await place.ended(job)
    await require_exact_outcome(place, job)
    await place.store.close()


async def test_killed_at_any_moment_again_and_again(place: Workplace) -> None:
    """Jobs pass through the hands of workers that live for fractions of a second."""
    moments = random.Random(20260301)
    jobs = [await place.submit(REQUEST) for _ in range(3)]
    for _ in range(6):
        process = await start_worker(place.folder)
        await asyncio.sleep(moments.uniform(0.4, 1.6))
        process.kill()
        await process.wait()
    async with place.working():
        ended = [await place.ended(job) for job in jobs]
    batches = place.dataset.batches()
    assert sorted(b.manifest.job for b in batches) == sorted(job.id for job in ended)
    for batch in batches:
        batch.verify()
    for job in ended:
        assert await place.told(job) == ["queued", "started", "discards", "finished"]
    assert not place.left_behind()


@pytest.mark.parametrize(
    "point",
    [Point("before", "remove"), Point("after", "remove"), Point("before", "commit CANCELLED")],
    ids=str,
)
async def test_a_cancelled_job_is_cleaned_up_by_the_next_worker(
    point: Point, workers: Forked, place: Workplace
) -> None:
    job = await place.submit(REQUEST)
    claimed = await place.store.claim("dead", LEASE / 1000, limit=100)
    assert claimed is not None
    claimed = await advance(place.store, place.voice, claimed, steps.claim)
    (place.dataset.staging(job.id) / "part-00000-e1.parquet").replace(b"half a file")
    await place.commands.cancel(SCOPE, job.id)
    await killed_worker(workers, place.folder, point)
    async with place.working():
        job = await place.ended(job)
    assert job.state is JobState.CANCELLED
    assert await place.told(job) == ["queued", "finished"]
    assert not place.left_behind()


async def test_a_failing_job_still_fails_when_its_worker_is_killed(
    workers: Forked, place: Workplace
) -> None:
    place.dataset.folder.replace(b"a file where the folder should be")
    job = await place.submit(REQUEST)
    await killed_worker(workers, place.folder, Point("before", "commit FAILED"))
    assert (await place.job(job)).state is JobState.FAILING
    async with place.working():
        job = await place.ended(job)
    assert job.state is JobState.FAILED
    assert await place.told(job) == ["queued", "finished"]
