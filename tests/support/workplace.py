"""A place where workers work: a job store, a profile store and datasets below one folder."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Self

import orjson

from segexport.commands import Commands
from segexport.events.announcement import Voice
from segexport.events.outbox import OutboxRow
from segexport.exports.dataset import Dataset, Datasets
from segexport.exports.erasure import Erasure, Places, erase
from segexport.exports.outlets import Outlets
from segexport.exports.publishing import DiscardFolder
from segexport.exports.workbench import Workbench
from segexport.exports.worker import Worker, worker_of
from segexport.jobs.job import Job, Scope
from segexport.jobs.lifecycle import JobState
from segexport.jobs.reading import parse_request
from segexport.jobs.request import ExportRequest
from segexport.profiles import subjects
from segexport.profiles.builder import Resources
from segexport.profiles.snapshots import ProfileStore
from segexport.service import check
from segexport.settings import ExportSettings, Settings
from segexport.store.sqlite import SqliteStore
from segexport.store.store import Store
from support.people import NOW, Identity, Person
from support.waiting import until

SCOPE = Scope("acme", "prod")
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
"""Forty, of whom twenty are in `GOLD`; of these some have no identity or share one."""
JOURNEY = {"versionId": "v1", "namespace": "Email"}
RESOURCES = Resources(threads=2, memory_limit="256MB")
DATASET = "audience"
NO_OTHERS: Mapping[str, Any] = {}


def request_for(
    *segments: tuple[str, str],
    fields: str = "",
    journey: Mapping[str, Any] | None = None,
    status: Sequence[str] = ("realized",),
    dataset: str = DATASET,
) -> ExportRequest:
    """A request for these (namespace, segment)s."""
    filters = [{"segmentNs": ns, "segmentId": id_, "status": [*status]} for ns, id_ in segments]
    document: dict[str, Any] = {
        "fields": fields,
        "destination": {"datasetId": dataset},
        "filter": {"segments": filters},
    }
    return parse_request(document | ({"journey": journey} if journey else {}))


@dataclass(frozen=True)
class Workplace:
    """Everything below `folder`; several processes may open the same one."""

    folder: Path
    settings: Settings
    store: Store
    voice: Voice
    commands: Commands

    @classmethod
    async def open(
        cls, folder: Path, others: Mapping[str, Any] = NO_OTHERS, **exports: Any
    ) -> Self:
        """Open it. `exports` are settings of the worker, quick ones unless said otherwise;
        `others` are settings besides.
        """
        quick = {
            "lease": timedelta(seconds=2),
            "retry_delay": timedelta(milliseconds=100),
            "attempts": 2,
            "piece_delay": timedelta(milliseconds=20),
            "memory_limit": "512MB",
        }
        settings = Settings(data=folder, exports=ExportSettings(**(quick | exports)), **others)
        store = await SqliteStore.open(settings.store_file)
        identity = store.identity
        voice = Voice.of(identity.id, identity.generation, dialect="xdm", form="uri")
        profiles = ProfileStore(settings.profiles_folder)
        commands = Commands(
            store=store,
            voice=voice,
            check=partial(check, profiles, Datasets.of(settings), Outlets.of(settings)),
            deadline=settings.exports.deadline,
        )
        return cls(folder, settings, store, voice, commands)

    @property
    def datasets(self) -> Datasets:
        """All datasets."""
        return Datasets.of(self.settings)

    @property
    def dataset(self) -> Dataset:
        """The dataset that the requests name."""
        return self.datasets.dataset(SCOPE, DATASET)

    def new_worker(
        self, name: str = "one", change: Callable[[Workbench], Workbench] = lambda bench: bench
    ) -> Worker:
        """A worker that does not run yet, on a workbench that a test may change."""
        worker = worker_of(self.settings, self.store, self.voice, name=name)
        return Worker(change(worker._bench), name=name)

    @asynccontextmanager
    async def working(
        self, worker: Worker | None = None, *, grace: timedelta = timedelta(0)
    ) -> AsyncIterator[Worker]:
        """A worker that runs, and is stopped at the end."""
        worker = worker or self.new_worker()
        running = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            worker.stop(grace)
            await running

    async def submit(self, request: ExportRequest) -> Job:
        """Submit a request."""
        return (await self.commands.submit(SCOPE, request)).job

    async def job(self, job: Job) -> Job:
        """The job as it stands now."""
        return await self.store.get(job.scope, job.id)

    async def ended(self, job: Job, patience: float = 30) -> Job:
        """The job once it has ended."""

        async def has() -> bool:
            return (await self.job(job)).is_terminal

        await until(has, patience, f"job {job.id} has ended")
        return await self.job(job)

    async def reached(self, job: Job, state: JobState, patience: float = 30) -> Job:
        """The job once it is in this state."""

        async def has() -> bool:
            return (await self.job(job)).state is state

        await until(has, patience, f"job {job.id} is {state}")
        return await self.job(job)

    async def deliver(self) -> None:
        """Mark all events as delivered, as the relay would."""
        epoch = await self.store.lead("relay", timedelta(minutes=1))
        assert epoch is not None
        await self.store.mark_delivered("relay", epoch, (await self.store.backlog()).last)

    async def erased(self, identity: subjects.Identity, *, everybody: bool = False) -> Erasure:
        """What comes of erasing the person who has this identity."""
        places = Places(
            profiles=self.settings.profiles_folder,
            datasets=self.datasets,
            scratch=self.settings.datasets_folder,
            discards=DiscardFolder(self.settings.discards_folder),
            journeys=self.settings.journeys_folder,
            store=self.store,
        )
        return await erase(identity, places, now=NOW, resources=RESOURCES, everybody=everybody)

    async def told(self, job: Job) -> Sequence[str]:
        """What the job's event rows are about, in order: queued, started, discards, finished."""
        rows = await self.store.rows_after(0, limit=10_000, max_bytes=2**30)
        mine = [one.row for one in rows if one.row.job_id == job.id]
        assert [row.sequence for row in mine] == sequences(mine)
        return ["discards" if row.discards else row.type.rpartition(".")[2] for row in mine]

    async def last_event(self, job: Job) -> Mapping[str, Any]:
        """The document of the job's last event."""
        rows = await self.store.rows_after(0, limit=10_000, max_bytes=2**30)
        value = [one.row.value for one in rows if one.row.job_id == job.id][-1]
        document: Mapping[str, Any] = orjson.loads(value)
        return document

    def left_behind(self) -> Sequence[str]:
        """Files that no reader should ever see, and that should be gone by now."""
        here = [*self.settings.datasets_folder.glob("**/.staging/**/*")]
        here += self.settings.discards_folder.glob(".staging/*")
        staged = [str(path) for path in here if path.is_file()]
        for _, _, folder in Datasets.of(self.settings).staged():
            staged += [f"{folder}/{name}" for name in folder.sizes()]
        return sorted(set(staged))


def sequences(rows: Sequence[OutboxRow]) -> list[int]:
    """The sequence numbers that these rows should have: no gaps, discards take up many."""
    numbers, following = [], 1
    for row in rows:
        numbers.append(following)
        following += row.discards.rows if row.discards else 1
    return numbers
