"""A place where workers work: a job store, a profile store and datasets below one folder."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import orjson

from segexport.commands import Commands
from segexport.events.announcement import Voice
from segexport.exports.dataset import Dataset, Datasets
from segexport.exports.plan import check_request
from segexport.exports.profiles import ProfileStore
from segexport.exports.worker import Worker, worker_of
from segexport.jobs.job import Job, Scope
from segexport.jobs.request import ExportRequest, parse_request
from segexport.settings import ExportSettings, Settings
from segexport.store.sqlite import SqliteStore
from segexport.store.store import Store
from support.waiting import until

SCOPE = Scope("acme", "prod")
DATASET = "audience"


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
    async def open(cls, folder: Path, **exports: Any) -> Self:
        """Open it. `exports` are settings of the worker, quick ones unless said otherwise."""
        quick = {
            "lease": timedelta(seconds=2),
            "retry_delay": timedelta(milliseconds=100),
            "attempts": 2,
            "memory_limit": "512MB",
        }
        settings = Settings(data=folder, exports=ExportSettings(**(quick | exports)))
        store = await SqliteStore.open(settings.store_file)
        identity = store.identity
        voice = Voice.of(identity.id, identity.generation, dialect="xdm", form="uri")
        profiles = ProfileStore(settings.profiles_folder)
        commands = Commands(
            store=store,
            voice=voice,
            check=lambda request: check_request(request, profiles.latest()),
            deadline=settings.exports.deadline,
        )
        return cls(folder, settings, store, voice, commands)

    @property
    def dataset(self) -> Dataset:
        """The dataset that the requests name."""
        return Datasets(self.settings.datasets_folder).dataset(SCOPE, DATASET)

    def new_worker(self, name: str = "one") -> Worker:
        """A worker that does not run yet."""
        return worker_of(self.settings, self.store, self.voice, name=name)

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
        return await self.store.get(SCOPE, job.id)

    async def ended(self, job: Job, patience: float = 30) -> Job:
        """The job once it has ended."""

        async def has() -> bool:
            return (await self.job(job)).is_terminal

        await until(has, patience, f"job {job.id} has ended")
        return await self.job(job)

    async def events(self, job: Job) -> Sequence[Mapping[str, Any]]:
        """The event rows of a job as they go to Kafka, in order."""
        rows = await self.store.rows_after(0, limit=10_000, max_bytes=2**30)
        return [orjson.loads(one.row.value) for one in rows if one.row.job_id == job.id]
