"""Batches as readers find them: formats, a batch for each segment, damage, budget, schema."""

import gzip
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pandas as pd
import pytest

from segexport.clerk import JobDocument
from segexport.cli.present import print_status
from segexport.errors import DatasetError, DatasetFull, InvalidRequest
from segexport.exports.budget import RESERVE, Budget
from segexport.exports.dataset import Batch
from segexport.exports.on_disk import OnDisk
from segexport.jobs.job import Job
from segexport.jobs.lifecycle import JobState
from segexport.jobs.reading import parse_request
from support.people import Identity, Person, write_snapshot
from support.s3 import Root
from support.workplace import DATASET, Workplace

GOLD, BLUE, NOBODY = ("ups", "gold"), ("ups", "it's blue"), ("AAM", "none")
PEOPLE = [
    Person(
        number + (1 << 60),
        [
            {"personalEmail.address": f"{number}@x", "tags": ["a", "it's"]},
            {"loyalty.points": number},
        ],
        {"Email": [Identity(f"{number}@x")]} if number % 3 else None,
        memberships={
            **({GOLD: "realized"} if number % 2 else {}),
            **({BLUE: "existing"} if number < 6 else {}),
        },
    )
    for number in range(1, 13)
]


@pytest.fixture
async def place(tmp_path: Path, root: Root) -> AsyncIterator[Workplace]:
    """Whatever is tested with it holds for both kinds of places for datasets."""
    place = await Workplace.open(tmp_path, root.settings)
    write_snapshot(place.settings.profiles_folder, PEOPLE, segments=[NOBODY])
    yield place
    await place.store.close()


async def exported(place: Workplace, **document: Any) -> tuple[Job, Sequence[Batch]]:
    """The job of a request, ended, and the batches of its dataset."""
    destination = {"datasetId": DATASET, **document.pop("destination", {})}
    job = await place.submit(parse_request({"destination": destination, **document}))
    async with place.working():
        job = await place.ended(job)
    return job, place.dataset.batches()


def rows(batch: Batch, columns: str) -> list[Any]:
    with duckdb.connect() as database:
        batch.attach(database)
        return database.execute(f"SELECT {columns} FROM {batch.relation} ORDER BY ALL").fetchall()


@pytest.mark.parametrize("form", ["parquet", "ndjson", "ndjson.gz"])
async def test_a_batch_reads_alike_in_every_format(place: Workplace, form: str) -> None:
    fields = "personalEmail.address,loyalty.points,tags,identities.id,segmentMembership"
    job, (batch,) = await exported(place, fields=fields, destination={"format": form})
    assert job.state is JobState.COMPLETED
    assert {file.name.partition(".")[2] for file in batch.manifest.files} == {form}
    batch.verify()
    assert rows(batch, "person_id::BIGINT, personalEmail.address, loyalty.points, tags") == [
        (person.id, f"{number}@x", number, ["a", "it's"])
        for number, person in enumerate(PEOPLE, start=1)
    ]
    standings = rows(batch, "segmentMembership['ups']['gold'].lastQualificationTime::VARCHAR")
    assert {moment[:19].replace("T", " ") for (moment,) in standings if moment} == {
        "2026-03-01 12:00:00"
    }


async def test_every_line_of_ndjson_is_one_profile_as_xdm_nests_it(place: Workplace) -> None:
    _, (batch,) = await exported(
        place,
        fields="personalEmail,loyalty",
        destination={"format": "ndjson.gz"},
    )
    files = [(batch.folder / file.name).read() or b"" for file in batch.manifest.files]
    lines = [line for content in files for line in gzip.decompress(content).splitlines()]
    documents = sorted((orjson.loads(line) for line in lines), key=lambda one: one["person_id"])
    assert documents[0] == {
        "person_id": str(PEOPLE[0].id),
        "loyalty": {"active": None, "points": 1, "share": None, "shares": None},
        "personalEmail": {"address": "1@x"},
    }


async def test_pandas_reads_the_files_of_a_batch(place: Workplace, root: Root) -> None:
    _, (batch,) = await exported(place, fields="loyalty.points")
    options = root.bucket.options if root.bucket else None
    frame = pd.concat([pd.read_parquet(path, storage_options=options) for path in batch.paths])
    assert sorted(point["points"] for point in frame["loyalty"]) == list(range(1, 13))
    _, batches = await exported(place, fields="loyalty.points", destination={"format": "ndjson"})
    frame = pd.concat(
        [
            pd.read_json(path, lines=True, dtype={"person_id": str}, storage_options=options)
            for path in batches[-1].paths
        ]
    )
    assert sorted(frame["person_id"]) == sorted(str(person.id) for person in PEOPLE)


async def test_with_a_batch_for_each_segment_each_has_its_members_and_its_counts(
    place: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    job, batches = await exported(
        place,
        fields="loyalty.points",
        filter={
            "segments": [{"segmentNs": ns, "segmentId": id_} for ns, id_ in (GOLD, BLUE, NOBODY)]
        },
        destination={"segmentPerBatch": True},
        journey={"versionId": "v1", "namespace": "Email"},
    )
    found = {(each.manifest.segment or {})["segmentId"]: each for each in batches}
    assert {
        name: [n for (n,) in rows(batch, "loyalty.points")] for name, batch in found.items()
    } == {
        "gold": [1, 5, 7, 11],
        "it's blue": [1, 2, 4, 5],
        "none": [],
    }
    counts = {name: batch.manifest.counts for name, batch in found.items()}
    assert (counts["gold"].total, counts["gold"].failed) == (6, 2)
    assert (counts["it's blue"].total, counts["it's blue"].failed) == (5, 1)
    assert counts["none"].total == 0
    assert job.counts is not None
    assert (job.counts.total, job.counts.realized, job.counts.failed) == (11, 8, 3)
    assert job.publication is not None
    assert [batch.id for batch in job.publication.batches] == [
        found[name].manifest.batch for name in ("gold", "it's blue", "none")
    ]
    for batch in batches:
        batch.verify()
    assert not place.left_behind()
    document = JobDocument.of(await place.commands.status(job.scope, job.id))
    print_status(document)
    printed = capsys.readouterr().out
    for told in document.document()["batches"]:
        batch = found[told["segmentId"]]
        assert told == {**(batch.manifest.segment or {}), "batchId": batch.manifest.batch}
        assert f"{told['batchId']}  {told['segmentId']}" in printed


@pytest.mark.parametrize("form", ["parquet", "ndjson"])
async def test_every_kind_of_damage_is_named(place: Workplace, form: str) -> None:
    _, (batch,) = await exported(place, destination={"format": form})
    assert list(batch.faults()) == []
    first, second = (batch.folder / file.name for file in batch.manifest.files[:2])
    content = first.read() or b""
    first.replace(content[:-1] + bytes([content[-1] ^ 1]))
    second.unlink()
    changed, missing = batch.faults()
    assert changed == f"{first} has changed: its SHA-256 is not the one in its manifest"
    assert missing == f"{second} is missing"
    with pytest.raises(DatasetError, match=r"has changed.*is missing.*export it again"):
        batch.verify()
    first.replace(content + b"\n")
    assert f"{len(content) + 1} bytes; its manifest says {len(content)}" in next(batch.faults())


async def test_counts_that_do_not_add_up_are_named(place: Workplace) -> None:
    _, (batch,) = await exported(place)
    counts = batch.manifest.counts.model_copy(update={"realized": 11, "failed": 1})
    wrong = replace(batch, manifest=batch.manifest.model_copy(update={"counts": counts}))
    assert "do not add up" in next(wrong.faults())


async def test_a_job_that_would_exceed_the_budget_fails_and_leaves_nothing(
    tmp_path: Path, root: Root
) -> None:
    place = await Workplace.open(tmp_path, root.settings, disk_budget="2KB")
    write_snapshot(place.settings.profiles_folder, PEOPLE, buckets=4)
    job, batches = await exported(place)
    assert job.state is JobState.FAILED
    assert job.fault is not None
    assert "no room left" in job.fault.message
    assert job.fault.detail is not None
    assert "exports.disk_budget" in job.fault.detail
    assert job.attempts == 1
    assert not batches
    assert not place.left_behind()
    await place.store.close()


def test_the_budget_counts_what_is_there_and_what_is_to_come(tmp_path: Path, root: Root) -> None:
    location = root.datasets.root
    (location / "a" / "b").replace(b"x" * 600)
    budget = Budget(location, tmp_path, limit=1000)
    assert budget.used == 600
    with budget.reserved(400):
        pass
    with pytest.raises(DatasetFull, match="holds 600 of the 1,000"), budget.reserved(401):
        pass
    elsewhere = Budget(location, tmp_path / "not" / "there")
    with pytest.raises(DatasetFull, match=f"{RESERVE:,} stay free"), elsewhere.reserved(1 << 60):
        pass


def test_what_one_piece_is_promised_no_other_one_gets(tmp_path: Path) -> None:
    budget = Budget(OnDisk(tmp_path), tmp_path, limit=1000)
    refused = pytest.raises(DatasetFull, match="need about 1,100 bytes")
    with budget.reserved(600), refused, budget.reserved(500):
        pass
    with budget.reserved(500):
        pass


async def test_a_registered_schema_is_asked_for_when_a_job_is_submitted(place: Workplace) -> None:
    place.dataset.register("_xdm.context.profile")
    await place.submit(parse_request({"destination": {"datasetId": DATASET}}))
    document = {"destination": {"datasetId": DATASET}, "schema": {"name": "_xdm.context.account"}}
    with pytest.raises(InvalidRequest) as refused:
        await place.submit(parse_request(document))
    (problem,) = refused.value.problems
    assert problem.path == "schema.name"
    assert "_xdm.context.profile" in problem.message


@pytest.mark.parametrize("schema", ["", "a\u202eb", "x" * 129])
async def test_a_schema_that_no_request_can_name_is_not_registered(
    schema: str, place: Workplace
) -> None:
    with pytest.raises(DatasetError, match="schema"):
        place.dataset.register(schema)
    assert place.dataset.registered_schema is None


async def test_a_batch_that_is_deleted_is_gone_and_the_others_stay(place: Workplace) -> None:
    await exported(place)
    _, (first, second) = await exported(place)
    first.delete()
    assert [each.manifest.batch for each in place.dataset.batches()] == [second.manifest.batch]
    assert not first.folder.exists()


async def test_a_batch_of_a_job_that_still_publishes_is_not_deleted(place: Workplace) -> None:
    job, (batch,) = await exported(place)
    place.dataset.staging(job.id).open("begun")
    with pytest.raises(DatasetError, match="still publishing"):
        batch.delete()
    batch.verify()


async def test_a_dataset_that_a_job_writes_to_is_not_deleted(place: Workplace) -> None:
    _, (batch,) = await exported(place)
    place.dataset.staging(77).open("begun")
    with pytest.raises(DatasetError, match="job 77 writes to"):
        place.dataset.delete()
    batch.verify()
    place.dataset.staging(77).remove()
    place.dataset.delete()
    assert not place.dataset.folder.exists()
