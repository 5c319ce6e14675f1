"""A person is taken out of everything that is kept, and it is told where."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest

from segexport.cli import main
from segexport.commands import advance
from segexport.errors import ProfileStoreBusy, SeveralPersons
from segexport.exports.dataset import Batch
from segexport.exports.erasure import Erasure, Trace
from segexport.exports.instances import Instances
from segexport.jobs import job as steps
from segexport.jobs.job import Job
from segexport.jobs.lifecycle import JobState
from segexport.jobs.reading import parse_request
from segexport.profiles.erasure import _holds
from segexport.profiles.snapshots import ProfileStore, Snapshot
from segexport.profiles.subjects import Identity as Wanted
from segexport.store.discards import DiscardReader
from support.fragments import belongs, fragment, load_records, snapshot_of
from support.people import Identity, Person, write_snapshot
from support.s3 import Root
from support.workplace import DATASET, RESOURCES, SCOPE, Workplace

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
    erasure = await place.erased(Wanted("CRM", "7"))
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
    assert await place.erased(Wanted("CRM", "7")) == Erasure([], [])


async def test_the_identity_graph_is_a_place_and_forgets_the_person(place: Workplace) -> None:
    folder = place.settings.profiles_folder
    rows = belongs(f"key:{INES.id}", "CRM:7", "Cookie:abc", "Phone:5")
    load_records(folder, [], graph=[*rows, *belongs("other", "Phone:6")])
    erasure = await place.erased(Wanted("Cookie", "abc"))
    newest = ProfileStore(folder).latest()
    assert Trace("identity graph", newest.id, 3) in erasure.traces
    assert (newest.graph_rows, newest.persons) == (1, 3)
    assert b"Cookie" not in bytes_below(folder)
    assert (await place.erased(Wanted("Phone", "5"))).traces == []


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
    erasure = await place.erased(Wanted("Email", "ines@x"))
    assert Trace("journey", "v1 Email", 1) in erasure.traces
    assert b"ines@x" not in bytes_below(*folders)
    assert b"ines@x" not in root.content
    assert [table.keys for table in live.tables()] == [1]


async def test_a_discard_file_forgets_the_person_and_keeps_its_rows(place: Workplace) -> None:
    job = await export(place, journey=JOURNEY)
    await place.deliver()
    erasure = await place.erased(Wanted("CRM", "8"))
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
    erasure = await place.erased(Wanted("CRM", "8"))
    assert not erasure.is_complete
    (kept,) = (trace for trace in erasure.traces if trace.kept)
    assert (kept.place, kept.name) == ("discards", f"job {job.id}")
    assert "still to be delivered" in kept.kept
    await place.deliver()
    again = await place.erased(Wanted("CRM", "8"))
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
    erasure = await place.erased(Wanted("CRM", "7"))
    (trace,) = erasure.traces
    assert (trace.place, trace.name) == ("snapshot", snapshot)
    assert f"job {job.id} works on it" in trace.kept
    assert ProfileStore(place.settings.profiles_folder).latest().persons == 3
    assert claimed.state is JobState.INITIALIZING


async def test_an_identity_of_several_persons_is_not_erased_by_mistake(place: Workplace) -> None:
    with pytest.raises(SeveralPersons, match="2 persons have the identity Email:shared@x"):
        await place.erased(Wanted("Email", "shared@x"))
    assert ProfileStore(place.settings.profiles_folder).latest().persons == 4
    erasure = await place.erased(Wanted("Email", "shared@x"), everybody=True)
    assert len(erasure.persons) == 2
    assert ProfileStore(place.settings.profiles_folder).latest().persons == 2


async def test_what_an_ended_job_has_left_in_staging_goes_as_well(place: Workplace) -> None:
    job = await place.submit(parse_request({"destination": {"datasetId": DATASET}}))
    staging = place.dataset.staging(job.id)
    (staging / "part-00000-b000-e1.ndjson").replace(b"ines@x")
    await place.erased(Wanted("CRM", "7"))
    assert staging.exists()
    await place.commands.cancel(SCOPE, job.id)
    await place.erased(Wanted("CRM", "7"))
    assert not staging.exists()


async def test_erasures_at_the_same_time_take_turns(place: Workplace) -> None:
    await export(place, destination={"format": "ndjson"})
    both = [Wanted("CRM", "7"), Wanted("CRM", "8")]
    erasures = await asyncio.gather(*(place.erased(one) for one in both))
    assert all(len(erasure.persons) == 1 and erasure.is_complete for erasure in erasures)
    (batch,) = place.dataset.batches()
    assert persons_in(batch) == {one.id for one in PEOPLE[2:]}
    batch.verify()
    assert ProfileStore(place.settings.profiles_folder).latest().persons == 2


async def test_a_load_that_slips_in_while_somebody_is_erased_is_not_lost(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles = place.settings.profiles_folder
    loaded: list[Snapshot] = []

    def holds(*arguments: Any) -> bool:
        with suppress(ProfileStoreBusy):
            loaded.append(snapshot_of(load_records(profiles, [fragment("new")])))
        return _holds(*arguments)

    monkeypatch.setattr("segexport.profiles.erasure._holds", holds)
    assert (await place.erased(Wanted("CRM", "7"))).is_complete
    newest = ProfileStore(profiles).latest()
    assert newest.persons == len(PEOPLE) - 1 + len(loaded)


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
