"""Exports on Spark, by a worker: what the contract of engines does not ask."""

import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from segexport.errors import SettingsError
from segexport.exports.dataset import Batch, Datasets
from segexport.exports.engines import spark_cluster
from segexport.exports.engines.choice import engine_of
from segexport.jobs.job import FaultKind, Job
from segexport.jobs.lifecycle import JobState
from segexport.jobs.reading import parse_request
from segexport.profiles.builder import Resources
from segexport.profiles.sample import build_sample, sample_segments
from segexport.settings import ExportSettings, Settings
from segexport.sql import parquet
from segexport.store.discards import COLUMNS
from support.people import Person, write_crowd, write_snapshot
from support.spark import ON_TWO_THREADS, require_spark
from support.spark_process import PEOPLE, export_on
from support.waiting import until
from support.workplace import SCOPE, Workplace, request_for

ON_SPARK: dict[str, Any] = {"engine": "spark", "spark": ON_TWO_THREADS}
"""Settings of the worker."""


@pytest.fixture(autouse=True, scope="module")
def _java() -> None:
    require_spark()


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Workplace]:
    folder = tmp_path / "a?*[b] {c,d} 100%20#é 'e=5"
    folder.mkdir()
    place = await Workplace.open(folder, **ON_SPARK)
    yield place
    await place.store.close()


def batches_of(place: Workplace, dataset: str) -> Sequence[Batch]:
    """The batches of a dataset, by their segments."""
    batches = Datasets(place.settings.datasets_folder).dataset(SCOPE, dataset).batches()
    return sorted(batches, key=lambda batch: str(batch.manifest.segment))


def differing(relations: Sequence[str]) -> int:
    """Rows that one of two relations has more often than the other."""
    one, other = relations
    with duckdb.connect() as database:
        ((rows,),) = database.execute(
            f"SELECT count(*) FROM ((FROM {one} EXCEPT ALL FROM {other}) UNION ALL "
            f"(FROM {other} EXCEPT ALL FROM {one}))"
        ).fetchall()
    return int(rows)


BIGGEST, SECOND = sample_segments()[:2]
REQUESTS: Sequence[dict[str, Any]] = (
    {},
    {
        "filter": {
            "segments": [
                {"segmentNs": one.namespace, "segmentId": one.segment} for one in (BIGGEST, SECOND)
            ]
        },
        "fields": "identities,person,segmentMembership",
        "journey": {"versionId": "v1", "namespace": "Email"},
        "destination": {"datasetId": "", "segmentPerBatch": True},
    },
    {
        "additionalFields": {"eventList": {}},
        "destination": {"datasetId": "", "format": "ndjson.gz"},
    },
)


async def test_a_job_on_spark_gives_the_rows_of_one_on_duckdb(place: Workplace) -> None:
    build_sample(
        place.settings.profiles_folder,
        profiles=3_000,
        seed=5,
        now=datetime(2026, 3, 1, tzinfo=UTC),
        resources=Resources(threads=2, memory_limit="512MB"),
    )
    exports = place.settings.exports.model_copy(update={"engine": "duckdb"})
    on_duckdb = place.settings.model_copy(update={"exports": exports})

    async def exported(dataset: str) -> Sequence[Job]:
        jobs = []
        for number, request in enumerate(REQUESTS):
            destination = {
                "destination": request.get("destination", {}) | {"datasetId": f"{dataset}-{number}"}
            }
            jobs.append(await place.submit(parse_request(request | destination)))
        return [await place.ended(job, patience=120) for job in jobs]

    async with place.working():
        by_spark = await exported("spark")
    async with Workplace(
        place.folder, on_duckdb, place.store, place.voice, place.commands
    ).working():
        by_duckdb = await exported("duckdb")
    for number, (ours, theirs) in enumerate(zip(by_spark, by_duckdb, strict=True)):
        assert ours.state is JobState.COMPLETED
        assert ours.counts == theirs.counts
        both = zip(
            batches_of(place, f"spark-{number}"), batches_of(place, f"duckdb-{number}"), strict=True
        )
        for batch, other in both:
            batch.verify()
            assert batch.manifest.counts == other.manifest.counts
            assert differing([batch.relation, other.relation]) == 0
        files = [job.publication.discards for job in (ours, theirs) if job.publication]
        paths = [Path(file.path) for file in files if file]
        if paths:
            kept = [f"(SELECT {', '.join(COLUMNS)} FROM {parquet([path])})" for path in paths]
            assert differing(kept) == 0
        assert await place.told(ours) == await place.told(theirs)
    assert not place.left_behind()


async def test_a_query_on_spark_is_cancelled_within_a_second(place: Workplace) -> None:
    write_crowd(place.settings.profiles_folder, count=3_000_000)
    async with place.working() as worker:
        job = await place.submit(request_for())

        async def is_running() -> bool:
            return any(attempt._progress() > 0 for attempt in worker._running.values())

        await until(is_running, 60, "a piece makes progress")
        asked = time.monotonic()
        await place.commands.cancel(SCOPE, job.id)
        await place.reached(job, JobState.CANCELLED)
        assert time.monotonic() - asked < 1
    assert not place.dataset.batches()
    assert not place.left_behind()


async def test_a_cancel_does_not_wait_for_spark_to_start(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up = threading.Event()

    def starting(*_: object) -> None:
        given_up.wait(30)
        raise RuntimeError("nobody answers")

    monkeypatch.setattr(spark_cluster._Connection, "_opened", starting)
    monkeypatch.setattr(spark_cluster, "_existing", starting)
    write_snapshot(place.settings.profiles_folder, [Person(1)])
    async with place.working():
        job = await place.submit(request_for())
        await place.reached(job, JobState.INITIALIZING)
        asked = time.monotonic()
        await place.commands.cancel(SCOPE, job.id)
        await place.reached(job, JobState.CANCELLED)
        assert time.monotonic() - asked < 1
        given_up.set()


async def test_a_job_fails_at_its_beginning_when_no_cluster_can_be_reached(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(*_: object) -> None:
        raise RuntimeError("nobody answers")

    # Not by an address where nobody is: other tests of this process may be connected already.
    monkeypatch.setattr(spark_cluster._Connection, "_opened", nobody)
    monkeypatch.setattr(spark_cluster, "_existing", nobody)
    write_snapshot(place.settings.profiles_folder, [Person(1)])
    async with place.working():
        job = await place.ended(await place.submit(request_for()))
    assert job.fault is not None
    assert job.fault.kind is FaultKind.UNREACHABLE
    assert "the engine that exports run on does not answer" in job.fault.message
    assert job.fault.detail is not None
    assert "Spark at local[2] cannot be reached (nobody answers)" in job.fault.detail
    assert await place.told(job) == ["queued", "finished"]


async def test_numbers_in_json_pass_unchanged(place: Workplace) -> None:
    number = "1" + "0" * 400
    write_snapshot(place.settings.profiles_folder, [Person(1, [{"consents": {"n": int(number)}}])])
    document = {"fields": "consents", "destination": {"datasetId": "audience", "format": "ndjson"}}
    async with place.working():
        await place.ended(await place.submit(parse_request(document)), patience=60)
    (batch,) = place.dataset.batches()
    assert number in "".join(Path(path).read_text() for path in batch.paths)


def test_pieces_run_on_the_executors_of_a_cluster(tmp_path: Path) -> None:
    found = export_on(tmp_path, "local-cluster[2,1,512]")
    assert (found["rows"], found["errors"]) == (PEOPLE, [])
    assert all(found["tasks"][executor] > 0 for executor in ("0", "1"))


def test_a_driver_that_is_lost_is_replaced(tmp_path: Path) -> None:
    found = export_on(tmp_path, "local[1]", lose=True)
    assert found["rows"] == PEOPLE
    (error,) = found["errors"]
    assert "Spark at local[1] cannot be reached" in error


def test_spark_that_is_not_installed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name.startswith("segexport.exports.engines.spark"):
            monkeypatch.delitem(sys.modules, name)
        if name.partition(".")[0] == "pyspark":
            monkeypatch.setitem(sys.modules, name, None)
    settings = Settings(data=tmp_path, exports=ExportSettings(engine="spark"))
    with pytest.raises(
        SettingsError, match=r"PySpark is not installed; install segexport\[spark\]"
    ):
        engine_of(settings)
