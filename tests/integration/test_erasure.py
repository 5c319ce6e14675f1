"""A person is taken out of everything that is kept, and it is told where."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest

from segexport.cli import main
from segexport.commands import advance
from segexport.errors import SeveralPersons
from segexport.exports.dataset import Batch, Datasets
from segexport.exports.erasure import Erasure, Places, Trace, erase
from segexport.exports.instances import Instances
from segexport.jobs import job as steps
from segexport.jobs.job import Job
from segexport.jobs.lifecycle import JobState
from segexport.jobs.request import parse_request
from segexport.profiles.builder import Resources
from segexport.profiles.erasure import Identity as Wanted
from segexport.profiles.snapshots import ProfileStore
from segexport.store.discards import DiscardReader
from support.people import NOW, Identity, Person, write_snapshot
from support.s3 import Root
from support.workplace import DATASET, SCOPE, Workplace

RESOURCES = Resources(threads=2, memory_limit="256MB")
GOLD = ("ups", "gold")


def person(number: int, *identities: tuple[str, str]) -> Person:
    by_namespace: dict[str, list[Identity]] = {}
    for namespace, id_ in identities:
        by_namespace.setdefault(namespace, []).append(Identity(id_))
    return Person(
        number + (1 << 50),
        [{"personalEmail.address": f"{number}@x"}],
        by_namespace,
        memberships={GOLD: "realized"},
    )


INES = person(1, ("Email", "ines@x"), ("CRM", "7"))
PHONELESS = person(2, ("CRM", "8"))
PEOPLE = [INES, PHONELESS, person(3, ("Email", "shared@x")), person(5, ("Email", "shared@x"))]
JOURNEY = {"versionId": "v1", "namespace": "Email"}


@pytest.fixture
async def place(tmp_path: Path, root: Root) -> AsyncIterator[Workplace]:
    place = await Workplace.open(tmp_path, root.settings)
    write_snapshot(place.settings.profiles_folder, PEOPLE)
    yield place
    await place.store.close()


async def export(place: Workplace, **document: Any) -> Job:
    destination = {"datasetId": DATASET, **document.pop("destination", {})}
    job = await place.submit(parse_request({"destination": destination, **document}))
    async with place.working():
        return await place.ended(job)


async def erased(place: Workplace, identity: Wanted, *, everybody: bool = False) -> Erasure:
    places = Places(
        profiles=place.settings.profiles_folder,
        datasets=Datasets.of(place.settings),
        journeys=place.settings.journeys_folder,
        store=place.store,
    )
    return await erase(identity, places, now=NOW, resources=RESOURCES, everybody=everybody)


async def deliver(place: Workplace) -> None:
    """Mark all events as delivered, as the relay would."""
    epoch = await place.store.lead("relay", timedelta(minutes=1))
    assert epoch is not None
    await place.store.mark_delivered("relay", epoch, (await place.store.backlog()).last)


def persons_in(batch: Batch) -> set[int]:
    with duckdb.connect() as database:
        batch.attach(database)
        found = database.execute(f"SELECT person_id::BIGINT FROM {batch.relation}").fetchall()
    return {number for (number,) in found}


def bytes_below(*folders: Path) -> bytes:
    return b"".join(
        path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()
    )


@pytest.mark.parametrize("form", ["parquet", "ndjson", "ndjson.gz"])
async def test_a_person_is_gone_from_store_and_batches_and_the_others_stay(
    place: Workplace, form: str
) -> None:
    await export(place, destination={"format": form}, fields="personalEmail.address")
    (before,) = place.dataset.batches()
    erasure = await erased(place, Wanted("CRM", "7"))
    (batch,) = place.dataset.batches()
    assert erasure.is_complete
    assert [(trace.place, trace.rows) for trace in erasure.traces] == [
        ("snapshot", 1),
        ("batch", 1),
    ]
    assert persons_in(batch) == {one.id for one in PEOPLE[1:]}
    batch.verify()
    counts = batch.manifest.counts
    assert (batch.manifest.revision, counts.realized, counts.erased) == (2, 4, 1)
    assert set(batch.folder.sizes()) == {
        "manifest.json",
        *(file.name for file in batch.manifest.files),
    }
    untouched = [file for file in before.manifest.files if file in batch.manifest.files]
    assert len(untouched) == len(before.manifest.files) - 1
    assert ProfileStore(place.settings.profiles_folder).latest().persons == 3
    assert await erased(place, Wanted("CRM", "7")) == Erasure([], [])


async def test_nothing_with_the_persons_words_is_left_below_the_folders(
    place: Workplace, root: Root
) -> None:
    await export(place, destination={"format": "ndjson"})
    settings = place.settings
    keys = place.folder / "keys.txt"
    keys.write_text("ines@x\nother@x\n")
    live = Instances(settings.journeys_folder, SCOPE)
    live.add("v1", "Email", [keys], RESOURCES)
    keys.unlink()
    folders = (settings.profiles_folder, settings.journeys_folder)
    assert b"ines@x" in bytes_below(*folders)
    assert b"ines@x" in root.content
    erasure = await erased(place, Wanted("Email", "ines@x"))
    assert Trace("journey", "v1 Email", 1) in erasure.traces
    assert b"ines@x" not in bytes_below(*folders)
    assert b"ines@x" not in root.content
    assert [table.keys for table in live.tables()] == [1]


async def test_a_discard_file_forgets_the_person_and_keeps_its_rows(place: Workplace) -> None:
    job = await export(place, journey=JOURNEY)
    await deliver(place)
    erasure = await erased(place, Wanted("CRM", "8"))
    assert Trace("discards", f"job {job.id}", 1) in erasure.traces
    job = await place.job(job)
    assert job.publication is not None
    file = job.publication.discards
    assert file is not None
    with DiscardReader(file) as reader:
        rows = reader.read(10)
    assert len(rows) == file.rows == 2
    assert PHONELESS.id not in {row[2] for row in rows}
    assert file.sha256 == hashlib.sha256(Path(file.path).read_bytes()).hexdigest()
    assert [path.name for path in place.settings.discards_folder.glob("*.parquet")] == [
        Path(file.path).name
    ]


async def test_what_is_still_needed_is_kept_told_and_erased_later(place: Workplace) -> None:
    job = await export(place, journey=JOURNEY)  # its events are not delivered
    erasure = await erased(place, Wanted("CRM", "8"))
    assert not erasure.is_complete
    (kept,) = (trace for trace in erasure.traces if trace.kept)
    assert (kept.place, kept.name) == ("discards", f"job {job.id}")
    assert "still to be delivered" in kept.kept
    await deliver(place)
    again = await erased(place, Wanted("CRM", "8"))
    assert again.is_complete
    assert [trace.place for trace in again.traces] == ["discards"]


async def test_a_snapshot_that_a_job_works_on_is_kept_until_the_job_has_ended(
    place: Workplace,
) -> None:
    job = await place.submit(parse_request({"destination": {"datasetId": DATASET}}))
    claimed = await place.store.claim("somebody", timedelta(minutes=1), limit=5)
    assert claimed is not None
    snapshot = ProfileStore(place.settings.profiles_folder).latest().id
    for step in (steps.claim, partial(steps.initialize, snapshot=snapshot)):
        claimed = await advance(place.store, place.voice, claimed, step)
    erasure = await erased(place, Wanted("CRM", "7"))
    (trace,) = erasure.traces
    assert (trace.place, trace.name) == ("snapshot", snapshot)
    assert f"job {job.id} works on it" in trace.kept
    assert ProfileStore(place.settings.profiles_folder).latest().persons == 3
    assert claimed.state is JobState.INITIALIZING


async def test_an_identity_of_several_persons_is_not_erased_by_mistake(place: Workplace) -> None:
    with pytest.raises(SeveralPersons, match="2 persons have the identity Email:shared@x"):
        await erased(place, Wanted("Email", "shared@x"))
    assert ProfileStore(place.settings.profiles_folder).latest().persons == 4
    erasure = await erased(place, Wanted("Email", "shared@x"), everybody=True)
    assert len(erasure.persons) == 2
    assert ProfileStore(place.settings.profiles_folder).latest().persons == 2


async def test_the_command_line_tells_where_the_person_was(
    place: Workplace,
    root: Root,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await export(place)
    await place.store.close()
    monkeypatch.setenv("SEGEXPORT_DATA", str(tmp_path))
    for name, value in root.variables.items():
        monkeypatch.setenv(name, value)
    capsys.readouterr()

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["segexport", "profiles", "erase", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().out

    status, printed = await asyncio.to_thread(run, "CRM:7", "--yes", "--format", "json")
    assert status == 0
    told = orjson.loads(printed)
    assert (told["persons"], told["complete"]) == (1, True)
    assert {trace["place"] for trace in told["traces"]} == {"snapshot", "batch"}
    status, printed = await asyncio.to_thread(run, "CRM:7", "--yes")
    assert (status, printed) == (0, "nothing is known of such a person\n")
    assert (await asyncio.to_thread(run, "nonsense", "--yes"))[0] == 2
