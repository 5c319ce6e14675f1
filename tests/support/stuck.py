"""Engines and stores that stand still at a chosen place, until a test lets them go."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from segexport.errors import ExportCancelled
from segexport.events.outbox import OutboxRow
from segexport.exports.engine import Column, Engine, PieceResult, Run, Written, WrittenEndpoints
from segexport.exports.plan import ExportPlan
from segexport.exports.workbench import Workbench
from segexport.jobs.job import Job, Scope, Transition
from segexport.store.store import JobStore, Lease


@dataclass
class Gate:
    """Holds whoever calls `place` for the `nth` time, until it is opened or interrupted."""

    place: str
    nth: int = 1
    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)
    interrupted: threading.Event = field(default_factory=threading.Event)
    _calls: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def passing(self, place: str) -> None:
        """Called by whoever comes to `place`."""
        with self._lock:
            self._calls += place == self.place
            held = place == self.place and self._calls == self.nth
        if not held:
            return
        self.reached.set()
        while not self.opened.wait(0.01):
            if self.interrupted.is_set():
                raise ExportCancelled("interrupted while held")


@dataclass(frozen=True)
class GatedEngine:
    """An engine whose runs pass a gate before each of their blocking calls."""

    engine: Engine
    gate: Gate

    def begin(self, plan: ExportPlan) -> "GatedRun":
        return GatedRun(self.engine.begin(plan), self.gate)

    def close(self) -> None:
        self.engine.close()


def gated(gate: Gate) -> Callable[[Workbench], Workbench]:
    """The change of a workbench that puts a gate before its engine."""
    return lambda bench: replace(bench, engine=GatedEngine(bench.engine, gate))


async def is_reached(gate: Gate) -> None:
    """Wait until somebody stands at the gate."""
    assert await asyncio.to_thread(gate.reached.wait, 20)


@dataclass(frozen=True)
class GatedRun:
    """See `GatedEngine`."""

    run: Run
    gate: Gate

    def reach(self) -> None:
        self.gate.passing("reach")
        self.run.reach()

    def prepare(self) -> None:
        self.gate.passing("prepare")
        self.run.prepare()

    def run_piece(self, index: int, *, data: Sequence[Path], discards: Path) -> PieceResult:
        self.gate.passing("run_piece")
        return self.run.run_piece(index, data=data, discards=discards)

    def write_endpoints(self, data: Path, target: Path) -> WrittenEndpoints:
        self.gate.passing("write_endpoints")
        return self.run.write_endpoints(data, target)

    def join_discards(self, pieces: Sequence[Path], target: Path) -> Written:
        self.gate.passing("join_discards")
        return self.run.join_discards(pieces, target)

    def columns(self, data: Path) -> Sequence[Column]:
        return self.run.columns(data)

    def progress(self) -> float:
        return self.run.progress()

    def interrupt(self) -> None:
        self.gate.interrupted.set()
        self.run.interrupt()

    def close(self) -> None:
        self.run.close()


@dataclass(frozen=True)
class Through:
    """Any object, with `before` called with a method's name before each of its methods."""

    inner: Any
    before: Callable[[str], None]

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self.before(name)
            return found(*args, **kwargs)

        return call


@dataclass
class Failing:
    """Raises `error` from a method, `times` times, `after` so many calls that went well."""

    method: str
    error: Exception
    times: int
    after: int = 0
    calls: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def before(self, method: str) -> None:
        """Called with the name of each method before it runs."""
        if method != self.method:
            return
        with self._lock:
            self.calls += 1
            fails = self.after < self.calls <= self.after + self.times
        if fails:
            raise self.error

    def engine(self, bench: Workbench) -> Workbench:
        """A workbench whose engine's runs fail."""
        inner = bench.engine

        class _Engine:
            def begin(_, plan: ExportPlan) -> Any:  # noqa: N805  (self is the one outside)
                return Through(inner.begin(plan), self.before)

            def close(_) -> None:  # noqa: N805  (as above)
                inner.close()

        return replace(bench, engine=_Engine())

    def store(self, bench: Workbench) -> Workbench:
        """A workbench whose store fails."""
        return replace(bench, store=cast("JobStore", Through(bench.store, self.before)))


@dataclass(frozen=True)
class Blind:
    """A store through which a worker never sees that its lease has run out."""

    inner: JobStore
    seen: dict[int, Job] = field(default_factory=dict)

    async def claim(self, owner: str, duration: timedelta, *, limit: int) -> Job | None:
        job = await self.inner.claim(owner, duration, limit=limit)
        if job:
            self.seen[job.id] = job
        return job

    async def commit(self, transition: Transition, rows: Sequence[OutboxRow]) -> None:
        await self.inner.commit(transition, rows)
        self.seen[transition.after.id] = transition.after

    async def renew(self, lease: Lease, duration: timedelta, *, progress: float) -> Job:
        del duration, progress
        return self.seen[lease.job_id]

    async def get(self, scope: Scope, job_id: int) -> Job:
        del scope
        return self.seen[job_id]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)
