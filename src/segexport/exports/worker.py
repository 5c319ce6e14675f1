"""The worker: claims jobs and carries them to their end, several at once."""

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Final
from uuid import uuid4

import structlog

from segexport.commands import advance
from segexport.errors import JobNotFound, LeaseLost, SegexportError, StoreReplaced, StoreUnavailable
from segexport.events.announcement import Voice
from segexport.exports.attempt import Attempt
from segexport.exports.budget import Budget
from segexport.exports.dataset import Datasets
from segexport.exports.engines.choice import engine_of
from segexport.exports.outlets import Outlets
from segexport.exports.publishing import DiscardFolder
from segexport.exports.sweeping import sweep_staging
from segexport.exports.workbench import Workbench
from segexport.jobs import job as steps
from segexport.jobs.job import Job
from segexport.profiles.snapshots import ProfileStore
from segexport.race import race
from segexport.settings import Settings
from segexport.store.store import JobStore, Lease

log: Final = structlog.stdlib.get_logger(__name__)

LONGEST_WAIT: Final = timedelta(seconds=1)
"""Leases run out and delays pass without a change in the store, so the worker looks again
after this time even if nothing happens."""
BETWEEN_CLAIMS: Final = 0.02
"""Seconds, at least, from one claim that found nothing to the next, however much the store
changes meanwhile."""
AFTER_OUTAGE: Final = 1.0
"""Seconds until a store that could not be reached is tried again."""
BETWEEN_SWEEPS: Final = timedelta(minutes=10)


def worker_of(settings: Settings, store: JobStore, voice: Voice, *, name: str) -> "Worker":
    """A worker as the settings say. `name` tells it apart from all others.

    Raises as `engine_of` does.
    """
    exports = settings.exports
    datasets = Datasets.of(settings)
    return Worker(
        Workbench(
            store=store,
            voice=voice,
            profiles=ProfileStore(settings.profiles_folder),
            engine=engine_of(settings),
            datasets=datasets,
            scratch=settings.datasets_folder,
            outlets=Outlets.of(settings),
            budget=Budget(datasets.root, settings.datasets_folder, exports.disk_budget_bytes),
            discards=DiscardFolder(settings.discards_folder),
            journeys=settings.journeys_folder,
            settings=exports,
            threads=ThreadPoolExecutor(
                exports.jobs_in_flight * 2 + exports.slots + 1,
                thread_name_prefix="export",
            ),
            slots=asyncio.Semaphore(exports.slots),
            jitter=random.random,
            new_batch_id=lambda: uuid4().hex,
        ),
        name=name,
    )


class Worker:
    """Works on up to `jobs_in_flight` jobs of the store until it is told to stop. Runs once."""

    def __init__(self, bench: Workbench, *, name: str) -> None:
        self._bench = bench
        self._name = name
        self._running: dict[asyncio.Task[None], Attempt] = {}
        self._stopping = asyncio.Event()
        self._grace = timedelta(0)

    async def run(self) -> None:
        """Claim and work until `stop`; then, or when cancelled, hand back what is unfinished.

        Raises, after the same, what neither claiming nor sweeping can wait out.
        """
        try:
            await race(self._stopping.wait(), self._claim_for_ever(), self._sweep_for_ever())
        finally:
            await self._wind_down()
            self._bench.threads.shutdown(wait=False)
            self._bench.engine.close()

    def stop(self, grace: timedelta = timedelta(0)) -> None:
        """Make `run` return: running pieces have `grace` to end, then they are interrupted."""
        self._grace = grace
        self._stopping.set()

    async def _wind_down(self) -> None:
        for attempt in self._running.values():
            attempt.wind_down()
        if self._running:
            await asyncio.wait(self._running, timeout=self._grace.total_seconds())
        for attempt in self._running.values():
            attempt.stop()
        if self._running:
            await asyncio.wait(self._running)

    async def _claim_for_ever(self) -> None:
        clock = asyncio.get_running_loop().time
        seen = 0
        while True:
            if len(self._running) >= self._bench.settings.jobs_in_flight:
                await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
                continue
            try:
                claimed = clock()
                job = await self._claim()
                if job is not None:
                    self._start(job)
                    continue
                await self._let_wait()
                patience = min(self._bench.settings.lease / 3, LONGEST_WAIT)
                seen = await self._bench.store.wait_for_change(seen, patience)
                await asyncio.sleep(max(0.0, claimed + BETWEEN_CLAIMS - clock()))
            except StoreUnavailable as error:
                log.warning("the store cannot be reached", error=str(error))
                await asyncio.sleep(AFTER_OUTAGE)

    async def _claim(self) -> Job | None:
        store = self._bench.store
        settings = self._bench.settings
        claiming = asyncio.create_task(
            store.claim(self._name, settings.lease, limit=settings.jobs_per_organization)
        )
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # What was claimed while we were told to stop must not wait for its lease to end.
            with suppress(StoreUnavailable, StoreReplaced):
                job = await claiming
                if job is not None:
                    await store.release(Lease(job.id, self._name, job.epoch))
            raise

    async def _let_wait(self) -> None:
        """Say of new jobs that they wait, where their organizations run as many as they may."""
        bench = self._bench
        for job in await bench.store.held_back(bench.settings.jobs_per_organization):
            with suppress(LeaseLost, JobNotFound):  # somebody else has changed it meanwhile
                await advance(bench.store, bench.voice, job, steps.wait)

    def _start(self, job: Job) -> None:
        attempt = Attempt(self._bench, job, owner=self._name)
        task = asyncio.create_task(self._work(attempt, job))
        self._running[task] = attempt
        task.add_done_callback(self._running.pop)

    async def _work(self, attempt: Attempt, job: Job) -> None:
        structlog.contextvars.bind_contextvars(job_id=job.id)
        log.info("job claimed", state=job.state.value, epoch=job.epoch)
        try:
            await attempt.run()
        except (LeaseLost, JobNotFound) as error:
            log.warning("job lost", error=str(error))
        except (StoreUnavailable, StoreReplaced) as error:
            log.warning("job left until its lease runs out", error=str(error))
        except Exception:
            # Its lease runs out, another attempt follows: a store's hiccup heals so, and
            # what is a mistake of ours ends when the job has been taken over too often.
            log.exception("job left because of an unexpected error")

    async def _sweep_for_ever(self) -> None:
        bench = self._bench
        while True:
            try:
                await sweep_staging(bench.store, bench.datasets, bench.scratch, bench.discards)
            except (SegexportError, OSError) as error:
                log.warning("staging could not be swept", error=str(error))
            await asyncio.sleep(BETWEEN_SWEEPS.total_seconds())
