"""A worker carries jobs to their end: what is in the dataset, the store and the events."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from segexport.jobs.lifecycle import JobState
from segexport.jobs.publication import Counts
from segexport.store.discards import DiscardReader
from support.people import Identity, Person, write_snapshot
from support.workplace import Workplace, request_for

GOLD = ("ups", "gold")
PEOPLE = [
    Person(
        number,
        [{"person.name.lastName": f"n{number}"}],
        {"Email": [Identity(f"m{number % 9}")]} if number % 5 else None,
        memberships={GOLD: "realized"} if number % 2 else {},
    )
    for number in range(1, 41)
]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Workplace]:
    place = await Workplace.open(tmp_path)
    write_snapshot(place.settings.profiles_folder, PEOPLE, buckets=4)
    yield place
    await place.store.close()


def query(sql: str) -> list[Any]:
    with duckdb.connect() as database:
        return database.execute(sql).fetchall()


async def test_an_export_ends_as_a_batch_with_exact_counts(place: Workplace) -> None:
    async with place.working():
        job = await place.ended(await place.submit(request_for(GOLD)))
    assert job.state is JobState.COMPLETED
    assert job.counts == Counts(total=20, realized=20, failed=0)
    (batch,) = place.dataset.batches()
    batch.verify()
    assert batch.manifest.job == job.id
    found = query(f"SELECT person.name.lastName FROM {batch.relation} ORDER BY 1")
    assert found == sorted((f"n{number}",) for number in range(1, 41, 2))


async def test_a_journey_leaves_a_discard_for_each_profile_that_it_cannot_take(
    place: Workplace,
) -> None:
    journey = {"versionId": "v1", "namespace": "Email"}
    async with place.working():
        job = await place.ended(await place.submit(request_for(GOLD, journey=journey)))
    assert job.state is JobState.COMPLETED
    assert job.publication is not None
    assert job.publication.discards is not None
    with DiscardReader(job.publication.discards) as reader:
        discards = reader.read(100)
    assert job.counts == Counts(total=20, realized=20 - len(discards), failed=len(discards))
    assert [row[2] for row in discards] == sorted(
        (row[2] for row in discards), key=lambda person: (person % 4, person)
    )
    assert {row[3] for row in discards} == {
        "ERROR_INSTANCE_NO_IDENTITY_MAP",
        "ERROR_INSTANCE_DUPLICATION",
    }
