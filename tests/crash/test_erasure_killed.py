"""An erasure that is killed is finished by the same one: nothing of the person is left."""

import gzip
import itertools
import json
import shutil
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest

from segexport.exports.instances import Instances
from segexport.jobs.reading import parse_request
from segexport.profiles.snapshots import ProfileStore
from segexport.profiles.subjects import Identity as Wanted
from segexport.sql import parquet
from segexport.store.discards import DiscardReader
from support import erase_process
from support.forked import Forked
from support.people import Identity, Person, write_snapshot
from support.workplace import RESOURCES, SCOPE, Workplace

pytestmark = pytest.mark.crash

INES = Person(
    (1 << 50) + 1,
    [{"personalEmail.address": "ines@x"}],
    {"Email": [Identity("ines@x")], "CRM": [Identity("c-7000")], "Phone": [Identity("p-7001")]},
)
OTHERS = [
    Person((1 << 50) + 4, identities={"Email": [Identity("other@x")]}),
    Person((1 << 50) + 5, identities={"CRM": [Identity("c-9")]}),
]
STRIDE = 4
"""Each run of the test kills at every fourth of the places where an erasure can be killed."""
WORDS = ("ines@x", "c-7000", "p-7001", str(INES.id))
ORDERS: list[Mapping[str, Any]] = [
    {"destination": {"datasetId": "plain"}},
    {"destination": {"datasetId": "lines", "format": "ndjson.gz"}},
    {
        "destination": {"datasetId": "spring"},
        "fields": "identityMap",
        "journey": {"versionId": "v1", "namespace": "Phone", "testMode": True},
    },
]


def words_below(folder: Path) -> Iterator[tuple[str, Path]]:
    """The person's words in the files below the folder that are not the store of jobs."""
    with duckdb.connect() as database:
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or path.name.startswith("jobs.sqlite"):
                continue
            if path.suffix == ".parquet":
                content = repr(database.execute(f"SELECT * FROM {parquet([path])}").fetchall())
            elif path.suffix == ".gz":
                content = gzip.decompress(path.read_bytes()).decode()
            else:
                content = path.read_bytes().decode(errors="replace")
            yield from ((word, path) for word in WORDS if word in content)


async def fill(place: Workplace) -> None:
    """Leave something of the person in every place, and beside it something of others."""
    profiles, live = (
        place.settings.profiles_folder,
        Instances(place.settings.journeys_folder, SCOPE),
    )
    for number in (1, 2):
        write_snapshot(profiles, [INES, *OTHERS], snapshot_id=f"{number:08d}-20260301T120000Z")
    async with place.working():
        for order in ORDERS:
            await place.ended(await place.submit(parse_request(order)))
    await place.deliver()
    rejects = profiles / "rejects"
    rejects.mkdir()
    (rejects / "load.ndjson").write_text(
        "".join(f"{json.dumps({'record': json.dumps({'id': key})})}\n" for key in ("p-7001", "p-1"))
    )
    keys = place.folder / "keys.txt"
    for namespace, key in (("Phone", "p-7001"), ("CRM", "c-7000")):
        keys.write_text(f"{key}\nsomebody else\n")
        live.add("v1", namespace, [keys], RESOURCES)
    keys.unlink()


@pytest.fixture(scope="module")
def eraser() -> Iterator[Forked]:
    with Forked(erase_process) as forked:
        yield forked


@pytest.mark.parametrize("first", range(1, STRIDE + 1))
async def test_an_erasure_goes_on_wherever_it_was_killed(
    first: int, eraser: Forked, tmp_path: Path
) -> None:
    folder, kept = tmp_path / "place", tmp_path / "kept"
    folder.mkdir()
    place = await Workplace.open(folder)
    await fill(place)
    await place.store.close()
    assert {word for word, _ in words_below(folder)} == {*WORDS}
    folder.rename(kept)
    for nth in itertools.count(first, STRIDE):
        shutil.copytree(kept, folder)
        status = eraser.run(str(folder), "CRM:c-7000", f"{nth}")
        await assert_that_the_same_again_finishes_it(folder)
        shutil.rmtree(folder)
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert nth > 20


async def assert_that_the_same_again_finishes_it(folder: Path) -> None:
    place = await Workplace.open(folder)
    assert (await place.erased(Wanted("CRM", "c-7000"))).is_complete
    assert not list(words_below(folder))
    assert ProfileStore(place.settings.profiles_folder).latest().persons == len(OTHERS)
    for _, dataset in place.datasets.every():
        for batch in dataset.batches():
            batch.verify()
            files = {file.name for file in batch.manifest.files}
            assert batch.folder.sizes().keys() == {"manifest.json", *files}
    for _, file in await place.store.discard_files():
        with DiscardReader(file) as reader:
            assert len(reader.read(10)) == file.rows == len(OTHERS) + 1
    live = Instances(place.settings.journeys_folder, SCOPE)
    assert {table.namespace: table.keys for table in live.tables()} == {"Phone": 1, "CRM": 1}
    await place.store.close()
