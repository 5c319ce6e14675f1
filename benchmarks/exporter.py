"""Exports through a real worker: what is measured as segexport's side.

All of it, from the submission of the job to its end: the checks of the request, claim, lease,
selection, merge, counts per namespace, checksums, fsync, publication, the job's events in the
store.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from segexport.commands import Commands
from segexport.exports.worker import worker_of
from segexport.jobs.job import Scope
from segexport.jobs.lifecycle import JobState
from segexport.jobs.reading import parse_request
from segexport.jobs.request import ExportRequest
from segexport.profiles.snapshots import SegmentSize
from segexport.service import commands_of, open_store, voice_of
from segexport.settings import Settings
from segexport.telemetry import configure_logging

SCOPE: Final = Scope("local", "prod")
PATIENCE: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Wanted:
    """An export to a dataset: of everyone, of one segment, or of several with a batch each.

    With a `namespace` it is for a journey, whose keys are in that namespace.
    """

    dataset: str
    segments: Sequence[SegmentSize] = ()
    namespace: str | None = None

    @property
    def request(self) -> ExportRequest:
        """The request as the worker gets it."""
        segments = [{"segmentNs": one.namespace, "segmentId": one.segment} for one in self.segments]
        document = {
            "destination": {"datasetId": self.dataset, "segmentPerBatch": len(segments) > 1},
            "filter": {"segments": segments},
        }
        if self.namespace:
            document["journey"] = {"versionId": "v1", "namespace": self.namespace}
        return parse_request(document)


class Exporter:
    """A worker that runs, and the commands to give it jobs."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def export(self, wanted: Wanted) -> int:
        """Export, wait for the end, and return the profiles selected."""
        store = self._commands.store
        job = (await self._commands.submit(SCOPE, wanted.request)).job
        seen = 0
        while not job.is_terminal:
            seen = await store.wait_for_change(seen, PATIENCE)
            job = await store.get(SCOPE, job.id)
        if job.state is not JobState.COMPLETED or job.counts is None:
            raise RuntimeError(f"the export has failed: {job.fault}")
        return job.counts.total


@asynccontextmanager
async def exporter(settings: Settings) -> AsyncIterator[Exporter]:
    """A worker on the store and the profiles of the settings."""
    configure_logging(level="warning")
    async with open_store(settings) as store:
        worker = worker_of(settings, store, voice_of(settings, store), name="benchmark")
        running = asyncio.create_task(worker.run())
        try:
            yield Exporter(commands_of(settings, store))
        finally:
            worker.stop()
            await running
