"""What every job on a worker is done with."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from segexport.events.announcement import Voice
from segexport.exports.budget import Budget
from segexport.exports.dataset import Datasets
from segexport.exports.engine import Engine
from segexport.exports.interruption import interruptible
from segexport.exports.outlets import Outlets
from segexport.exports.publishing import DiscardFolder
from segexport.exports.staging import Staging
from segexport.jobs.job import Job
from segexport.profiles.snapshots import ProfileStore
from segexport.settings import ExportSettings
from segexport.store.store import JobStore

T = TypeVar("T")

BETWEEN_INTERRUPTS: Final = 0.02
"""Seconds: an interrupt misses a query that is just about to begin, so it is repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workbench:
    """The store, the engine and the folders that a worker works with.

    Whatever blocks runs in `threads`, so that leases are renewed and cancels are noticed
    meanwhile. A piece runs while it holds one of the `slots`, which are given in the order
    in which they were asked for: jobs take turns. `jitter` is a number from 0 to 1, by which
    delays are lengthened so that what failed together is not tried again together. Datasets
    on an object store are written by way of `scratch`, a folder of this machine; `outlets` are
    where endpoint definitions go.
    """

    store: JobStore
    voice: Voice
    profiles: ProfileStore
    engine: Engine
    datasets: Datasets
    scratch: Path
    outlets: Outlets
    budget: Budget
    discards: DiscardFolder
    journeys: Path
    settings: ExportSettings
    threads: Executor
    slots: asyncio.Semaphore
    jitter: Callable[[], float]
    new_batch_id: Callable[[], str]

    def staging(self, job: Job) -> Staging:
        """The staging of a job that this worker holds."""
        destination = job.request.destination
        dataset = self.datasets.dataset(job.scope, destination.dataset_id)
        return Staging(dataset, job.id, job.epoch, self.scratch, destination.format)

    async def read(self, call: Callable[[], T]) -> T:
        """Run in a thread what only reads. When this is cancelled, nobody waits for it: a
        file system that does not answer must not hold up a cancel.
        """
        return await asyncio.get_running_loop().run_in_executor(self.threads, call)

    async def in_thread(
        self, call: Callable[[], T], interrupt: Callable[[], None] = lambda: None
    ) -> T:
        """Run in a thread what blocks and writes.

        When this is cancelled, `interrupt` is called until the thread has ended, and requests
        to an object store are broken off; so nothing goes on behind the back of whoever
        waited for it.
        """
        told = threading.Event()
        running = asyncio.get_running_loop().run_in_executor(
            self.threads, interruptible(call, told)
        )
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            told.set()
            while not running.done():
                interrupt()
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({running}, timeout=BETWEEN_INTERRUPTS)
            running.exception()
            raise
