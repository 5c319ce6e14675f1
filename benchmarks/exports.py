"""Exports through a real worker against DuckDB's COPY of as many rows.

    python benchmarks/exports.py [--profiles 1000000] [--runs 5] [--folder DIR]

Ours is everything from the submission of the job to its end: claim, lease, selection,
merge, counts per namespace, fsync, publication, the job's events in the store. The peer
reads what the full export has written, merged and nested already, and copies it: all of
it, or (for one segment) the same number of rows scattered over the whole. For several
segments, each a batch of its own, it copies all rows of the batches.
"""

import argparse
import asyncio
import inspect
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import duckdb

from measure import Case, compare_async, print_header
from segexport.commands import Checked, Commands
from segexport.events.announcement import Voice
from segexport.exports.dataset import Batch, Dataset, Datasets
from segexport.exports.worker import worker_of
from segexport.jobs.job import Scope
from segexport.jobs.lifecycle import JobState
from segexport.jobs.request import parse_request
from segexport.profiles.builder import Resources
from segexport.profiles.sample import build_sample
from segexport.profiles.snapshots import ProfileStore, SegmentSize, Snapshot
from segexport.settings import Settings
from segexport.sql import parquet
from segexport.store.sqlite import SqliteStore
from segexport.telemetry import configure_logging

SCOPE = Scope("local", "prod")
SHARE = 0.1
"""The one segment is the one whose size is nearest to this share of all profiles."""
SEVERAL = 10
"""So many segments are exported at once, into a batch each."""


class Exporter:
    """A worker that runs, and the exports that are timed on it."""

    def __init__(self, commands: Commands, datasets: Datasets) -> None:
        self._commands = commands
        self._datasets = datasets

    def dataset(self, name: str) -> Dataset:
        """Each kind of export has a dataset of its own."""
        return self._datasets.dataset(SCOPE, name)

    async def export(self, name: str, *segments: SegmentSize) -> int:
        """Export, wait for the end, and return the profiles selected.

        With several segments, a batch for each; without any, everyone.
        """
        wanted = [{"segmentNs": one.namespace, "segmentId": one.segment} for one in segments]
        document = {
            "destination": {"datasetId": name, "segmentPerBatch": len(segments) > 1},
            "filter": {"segments": wanted},
        }
        journey = {"journey": {"versionId": "v1", "namespace": "Email"}}
        request = parse_request(document | (journey if name == "journey" else {}))
        job = (await self._commands.submit(SCOPE, request)).job
        seen = 0
        while not job.is_terminal:
            seen = await self._commands.store.wait_for_change(seen, timedelta(seconds=1))
            job = await self._commands.store.get(SCOPE, job.id)
        if job.state is not JobState.COMPLETED or job.counts is None:
            raise RuntimeError(f"the export has failed: {job.fault}")
        return job.counts.total

    def clear(self, name: str) -> None:
        """Delete the batches of one kind of export."""
        self.dataset(name).folder.remove()


class Peer:
    """Plain copies on a DuckDB of its own, with the worker's settings."""

    def __init__(self, settings: Settings, whole: Batch, folder: Path) -> None:
        self._database = duckdb.connect(
            config={
                "threads": settings.exports.threads,
                "memory_limit": settings.exports.memory_limit,
                "temp_directory": str(folder / "peer-spill"),
            }
        )
        self._database.execute("SET enable_progress_bar = false")
        self._whole = whole
        self._marked = folder / "marked.parquet"
        self._target = folder / "peer.parquet"

    def mark(self, rows: int) -> None:
        """Make the table in which so many rows, scattered over the whole, are marked."""
        files = ", ".join(f"'{path}'" for path in self._whole.paths)
        source = f"read_parquet([{files}], filename = true, file_row_number = true)"
        self._database.execute(
            f"""COPY (
                SELECT *, row_number() OVER (ORDER BY hash(file_row_number, filename)) <= {rows}
                    AS marked
                FROM {source} ORDER BY filename, file_row_number
            ) TO '{self._marked}' (FORMAT parquet)"""
        )

    def copy_whole(self) -> int:
        """COPY everything."""
        return self._copy(f"SELECT * FROM {self._whole.relation}")

    def copy_files(self, files: Sequence[str]) -> int:
        """COPY everything in these files."""
        return self._copy(f"SELECT * FROM {parquet(files)}")

    def copy_marked(self) -> int:
        """Scan everything, COPY what is marked."""
        return self._copy(
            "SELECT * EXCLUDE (marked, filename, file_row_number) "
            f"FROM read_parquet('{self._marked}') WHERE marked"
        )

    def _copy(self, query: str) -> int:
        done = self._database.execute(f"COPY ({query}) TO '{self._target}' (FORMAT parquet)")
        ((rows,),) = done.fetchall()
        return int(rows)


class Cpu:
    """A run whose processor time is taken too: neighbours on the machine disturb it less."""

    def __init__(self, run: Callable[[], Any]) -> None:
        self._run = run
        self._seconds: list[float] = []

    @property
    def median(self) -> float:
        """Seconds of all threads of the process, at the median."""
        return statistics.median(self._seconds)

    async def run(self) -> Any:
        """Run once."""
        began = time.process_time()
        done = self._run()
        done = await done if inspect.isawaitable(done) else done
        self._seconds.append(time.process_time() - began)
        return done


async def measure(folder: Path, *, profiles: int, runs: int) -> None:
    """Make a sample, run a worker on it, and print both comparisons."""
    settings = Settings(data=folder)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as builder:
        # Not in this process, whose peak of memory would be that of the building.
        builder.submit(_build, settings.profiles_folder, profiles).result()
    snapshot = ProfileStore(settings.profiles_folder).latest()
    several = _segments(snapshot)
    segment = several[0]
    store = await SqliteStore.open(settings.store_file)
    identity = store.identity
    voice = Voice.of(identity.id, identity.generation, dialect="xdm", form="uri")
    commands = Commands(
        store=store,
        voice=voice,
        check=lambda _, request: Checked(request),
        deadline=settings.exports.deadline,
    )
    exporter = Exporter(commands, Datasets(settings.datasets_folder))
    worker = worker_of(settings, store, voice, name="benchmark")
    running = asyncio.create_task(worker.run())
    try:
        cold = await compare_async(
            "first full export of a fresh worker",
            {"segexport": lambda: exporter.export("whole")},
            runs=1,
            warm_up=0,
            baseline="segexport",
            memory=True,
        )
        (whole,) = exporter.dataset("whole").batches()
        peer = Peer(settings, whole, folder)
        peer.mark(await exporter.export("one", segment))
        await exporter.export("batches", *several)
        paths = [path for batch in exporter.dataset("batches").batches() for path in batch.paths]
        print(
            f"{snapshot.persons:,} profiles, {snapshot.fragments:,} fragments, "
            f"{snapshot.buckets} buckets; one segment is {segment.namespace}/{segment.segment}; "
            f"{settings.exports.threads} threads, {settings.exports.pieces_in_flight} pieces "
            f"in flight, {settings.exports.memory_limit}\n\n{cold}\n"
        )
        for title, name, wanted, copy in (
            ("full export", "full", [], peer.copy_whole),
            ("one segment", "one", [segment], peer.copy_marked),
            ("ten segments, a batch each", "ten", several, partial(peer.copy_files, paths)),
            ("full export for a journey", "journey", [], peer.copy_whole),
        ):
            ours, plain = Cpu(partial(exporter.export, name, *wanted)), Cpu(copy)
            comparison = await compare_async(
                title,
                {
                    "segexport": Case(ours.run, after=partial(exporter.clear, name)),
                    "DuckDB COPY": Case(plain.run),
                },
                runs=runs,
                baseline="DuckDB COPY",
                memory=True,
            )
            print(
                f"{comparison}\nprocessor time: {ours.median:.2f} s, {plain.median:.2f} s: "
                f"{ours.median / plain.median:.2f} x\n"
            )
    finally:
        worker.stop()
        await running
        await store.close()


def _build(store: Path, profiles: int) -> None:
    resources = Resources(threads=Settings().exports.threads)
    build_sample(store, profiles=profiles, seed=1, now=datetime.now(UTC), resources=resources)


def _segments(snapshot: Snapshot) -> Sequence[SegmentSize]:
    """Ten segments, those nearest to the wanted size first."""
    wanted = SHARE * snapshot.persons
    near = sorted(snapshot.segments, key=lambda one: abs(one.realized + one.existing - wanted))
    return near[:SEVERAL]


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profiles", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder otherwise")
    arguments = parser.parse_args()
    print_header("exports", "duckdb")
    configure_logging(level="warning")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        asyncio.run(measure(Path(folder), profiles=arguments.profiles, runs=arguments.runs))


if __name__ == "__main__":
    main()
