"""Whatever goes wrong with a job, others than its operator learn no place of the service."""

import errno
import json
import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import botocore.exceptions
import duckdb
import pytest
from structlog.testing import capture_logs

import segexport
from segexport.commands import Checked
from segexport.disclosure import may_name_a_place
from segexport.errors import (
    DatasetUnreachable,
    EngineError,
    EngineOutOfMemory,
    EngineUnreachable,
    ProfileStoreMissing,
    StoreUnavailable,
)
from segexport.events.outbox import OutboxRow
from segexport.exports.worker import Worker
from segexport.jobs.job import Job
from segexport.jobs.lifecycle import JobState
from support.asking import CommandLine
from support.interfaces import (
    APPLICATION,
    BODY,
    JOBS,
    Interfaces,
    OpenPlace,
    pinpoint_settings,
    serving,
)
from support.people import write_snapshot
from support.stuck import Failing, Gate, gated
from support.workplace import GOLD, JOURNEY, PEOPLE, SCOPE, Workplace, request_for

S3_ADDRESS = "http://10.0.0.9:9000"
BUCKET = "s3://internal-bucket/exports"
SPARK = "spark://master.internal:7077"
PINPOINT = f"/v1/apps/{APPLICATION}/jobs/export"


@pytest.fixture
async def place(open_place: OpenPlace, tmp_path: Path) -> Workplace:
    profiles = tmp_path / "profiles"
    write_snapshot(profiles, PEOPLE, buckets=4)
    return await open_place(
        profiles=profiles, pinpoint=pinpoint_settings(exports=str(tmp_path / "exported"))
    )


def secrets(folder: Path) -> list[str]:
    """What nobody outside may read."""
    places = (folder, Path(segexport.__file__).parent, Path(sys.prefix), tempfile.gettempdir())
    names = [str(place) for place in places] + [folder.name]
    hosts = [
        "internal-bucket",
        "master.internal",
        "10.0.0.9",
        ":9000",
        ":7077",
        "127.0.0.1",
        "localhost",
    ]
    return [*names, *hosts, ".parquet", ".json", ".sqlite", ".arrow", ".py", "bucket=", "profiles/"]


def require_no_place(told: Mapping[str, str], folder: Path) -> None:
    found = {
        where: [secret for secret in secrets(folder) if secret in text]
        for where, text in told.items()
    }
    assert not {where: names for where, names in found.items() if names}, told


async def events_of(place: Workplace, job: Job) -> Mapping[str, str]:
    """The values that the relay, and the live stream, send of a job."""
    rows = [one.row for one in await place.store.rows_after(0, limit=1000, max_bytes=2**30)]
    return {f"event {row.sequence}": _value(row) for row in rows if row.job_id == job.id}


def _value(row: OutboxRow) -> str:
    return row.value.decode()


async def answers_about(house: Interfaces, job: Job) -> Mapping[str, str]:
    """All that the three interfaces answer of a job, each as it goes out."""
    paths = (
        *(f"{JOBS}/{job.id}", JOBS),
        *(f"/jobs/{job.id}", "/jobs"),
        *(f"{PINPOINT}/{job.id}", PINPOINT),
    )
    async with house.client() as client:
        answers = {path: await client.get(path) for path in paths}
    for path, answer in answers.items():
        assert answer.status_code == 200, path
        assert str(job.id) in answer.text
    return {path: answer.text for path, answer in answers.items()}


async def require_told_without_places(
    house: Interfaces, job: Job, logged: list[Any], *, cause: str | None
) -> Job:
    """A failed job: events and answers name no place; the log and the store have the cause."""
    place = house.place
    job = await place.job(job)
    assert job.state is JobState.FAILED
    assert job.fault is not None
    assert not may_name_a_place(job.fault.message)
    require_no_place(await events_of(place, job), place.folder)
    require_no_place(await answers_about(house, job), place.folder)
    if cause is not None:
        assert cause in (job.fault.detail or "")
        assert f"in its log, under job {job.id}" in job.fault.message
        said = [line for line in logged if line["event"] == "a fault"]
        assert cause in said[-1]["error"]
    return job


# Faults that a worker meets in the files


def _every(folder: Path, pattern: str, change: Callable[[Path], object]) -> None:
    found = list(folder.rglob(pattern))
    assert found
    for path in found:
        change(path)


def _bend(path: Path) -> None:
    """Change bytes in a file, and not how many there are."""
    content = path.read_bytes()
    path.write_bytes(b"\0" * len(content))


def _file_in_the_way(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a file where a folder should be")


def _take_away(path: Path) -> None:
    path.rename(path.with_name(f"{path.name}-away"))


SPOILED: Mapping[str, tuple[Callable[[Path], object], str]] = {
    "profiles that are away": (lambda folder: _take_away(folder / "profiles"), "no snapshot"),
    "a manifest that is damaged": (
        lambda folder: _every(folder / "profiles", "snapshot.json", lambda it: it.write_text("{")),
        "snapshot.json",
    ),
    "a file of the snapshot that is gone": (
        lambda folder: _every(folder / "profiles", "persons*.parquet", Path.unlink),
        "is missing",
    ),
    "Parquet that is damaged": (
        lambda folder: _every(folder / "profiles", "fragments*.parquet", _bend),
        ".parquet",
    ),
    "a catalogue that is damaged": (
        lambda folder: (folder / "profiles" / "catalogue.json").write_text("{"),
        "catalogue.json",
    ),
    "a dataset that cannot be written": (
        lambda folder: _file_in_the_way(folder / "datasets" / "acme"),
        "datasets",
    ),
    "a folder of discards that cannot be written": (
        lambda folder: _file_in_the_way(folder / "discards"),
        "discards",
    ),
}


@pytest.mark.parametrize("trouble", SPOILED)
async def test_a_fault_in_the_files_is_told_without_them(place: Workplace, trouble: str) -> None:
    spoil, cause = SPOILED[trouble]
    async with serving(place) as house:
        job = await place.submit(request_for(GOLD, journey=JOURNEY))
        spoil(place.folder)
        with capture_logs() as logged:
            async with place.working():
                job = await place.ended(job)
        await require_told_without_places(house, job, logged, cause=cause)


async def test_a_place_of_endpoints_that_takes_nothing_is_not_named(place: Workplace) -> None:
    _file_in_the_way(place.folder / "exported")
    asked = {"RoleArn": "arn:aws:iam::1:role/x", "S3UrlPrefix": "s3://exports/spring/"}
    async with serving(place) as house:
        async with house.client() as client:
            created = await client.post(PINPOINT, json={**asked, "SegmentId": "gold"})
        job = await place.store.get(SCOPE, int(created.json()["Id"]))
        with capture_logs() as logged:
            async with place.working():
                job = await place.ended(job)
        job = await require_told_without_places(house, job, logged, cause="exported")
        told = json.loads((await answers_about(house, job))[f"{PINPOINT}/{job.id}"])
    assert "below the S3 prefix of the request" in told["Failures"][0]
    assert not any("s3://" in value for value in (await events_of(place, job)).values())


async def test_a_disk_without_room_is_told_without_its_name(place: Workplace) -> None:
    exports = place.settings.exports.model_copy(update={"disk_budget": "2KB"})
    small = replace(place, settings=place.settings.model_copy(update={"exports": exports}))
    async with serving(place) as house:
        with capture_logs() as logged:
            async with small.working():
                job = await place.ended(await place.submit(request_for(GOLD)))
        await require_told_without_places(house, job, logged, cause="exports.disk_budget")


# Faults that come from elsewhere


def full(folder: Path) -> Exception:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "part-0.parquet"))


INJECTED: Mapping[str, tuple[str, Callable[[Path], Exception], str]] = {
    "a full disk": ("run_piece", full, "part-0.parquet"),
    "several errors at once": (
        "run_piece",
        lambda folder: ExceptionGroup("several", [full(folder)]),
        "part-0.parquet",
    ),
    "a query that needs too much memory": (
        "run_piece",
        lambda folder: EngineOutOfMemory(f"could not offload to {folder}/spill"),
        "/spill",
    ),
    "a query that went wrong": (
        "run_piece",
        lambda folder: EngineError(f"IO Error in {folder}/profiles/persons.parquet"),
        "persons.parquet",
    ),
    "a library that explains nothing": (
        "run_piece",
        lambda folder: duckdb.IOException(f"could not open {folder}/persons.parquet"),
        "persons.parquet",
    ),
    "Spark that is not there": (
        "reach",
        lambda _: EngineUnreachable(f"Spark at {SPARK} cannot be reached"),
        SPARK,
    ),
    "Spark that has gone": (
        "run_piece",
        lambda _: EngineError("an error while connecting to 127.0.0.1:41234"),
        "127.0.0.1:41234",
    ),
    "S3 that does not answer": (
        "run_piece",
        lambda _: DatasetUnreachable(f"{BUCKET} cannot be reached at {S3_ADDRESS}"),
        S3_ADDRESS,
    ),
    "S3 that refuses": (
        "prepare",
        lambda _: botocore.exceptions.ClientError(
            {"Error": {"Code": "403", "Message": BUCKET}}, "PutObject"
        ),
        BUCKET,
    ),
    "discards that cannot be joined": (
        "join_discards",
        lambda folder: EngineError(f"{folder}/discards/1.arrow"),
        "1.arrow",
    ),
    "a mistake of ours": (
        "run_piece",
        lambda folder: RuntimeError(f"{folder} and {segexport.__file__}"),
        "__init__.py",
    ),
}


@pytest.mark.parametrize("trouble", INJECTED)
async def test_a_fault_from_elsewhere_is_told_without_places(
    place: Workplace, trouble: str
) -> None:
    method, error, cause = INJECTED[trouble]
    failing = Failing(method, error(place.folder), times=10**6)
    async with serving(place) as house:
        with capture_logs() as logged:
            async with place.working(place.new_worker(change=failing.engine)):
                job = await place.ended(await place.submit(request_for(GOLD, journey=JOURNEY)))
        await require_told_without_places(house, job, logged, cause=cause)


async def test_a_deadline_and_lost_leases_are_told_without_places(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate("run_piece")

    def held() -> Worker:
        return place.new_worker(change=gated(gate))

    async with serving(place) as house:
        with capture_logs() as logged:
            async with place.working(held()):
                short = timedelta(seconds=1)
                late = await place.commands.submit(SCOPE, request_for(GOLD), deadline=short)
                job = await place.ended(late.job)
            await require_told_without_places(house, job, logged, cause=None)
            monkeypatch.setattr("segexport.exports.attempt.TAKEOVERS", 0)
            job = await place.submit(request_for(GOLD))
            await place.store.claim("a victim", timedelta(microseconds=1), limit=100)
            async with place.working():
                job = await place.ended(job)
        job = await require_told_without_places(house, job, logged, cause=None)
    assert job.fault is not None
    assert f"under job {job.id}" in job.fault.message


# Requests that cannot be served


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (lambda folder: ProfileStoreMissing(f"{folder} holds no snapshot"), 503),
        (lambda folder: StoreUnavailable(f"{folder}/jobs.sqlite is locked"), 503),
        (lambda _: DatasetUnreachable(f"{BUCKET} cannot be reached at {S3_ADDRESS}"), 503),
        (full, 503),
        (lambda folder: sqlite3.OperationalError(f"cannot open {folder}/jobs.sqlite"), 503),
        (lambda folder: EngineError(f"{folder}/x.parquet"), 503),
        (lambda folder: RuntimeError(f"{folder}/x.py"), 500),
    ],
)
async def test_a_request_that_cannot_be_served_learns_no_place(
    place: Workplace, error: Callable[[Path], Exception], status: int
) -> None:
    def check(*_: object) -> Checked:
        raise error(place.folder)

    asked = {"RoleArn": "arn:aws:iam::1:role/x", "S3UrlPrefix": "s3://exports/x/"}
    house_of = serving(replace(place, commands=replace(place.commands, check=check)))
    with capture_logs() as logged:
        async with house_of as house, house.client() as client:
            answers = {
                path: await client.post(path, json=body)
                for path, body in (
                    (JOBS, BODY),
                    ("/jobs", BODY),
                    (PINPOINT, {**asked, "SegmentId": "gold"}),
                )
            }
    require_no_place({path: answer.text for path, answer in answers.items()}, place.folder)
    assert {answer.status_code for answer in answers.values()} == {status}
    told = [line for line in logged if "failed" in line["event"] or "served" in line["event"]]
    assert len(told) == len(answers)


# What an earlier version has stored


@pytest.fixture
async def of_an_earlier_version(place: Workplace) -> Job:
    """A failed job as it was stored when all were told the same, with an attempt at a piece."""
    failing = Failing("run_piece", EngineError("x"), times=10**6)
    async with place.working(place.new_worker(change=failing.engine)):
        job = await place.ended(await place.submit(request_for(GOLD)))
    words = f"{place.folder}/profiles/0001/bucket=1/persons.parquet cannot be read"
    with sqlite3.connect(place.settings.store_file) as database:
        stored = json.dumps({"kind": "failed", "message": words})
        database.execute("UPDATE jobs SET fault = ? WHERE id = ?", (stored, job.id))
        database.execute("UPDATE failures SET message = ? WHERE job_id = ?", (words, job.id))
    return job


async def test_a_job_of_an_earlier_version_is_answered_without_places(
    place: Workplace, of_an_earlier_version: Job
) -> None:
    async with serving(place) as house:
        require_no_place(await answers_about(house, of_an_earlier_version), place.folder)
    job = await place.job(of_an_earlier_version)
    assert job.fault is not None
    assert "persons.parquet" in (job.fault.detail or "")
    assert f"segexport status {job.id}" in job.fault.message


# Whoever runs the service


@pytest.mark.parametrize("output", ["text", "json"])
async def test_the_command_line_tells_the_cause_to_who_reads_the_store_and_nobody_else(
    place: Workplace,
    of_an_earlier_version: Job,
    output: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = CommandLine(place, monkeypatch, capsys)
    asked = ("status", str(of_an_earlier_version.id), "--format", output)
    async with serving(place) as house:
        here = await command(*asked)
        elsewhere = await command(*asked, "--url", house.address)
    assert "persons.parquet cannot be read" in here.out
    require_no_place({"status --url": elsewhere.out}, place.folder)
    assert f"segexport status {of_an_earlier_version.id}" in elsewhere.out
