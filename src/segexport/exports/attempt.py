"""One worker's work on one job: from wherever its state stands to its end."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from segexport.commands import advance
from segexport.errors import DatasetError, LeaseLost, StoreReplaced, StoreUnavailable
from segexport.exports.faults import after_fault, seek_cause
from segexport.exports.hold import End, Hold
from segexport.exports.instances import Instances
from segexport.exports.plan import ExportPlan, plan_export, resolve_policy, upper_bound
from segexport.exports.processing import Processing
from segexport.exports.publishing import publish
from segexport.exports.segmentation import evaluation_for
from segexport.exports.staging import LIVE_INSTANCES
from segexport.exports.workbench import Workbench
from segexport.faults import translated
from segexport.jobs import job as steps
from segexport.jobs.job import Fault, FaultKind, Job, Step
from segexport.jobs.lifecycle import JobState
from segexport.profiles.snapshots import Snapshot

log: Final = structlog.stdlib.get_logger(__name__)

TAKEOVERS: Final = 20
"""A job that so many workers have left without finishing it is given up: it may be what
brings them down."""

SWEEPING: Final = 2.0
"""Seconds that the end of a failed or cancelled job waits for an object store."""

ROLLING: Final = (JobState.COMPLETING, JobState.FAILING, JobState.CANCELLING)
"""In these states a job only goes on: neither a cancel nor a deadline turns it around."""


class Attempt:
    """Walks a claimed job from state to state until it ends, waits, or is handed back.

    Each state has one piece of work, which gives the step into the next one. A cancel, a
    deadline, a lost lease or a stop interrupt the work and decide what follows instead.
    """

    def __init__(self, bench: Workbench, job: Job, *, owner: str) -> None:
        self._bench = bench
        self._job = job
        self._processing: Processing | None = None
        self._winding_down = False
        self._hold = Hold(
            bench.store,
            job,
            owner=owner,
            duration=bench.settings.lease,
            progress=self._progress,
        )
        self._work: Mapping[JobState, Callable[[Job], Awaitable[Step | None]]] = {
            JobState.CREATED: self._begin,
            JobState.PENDING_JOB: self._begin,
            JobState.PREPARING_FOR_INITIALIZATION: self._pin_snapshot,
            JobState.INITIALIZING: self._initialize,
            JobState.PROCESSING: self._process,
            JobState.COMPLETING: self._publish,
            JobState.FAILING: self._clean_up,
            JobState.CANCELLING: self._clean_up,
        }

    def wind_down(self) -> None:
        """Begin nothing new: pieces that run may end, then the job is handed back."""
        self._winding_down = True
        if self._processing:
            self._processing.wind_down()

    def stop(self) -> None:
        """Interrupt what runs and hand the job back."""
        self.wind_down()
        self._hold.stop()

    async def run(self) -> None:
        """Raises `LeaseLost` if another worker has the job now, and `StoreUnavailable`."""
        async with self._hold:
            job = self._job
            while not job.is_terminal:
                try:
                    step = await self._next_step(job)
                    if step is None:
                        await self._bench.store.release(self._hold.lease)
                        log.info("job handed back", state=job.state.value)
                        return
                    job = await advance(self._bench.store, self._bench.voice, job, step)
                except LeaseLost:
                    # Either the job is lost, or somebody has cancelled it meanwhile.
                    job = await self._mine(job)
                    continue
                if job.state is JobState.PENDING_JOB:
                    return

    async def _mine(self, before: Job) -> Job:
        """The job as somebody else has changed it, if it is still ours."""
        job = await self._bench.store.get(before.scope, before.id)
        if job.epoch != self._hold.lease.epoch or job.state is before.state:
            raise LeaseLost(f"job {job.id} is no longer held by this worker")
        return job

    async def _next_step(self, job: Job) -> Step | None:
        """The step that the job takes from here; None: it is to be handed back."""
        if job.state in ROLLING:
            return await self._until({End.LOST, End.STOPPED}, job)
        if self._winding_down:
            return None
        if job.epoch - job.attempts > TAKEOVERS:
            words = f"{TAKEOVERS} workers have left it unfinished; {seek_cause(job)}"
            return _failing(FaultKind.FAILED, words)
        return await self._until(set(End), job)

    async def _until(self, ends: set[End], job: Job) -> Step | None:
        """Do the work of the job's state, unless one of these ends comes first."""
        work = asyncio.ensure_future(self._work[job.state](job))
        end = asyncio.ensure_future(self._hold.ended(ends))
        try:
            await asyncio.wait({work, end}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
        except (LeaseLost, StoreReplaced, StoreUnavailable):
            raise
        except Exception as error:
            words = str(translated(error) or error)
            log.warning("a fault", state=job.state.value, error=words, exc_info=_bug(error))
            return after_fault(error, job, self._bench.settings)
        finally:
            work.cancel()
            end.cancel()
            await asyncio.wait({work, end})
            if not work.cancelled():
                work.exception()  # an end has come first: what the work met no longer counts
        return self._after(end.result(), job)

    def _after(self, end: End, job: Job) -> Step | None:
        log.info("work interrupted", why=end.value, state=job.state.value)
        match end:
            case End.DEADLINE:
                return _failing(FaultKind.DEADLINE, f"not finished by {job.deadline}")
            case End.STOPPED:
                return None
            case End.CANCELLED | End.LOST:
                raise LeaseLost(f"job {job.id} is {end.value}")

    async def _begin(self, job: Job) -> Step:
        del job
        return steps.claim

    async def _pin_snapshot(self, job: Job) -> Step:
        segmentation = job.request.evaluation_info.segmentation and not job.snapshot
        snapshot = await (self._evaluated(job) if segmentation else self._snapshot(job))
        return partial(steps.initialize, snapshot=snapshot.id)

    async def _evaluated(self, job: Job) -> Snapshot:
        """The snapshot with the segments evaluated for this job; made once, whoever tries."""
        bench, now = self._bench, await self._bench.store.now()
        evaluation = await bench.read(
            partial(evaluation_for, job, bench.profiles, now=now, settings=bench.settings)
        )
        return await bench.in_thread(evaluation.run, evaluation.interrupt)

    async def _initialize(self, job: Job) -> Step:
        snapshot = await self._snapshot(job)
        # Pieces of an earlier attempt are kept, so what they cover must stay the same.
        plan = await self._plan(job, snapshot)
        await self._bench.in_thread(self._bench.staging(job).open)
        await self._bench.in_thread(self._bench.discards.open)
        if pinpoint := job.request.pinpoint:
            probe = partial(self._bench.outlets.probe, job.scope, pinpoint, job.id)
            await self._bench.in_thread(probe)
        run = self._bench.engine.begin(plan)
        try:
            await self._bench.in_thread(run.reach, run.interrupt)
        finally:
            run.close()
        estimate = upper_bound(job.request, snapshot)
        return partial(steps.start, pieces=plan.pieces, estimate=estimate)

    async def _process(self, job: Job) -> Step | None:
        plan = await self._plan(job, await self._snapshot(job))
        self._processing = Processing(self._bench, job, self._hold.lease, plan)
        if self._winding_down:
            self._processing.wind_down()
        publication = await self._processing.outcome()
        return partial(steps.publish, publication=publication) if publication else None

    async def _publish(self, job: Job) -> Step:
        publication = job.publication
        assert publication is not None  # noqa: S101  (COMPLETING is only entered with one)
        bench, staging, pinpoint = self._bench, self._bench.staging(job), job.request.pinpoint

        def go_forward() -> None:
            outlet = bench.outlets.location(job.scope, pinpoint) if pinpoint else None
            publish(publication, staging, bench.discards, outlet)

        while True:
            try:
                await self._bench.in_thread(go_forward)
            except DatasetError as error:
                # There is no way back from here, and another worker would fare no better.
                log.error("the publication cannot go on", error=str(error))  # noqa: TRY400
                await asyncio.sleep(self._bench.settings.retry_delay.total_seconds())
            else:
                return steps.complete

    async def _clean_up(self, job: Job) -> Step:
        def sweep() -> None:
            self._bench.discards.sweep(job.id)
            self._bench.staging(job).remove()

        try:
            async with asyncio.timeout(SWEEPING):
                await self._bench.in_thread(sweep)
        except (DatasetError, TimeoutError) as error:
            # The job's end does not wait for this: the worker sweeps again later.
            said = str(error) or "the object store does not answer"
            log.warning("staged files stay behind for now", error=said)
        return steps.clean_up

    async def _snapshot(self, job: Job) -> Snapshot:
        """The snapshot that the job has pinned, the newest if it has not done so yet."""
        store = self._bench.profiles
        opening = partial(store.snapshot, job.snapshot) if job.snapshot else store.latest
        return await self._bench.read(opening)

    async def _plan(self, job: Job, snapshot: Snapshot) -> ExportPlan:
        catalogue = await self._bench.read(self._bench.profiles.catalogue)
        policy = resolve_policy(job.request, catalogue)
        instances = await self._bench.in_thread(partial(self._instances, job))
        return plan_export(job.request, snapshot, policy, pieces=job.pieces, instances=instances)

    def _instances(self, job: Job) -> Path | None:
        """Who was in the job's journey when its first attempt began."""
        journey = job.request.journey
        if journey is None:
            return None
        known = Instances(self._bench.journeys, job.scope)
        staging = self._bench.staging(job)
        staging.open()
        pin = partial(known.pin, journey.version_id, journey.namespace)
        return staging.shared(LIVE_INSTANCES, pin)

    def _progress(self) -> float:
        return self._processing.progress if self._processing else 0.0


def _failing(kind: FaultKind, message: str) -> Step:
    return partial(steps.fail, fault=Fault(kind, message))


def _bug(error: Exception) -> bool:
    """Whether a fault is one that nobody has foreseen, so that its traceback is wanted."""
    return not hasattr(error, "code")
