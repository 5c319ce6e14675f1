"""Erasure: a person is taken out of everything that segexport keeps, and it is told where.

In this order: refused records and live instances of journeys, which are found by identities
that only the profile store knows; the profile store, whose next snapshot is without the person;
then, so that nothing new is made of what is being erased, discard files and batches, which are
found by ids that are remembered. So an erasure that was killed anywhere is finished by the same
one. What an unfinished job still needs stays, is named, and is erased when the same is asked
again after the job has ended.

Records that are in Kafka stay: of a discarded profile they hold the person's id, a number
made from the person key, which nothing here can turn back any more.
"""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from segexport.errors import DiscardsWaiting, SeveralPersons
from segexport.exports.dataset import Datasets
from segexport.exports.disk import alone, make_folder
from segexport.exports.erasing import erase_from_batch, is_searchable
from segexport.exports.instances import Instances, sandboxes
from segexport.exports.publishing import DiscardFolder
from segexport.exports.redaction import redacted, rows_of, sweep
from segexport.exports.sweeping import sweep_staging
from segexport.jobs.job import Job
from segexport.jobs.lifecycle import JobState
from segexport.jobs.publication import DiscardFile
from segexport.profiles import erasure as profiles
from segexport.profiles.builder import Resources
from segexport.profiles.builder import sweep as sweep_store
from segexport.profiles.erasure import Unfinished
from segexport.profiles.snapshots import ProfileStore
from segexport.profiles.subjects import Identity, Subject, find, person_ids
from segexport.store.store import Store

UNPINNED: Final = (JobState.PREPARING_FOR_INITIALIZATION,)
"""In these states a job may be about to work on any snapshot."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Where a person was found: in what, which, and in how many rows (1 for a whole).

    `kept` says why it is still there, and is empty where it is gone.
    """

    place: str
    name: str
    rows: int
    kept: str = ""


@dataclass(frozen=True, slots=True)
class Erasure:
    """What an erasure has done: whom it was about, and where they were."""

    persons: Sequence[Subject]
    traces: Sequence[Trace]

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left."""
        return not any(trace.kept for trace in self.traces)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where segexport keeps what it knows of persons.

    `scratch` is the folder of this machine's part of datasets that lie elsewhere.
    """

    profiles: Path
    datasets: Datasets
    scratch: Path
    discards: DiscardFolder
    journeys: Path
    store: Store


async def erase(
    identity: Identity, places: Places, *, now: datetime, resources: Resources, everybody: bool
) -> Erasure:
    """Erase the person who has this identity; with `everybody`, all who have it.

    One after the other: waits for another erasure that runs. Raises `SeveralPersons` where
    several have it and not everybody is meant, and what the profile store, the datasets and
    the job store raise; asked again, it goes on.
    """
    with ExitStack() as held:
        lock = places.profiles / "erasures"
        await asyncio.to_thread(make_folder, lock)
        await asyncio.to_thread(held.enter_context, alone(lock))
        await asyncio.to_thread(sweep_store, places.profiles)
        await sweep_staging(places.store, places.datasets, places.scratch, places.discards)
        return await _erase(identity, places, now=now, resources=resources, everybody=everybody)


async def _erase(
    identity: Identity, places: Places, *, now: datetime, resources: Resources, everybody: bool
) -> Erasure:
    found = await asyncio.to_thread(find, places.profiles, identity)
    if len(found) > 1 and not everybody:
        keys = ", ".join(repr(subject.person_key) for subject in found)
        raise SeveralPersons(
            f"{len(found)} persons have the identity {identity}: {keys}; name an identity that "
            "only one of them has, or erase all of them with --all"
        )
    # What was exported of a person whom the store has forgotten is found by the key alone.
    subjects = found or [Subject(0, str(identity), frozenset({identity}))]
    ids = await asyncio.to_thread(person_ids, places.profiles, subjects)
    unfinished = Unfinished(places.profiles, identity)
    ids = await asyncio.to_thread(unfinished.begin, ids - {0})
    jobs = await places.store.unfinished()
    traces = [
        *await asyncio.to_thread(_from_rejects, places, subjects),
        *await asyncio.to_thread(_from_journeys, places, subjects),
        *await asyncio.to_thread(_from_snapshots, places, found, now, resources, jobs),
        *await _from_discards(places, ids),
        *await asyncio.to_thread(_from_batches, places, ids),
    ]
    erasure = Erasure(found, traces)
    if erasure.is_complete:
        await asyncio.to_thread(unfinished.end)
    return erasure


def _from_snapshots(
    places: Places,
    subjects: Sequence[Subject],
    now: datetime,
    resources: Resources,
    jobs: Sequence[Job],
) -> Sequence[Trace]:
    if not subjects:
        return []
    users = {job.snapshot: job for job in jobs if job.snapshot}
    undecided = next((job for job in jobs if job.state in UNPINNED and not job.snapshot), None)
    in_use = set(users)
    if undecided is not None:
        in_use |= set(ProfileStore(places.profiles).ids())
    erased = profiles.erase_from_snapshots(
        places.profiles, subjects, now=now, resources=resources, in_use=in_use
    )
    gone = [Trace("snapshot", snapshot_id, len(subjects)) for snapshot_id in erased.deleted]
    if erased.made is not None and erased.graph_rows:
        gone.append(Trace("identity graph", erased.made.id, erased.graph_rows))
    kept = [
        Trace(
            "snapshot",
            snapshot_id,
            len(subjects),
            f"job {job.id} works on it; erase again when that has ended",
        )
        for snapshot_id in erased.in_use
        for job in [users.get(snapshot_id) or undecided]
        if job is not None
    ]
    return [*gone, *kept]


def _from_rejects(places: Places, subjects: Sequence[Subject]) -> Sequence[Trace]:
    rows = profiles.erase_from_rejects(places.profiles, subjects)
    return [Trace("refused records", str(places.profiles / "rejects"), rows)] if rows else []


def _from_journeys(places: Places, subjects: Sequence[Subject]) -> Sequence[Trace]:
    traces = []
    for scope in sandboxes(places.journeys):
        instances = Instances(places.journeys, scope)
        instances.sweep()
        for table in list(instances.tables()):
            keys = {
                identity.id
                for subject in subjects
                for identity in subject.identities
                if identity.namespace == table.namespace
            }
            rows = instances.forget(table.version, table.namespace, keys) if keys else 0
            if rows:
                traces.append(Trace("journey", f"{table.version} {table.namespace}", rows))
    return traces


async def _from_discards(places: Places, persons: Collection[int]) -> Sequence[Trace]:
    traces = []
    for job_id, file in await places.store.discard_files():
        await asyncio.to_thread(sweep, job_id, file)
        rows = await asyncio.to_thread(_rows_of, file, persons)
        if not rows:
            continue
        copy = await asyncio.to_thread(redacted, file, persons)
        try:
            await places.store.replace_discards(job_id, file, copy)
        except DiscardsWaiting as waiting:
            await asyncio.to_thread(sweep, job_id, file)
            traces.append(Trace("discards", f"job {job_id}", rows, str(waiting)))
        else:
            await asyncio.to_thread(sweep, job_id, copy)
            traces.append(Trace("discards", f"job {job_id}", rows))
    return traces


def _rows_of(file: DiscardFile, persons: Collection[int]) -> int:
    """Rows that name one of the persons; 0 where the file was removed by somebody."""
    return rows_of(file, persons) if Path(file.path).exists() else 0


def _from_batches(places: Places, persons: Collection[int]) -> Sequence[Trace]:
    traces = []
    root = f"{places.datasets.root}/"
    for _, dataset in places.datasets.every():
        for batch in dataset.batches():
            name = str(batch.folder).removeprefix(root)
            if not is_searchable(batch):
                why = "it was written without person ids: delete it, and export it again"
                traces.append(Trace("batch", name, 0, why))
                continue
            rows = erase_from_batch(batch, persons)
            if rows:
                traces.append(Trace("batch", name, rows))
    return traces
