"""An export in pieces, as many in flight as the worker has, against the same as one query.

    python benchmarks/pieces.py [--profiles 1000000] [--runs 5] [--folder DIR]

Both are a full export on the DuckDB engine, without a worker: one plan, cut as jobs are cut,
or not at all. Each side runs in a process of its own.
"""

import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import stores
from apart import apart
from command import run
from exporter import Wanted
from measure import aim, compare
from segexport.exports.engines.duckdb import DuckDBEngine
from segexport.exports.plan import ExportPlan, plan_export
from segexport.profiles.catalogue import TIMESTAMP_ORDERED
from segexport.profiles.snapshots import Snapshot
from segexport.settings import Settings

TIME: Final = 1.0
MEMORY: Final = 1.0
"""Aims: the most that pieces should take of each, in times of the one query."""

IN_PIECES: Final = "in pieces"
AS_ONE: Final = "one query"


class Runner:
    """A plan, and the engine that runs it."""

    def __init__(self, engine: DuckDBEngine, plan: ExportPlan, folder: Path, slots: int) -> None:
        self._engine = engine
        self._plan = plan
        self._folder = folder
        self._slots = slots

    def export(self) -> int:
        """Run all pieces, and return the profiles in their files."""
        running = self._engine.begin(self._plan)

        def piece(index: int) -> int:
            data = self._folder / f"data-{index}.parquet"
            done = running.run_piece(index, data=[data], discards=self._folder / "discards")
            return sum(part.selected for part in done.parts)

        with ThreadPoolExecutor(self._slots) as threads:
            profiles = sum(threads.map(piece, range(self._plan.pieces)))
        running.close()
        return profiles


@asynccontextmanager
async def runner(
    settings: Settings, snapshot: Snapshot, pieces: int | None
) -> AsyncIterator[Runner]:
    """A full export in so many pieces, or in as many as jobs are cut into."""
    request = Wanted("full").request
    plan = plan_export(request, snapshot, TIMESTAMP_ORDERED, pieces=pieces)
    folder = Path(tempfile.mkdtemp(dir=settings.data))
    exports = settings.exports
    engine = DuckDBEngine(
        spill=folder / "spill", threads=exports.threads, memory_limit=exports.memory_limit
    )
    try:
        yield Runner(engine, plan, folder, exports.slots)
    finally:
        engine.close()


async def measure(folder: Path, profiles: int, runs: int) -> None:
    """Make the store, and print the comparison."""
    settings = Settings(data=folder)
    snapshot = stores.sample(settings, profiles)
    plan = plan_export(Wanted("full").request, snapshot, TIMESTAMP_ORDERED)
    async with (
        apart(runner, settings, snapshot, None) as pieces,
        apart(runner, settings, snapshot, 1) as query,
    ):
        comparison = await compare(
            f"full export in {plan.pieces} pieces, {settings.exports.slots} in flight",
            {IN_PIECES: partial(pieces.run, "export"), AS_ONE: partial(query.run, "export")},
            runs=runs,
            baseline=AS_ONE,
        )
    peaks = [comparison.sides[side].peak or 0 for side in (IN_PIECES, AS_ONE)]
    print(comparison)
    print(aim("time of pieces, against one query,", comparison.time(IN_PIECES), TIME))
    print(aim("peak of memory of pieces, against one query,", peaks[0] / peaks[1], MEMORY))


if __name__ == "__main__":
    run("pieces", measure, __doc__, "duckdb")
