"""A job that asks for segmentation exports segments as they are evaluated for it."""

import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from segexport.commands import Checked
from segexport.errors import InvalidRequest, StoreUnavailable
from segexport.jobs.job import FaultKind, Job
from segexport.jobs.lifecycle import JobState
from segexport.jobs.publication import Counts
from segexport.jobs.request import ExportRequest
from segexport.profiles.builder import Resources, draft
from segexport.profiles.catalogue import CATALOGUE
from segexport.profiles.definitions import define_segment
from segexport.profiles.evaluation import evaluate
from segexport.profiles.snapshots import ProfileStore
from support.fragments import NOW, RESOURCES, fragment, load_records
from support.people import SNAPSHOT_ID, write_crowd
from support.stuck import Failing
from support.waiting import until
from support.workplace import SCOPE, Workplace, request_for

GOLD = ("ups", "gold")
FIRST = dict.fromkeys(range(1, 13), 5) | dict.fromkeys(range(1, 7), 50)  # 1 … 6 are in
THEN = dict.fromkeys(range(1, 13), 5) | dict.fromkeys(range(4, 9), 50)  # 4 … 8 are in


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Workplace]:
    place = await Workplace.open(tmp_path)
    yield place
    await place.store.close()


def profiles_of(place: Workplace) -> Path:
    return place.settings.profiles_folder


def points(place: Workplace, by_person: Mapping[int, int]) -> None:
    """Load a fragment for everybody, later than all before: they have so many points now."""
    day = 1 + len(ProfileStore(profiles_of(place)).ids())
    load_records(
        profiles_of(place),
        [
            fragment(f"p{number}", f"2026-01-{day:02d}T00:00:00Z", number=number, loyalty=loyalty)
            for number, loyalty in ((number, {"points": n}) for number, n in by_person.items())
        ],
    )


def evaluated(
    *segments: tuple[str, str], status: Sequence[str] = ("realized",), fields: str = "number"
) -> ExportRequest:
    request = request_for(*segments, status=status, fields=fields)
    info = request.evaluation_info.model_copy(update={"segmentation": True})
    return request.model_copy(update={"evaluation_info": info})


async def exported(place: Workplace, request: ExportRequest) -> Sequence[int]:
    """The persons that a job for the request exports."""
    job = await place.ended(await place.submit(request))
    assert job.state is JobState.COMPLETED, job.fault
    (batch,) = (one for one in place.dataset.batches() if one.manifest.job == job.id)
    with duckdb.connect() as database:
        rows = database.execute(f"SELECT number FROM {batch.relation} ORDER BY 1").fetchall()
    assert job.counts == Counts(total=len(rows), realized=len(rows), failed=0)
    return [number for (number,) in rows]


async def failed(place: Workplace, request: ExportRequest) -> Job:
    """The job for a request that was all right when it was submitted, once it has failed."""
    place = replace(
        place, commands=replace(place.commands, check=lambda _, wanted: Checked(wanted))
    )
    job = await place.ended(await place.submit(request))
    assert job.state is JobState.FAILED
    return job


def words(job: Job) -> str:
    assert job.fault is not None
    return job.fault.message


async def test_a_job_exports_whom_its_segment_has_now(place: Workplace) -> None:
    points(place, FIRST)
    define_segment(profiles_of(place), "gold", "loyalty.points > 10")
    async with place.working():
        assert await exported(place, evaluated(GOLD)) == [1, 2, 3, 4, 5, 6]


async def test_changed_profiles_are_realized_existing_or_exited_at_the_next_job(
    place: Workplace,
) -> None:
    points(place, FIRST)
    define_segment(profiles_of(place), "gold", "loyalty.points > 10")
    async with place.working():
        assert await exported(place, evaluated(GOLD)) == [1, 2, 3, 4, 5, 6]
        points(place, THEN)
        assert await exported(place, evaluated(GOLD, status=["existing"])) == [4, 5, 6]
        unchanged = request_for(GOLD, status=["exited"], fields="number")
        assert await exported(place, unchanged) == [1, 2, 3]
        assert await exported(place, request_for(GOLD, fields="number")) == [4, 5, 6, 7, 8]


async def test_a_job_that_names_no_segment_has_all_of_them_evaluated(place: Workplace) -> None:
    points(place, FIRST)
    define_segment(profiles_of(place), "gold", "loyalty.points > 10")
    define_segment(profiles_of(place), "poor", "loyalty.points < 10", namespace="own")
    async with place.working():
        assert len(await exported(place, evaluated())) == 12
    sizes = {
        one.segment: one.realized for one in ProfileStore(profiles_of(place)).latest().segments
    }
    assert sizes == {"gold": 6, "poor": 6}


async def test_a_worker_that_dies_before_the_snapshot_is_pinned_evaluates_only_once(
    place: Workplace,
) -> None:
    points(place, FIRST)
    define_segment(profiles_of(place), "gold", "loyalty.points > 10")
    # The first commit is the claim, the second would have pinned the snapshot.
    failing = Failing("commit", StoreUnavailable("away"), times=1, after=1)
    async with place.working(place.new_worker(change=failing.store)):
        assert await exported(place, evaluated(GOLD)) == [1, 2, 3, 4, 5, 6]
    assert failing.calls > 2
    store = ProfileStore(profiles_of(place))
    assert len(store.ids()) == 2
    (size,) = store.latest().segments
    assert (size.realized, size.existing) == (6, 0)


async def test_a_new_definition_and_a_new_snapshot_count_from_the_next_submission_on(
    place: Workplace,
) -> None:
    points(place, FIRST)
    for wanted in (evaluated(GOLD), request_for(GOLD, fields="number")):
        with pytest.raises(InvalidRequest):
            await place.submit(wanted)
    defined = define_segment(profiles_of(place), "gold", "loyalty.points > 10")
    await place.submit(evaluated(GOLD))
    with pytest.raises(InvalidRequest, match="never evaluated"):
        await place.submit(request_for(GOLD, fields="number"))
    evaluate(profiles_of(place), [defined], now=NOW, resources=RESOURCES)
    await place.submit(request_for(GOLD, fields="number"))


async def test_another_attempt_keeps_the_snapshot_and_needs_no_definitions(tmp_path: Path) -> None:
    place = await Workplace.open(tmp_path, retry_delay=timedelta(seconds=1))
    points(place, FIRST)
    define_segment(profiles_of(place), "gold", "loyalty.points > 10")
    failing = Failing("prepare", OSError("a disk that hiccups"), times=1)
    async with place.working(place.new_worker(change=failing.engine)):
        job = await place.reached(await place.submit(evaluated(GOLD)), JobState.PENDING_JOB)
    (profiles_of(place) / CATALOGUE).unlink()
    async with place.working():  # one that has never seen the definitions
        job = await place.ended(job)
    assert (job.state, job.attempts) == (JobState.COMPLETED, 2)
    store = ProfileStore(profiles_of(place))
    assert store.snapshot(job.snapshot or "").evaluated_for == job.id
    assert len(store.ids()) == 2
    await place.store.close()


async def test_a_load_that_runs_is_waited_for(place: Workplace) -> None:
    points(place, FIRST)
    define_segment(profiles_of(place), "gold", "loyalty.points > 10")
    resources = Resources(threads=1, memory_limit="128MB")
    async with place.working():
        with draft(profiles_of(place), now=NOW, resources=resources):
            job = await place.submit(evaluated(GOLD))
            await place.reached(job, JobState.PENDING_JOB)
        assert (await place.ended(job)).state is JobState.COMPLETED


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (evaluated(("ups", "silver")), "no segment 'silver' is defined in namespace 'ups'"),
        (evaluated(GOLD), "version 1, does not fit snapshot .* no attribute 'loyalty.tier'"),
    ],
)
async def test_a_segment_that_cannot_be_evaluated_fails_the_job_at_once(
    place: Workplace, request_: ExportRequest, said: str
) -> None:
    define_segment(profiles_of(place), "gold", "loyalty.tier = 'gold'")
    points(place, FIRST)
    async with place.working():
        job = await failed(place, request_)
    assert re.search(said, words(job))
    assert job.fault is not None
    assert (job.fault.kind, job.attempts) == (FaultKind.FAILED, 1)


async def test_without_any_definition_the_job_says_how_to_make_one(place: Workplace) -> None:
    points(place, FIRST)
    async with place.working():
        job = await failed(place, evaluated())
    assert "segexport segments define" in words(job)


async def test_a_cancel_stops_an_evaluation_within_a_second(place: Workplace) -> None:
    profiles = profiles_of(place)
    write_crowd(profiles, count=2_000_000)
    slow = " OR ".join(f"coalesce(homeAddress.city, 'x{n}') LIKE '%{n}%y%'" for n in range(60))
    define_segment(profiles, "gold", slow)
    async with place.working():
        job = await place.submit(evaluated(GOLD, fields=""))

        async def is_running() -> bool:
            return bool([*profiles.glob(".staging-*/snapshot/bucket=00000/persons.parquet")])

        await until(is_running, 20, "the evaluation has begun")
        asked = time.monotonic()
        await place.commands.cancel(SCOPE, job.id)
        await place.reached(job, JobState.CANCELLED)
        assert time.monotonic() - asked < 1
    assert ProfileStore(profiles).ids() == (SNAPSHOT_ID,)
    assert not [*profiles.glob(".staging*")]
    assert not place.left_behind()
