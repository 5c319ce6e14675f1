"""A worker's hold on a job: renewed in the background, and watched for its end."""

import asyncio
from collections.abc import Callable, Collection
from datetime import timedelta
from enum import StrEnum
from types import TracebackType
from typing import Final, Self

import structlog

from segexport.errors import JobNotFound, LeaseLost, StoreReplaced, StoreUnavailable
from segexport.jobs.job import Job
from segexport.jobs.lifecycle import JobState
from segexport.store.store import JobStore, Lease

log: Final = structlog.stdlib.get_logger(__name__)

PAUSE: Final = 0.1
"""Seconds between two looks at the job, however much happens in the store: bounds what
watching costs, and is well below the second within which a cancel is honoured."""
LONGEST_WAIT: Final = 1.0
"""Seconds until progress is noted again, and until a change is noticed that the store's
wake-up has missed."""


class End(StrEnum):
    """Why work on a job has to stop before it is done."""

    CANCELLED = "cancelled"  # somebody asked
    LOST = "lost"  # the lease ran out, another worker may have the job
    DEADLINE = "deadline"  # the job's time is up
    STOPPED = "stopped"  # this worker is told to go


class Hold:
    """Holds a claimed job as long as the context is open.

    Renews the lease three times within its `duration`, with `progress()` noted each time,
    and notices within a fraction of a second when the job is cancelled.
    """

    def __init__(
        self,
        store: JobStore,
        job: Job,
        *,
        owner: str,
        duration: timedelta,
        progress: Callable[[], float],
    ) -> None:
        self.lease = Lease(job.id, owner, job.epoch)
        self._store = store
        self._job = job
        self._duration = duration
        self._progress = progress
        self._ends: set[End] = set()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def ended(self, ends: Collection[End]) -> End:
        """Wait until one of these ends has come."""
        while not (come := [end for end in End if end in self._ends and end in ends]):
            self._news.clear()
            await self._news.wait()
        return come[0]

    def stop(self) -> None:
        """Bring about `End.STOPPED`."""
        self._come(End.STOPPED)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def _come(self, end: End) -> None:
        self._ends.add(end)
        self._news.set()

    async def _keep(self) -> None:
        try:
            await self._watch()
        except Exception:
            log.exception("the lease is given up because of an unexpected error")
            self._come(End.LOST)

    async def _watch(self) -> None:
        clock = asyncio.get_running_loop().time
        every = min(self._duration.total_seconds() / 3, LONGEST_WAIT)
        deadline = await self._deadline(clock())
        renewed = clock()
        due = renewed + every
        seen = 0
        while End.LOST not in self._ends:
            try:
                if clock() >= due:
                    asked = clock()
                    job = await self._store.renew(
                        self.lease, self._duration, progress=self._progress()
                    )
                    renewed, due = asked, asked + every
                else:
                    job = await self._store.get(self._job.scope, self._job.id)
                self._look(job)
                patience = min(due, deadline) - clock()
                seen = await self._store.wait_for_change(
                    seen, timedelta(seconds=max(0.0, patience))
                )
            except (LeaseLost, JobNotFound, StoreReplaced):
                self._come(End.LOST)
            except StoreUnavailable as error:
                log.warning("the lease cannot be renewed", error=str(error))
            if clock() - renewed > self._duration.total_seconds():
                # Nobody has told us, but the store may have given the job away by now.
                self._come(End.LOST)
            if clock() >= deadline:
                self._come(End.DEADLINE)
                deadline = float("inf")
            await asyncio.sleep(PAUSE)

    def _look(self, job: Job) -> None:
        if job.epoch != self.lease.epoch:
            self._come(End.LOST)
        elif job.state is JobState.CANCELLING:
            self._come(End.CANCELLED)

    async def _deadline(self, now: float) -> float:
        """The job's deadline on the event loop's clock."""
        if self._job.deadline is None:
            return float("inf")
        left = self._job.deadline - await self._store.now()
        return now + left.total_seconds()
