"""One large export for a journey, and the delivery of its discards to a real Kafka.

By default the size of the schema's own example: twelve million profiles, of which more than
two million have no identity in the journey's namespace. The export runs through the real
worker in a process of its own, whose peak of memory is that of nothing else; so does the
relay afterwards. The physical limit of the export is DuckDB's own `COPY` of the rows that it
wrote, run after it on the same files. It is run once: it takes about as long as all the
others together.

    python benchmarks/scale.py [--profiles N] [--store FOLDER] [--folder FOLDER]
"""

import argparse
import asyncio
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import duckdb

from exports import SCOPE
from measure import peak_memory, print_header
from relay import broker, new_settings
from segexport.events.record import store_source
from segexport.exports.dataset import Datasets
from segexport.exports.worker import worker_of
from segexport.jobs.lifecycle import JobState
from segexport.jobs.request import parse_request
from segexport.kafka import ensure_topics
from segexport.profiles.builder import Resources
from segexport.profiles.sample import build_sample
from segexport.relay.relay import Relay
from segexport.relay.transactional import TransactionalPublisher
from segexport.service import commands_of, voice_of
from segexport.settings import Settings
from segexport.store.sqlite import SqliteStore
from segexport.telemetry import configure_logging

NAMESPACE: Final = "ECID"
"""A fifth of the sample's profiles have no identity in it."""
PATIENCE: Final = timedelta(seconds=1)


@dataclass(frozen=True)
class Exported:
    """What the export came to: profiles, seconds, and bytes of memory at its peak."""

    total: int
    realized: int
    failed: int
    seconds: float
    peak: int


@dataclass(frozen=True)
class Delivered:
    """What the relay did: events, seconds, and bytes of memory at its peak."""

    events: int
    seconds: float
    peak: int


def build(store: Path, profiles: int) -> None:
    """Make the sample."""
    resources = Resources(threads=Settings().exports.threads)
    build_sample(store, profiles=profiles, seed=1, now=datetime.now(UTC), resources=resources)


def export(settings: Settings) -> Exported:
    """Export everybody for a journey, and wait for the end."""
    configure_logging(level="warning")
    return asyncio.run(_export(settings))


async def _export(settings: Settings) -> Exported:
    store = await SqliteStore.open(settings.store_file)
    commands = commands_of(settings, store)
    worker = worker_of(settings, store, voice_of(settings, store), name="benchmark")
    running = asyncio.create_task(worker.run())
    try:
        began = time.perf_counter()
        document = {
            "destination": {"datasetId": "whole"},
            "journey": {"versionId": "v1", "namespace": NAMESPACE},
        }
        job = (await commands.submit(SCOPE, parse_request(document))).job
        seen = 0
        while not job.is_terminal:
            seen = await store.wait_for_change(seen, PATIENCE)
            job = await store.get(SCOPE, job.id)
        seconds = time.perf_counter() - began
    finally:
        worker.stop()
        await running
        await store.close()
    if job.state is not JobState.COMPLETED or job.counts is None:
        raise RuntimeError(f"the export has failed: {job.fault}")
    counts = job.counts
    return Exported(counts.total, counts.realized, counts.failed, seconds, peak_memory())


def deliver(settings: Settings, servers: str) -> Delivered:
    """Deliver everything that the store holds to a new topic."""
    configure_logging(level="warning")
    return asyncio.run(_deliver(settings, servers))


async def _deliver(settings: Settings, servers: str) -> Delivered:
    kafka = new_settings(servers)
    await ensure_topics(kafka)
    store = await SqliteStore.open(settings.store_file)
    relay = Relay(
        store,
        lambda: TransactionalPublisher(kafka),
        source=store_source(store.identity.id),
        owner="benchmark",
    )
    began = time.perf_counter()
    running = asyncio.create_task(relay.run())
    backlog = await store.backlog()
    seen = 0
    while backlog.delivered < backlog.last and not running.done():
        seen = await store.wait_for_change(seen, PATIENCE)
        backlog = await store.backlog()
    seconds = time.perf_counter() - began
    relay.stop()
    await running
    events = (await store.jobs(SCOPE))[0].events
    await store.close()
    return Delivered(events, seconds, peak_memory())


def copy(settings: Settings, target: Path) -> float:
    """Seconds that DuckDB's COPY of the exported rows takes, within the same limits."""
    (batch,) = Datasets(settings.datasets_folder).dataset(SCOPE, "whole").batches()
    config: dict[str, Any] = {
        "threads": settings.exports.threads,
        "memory_limit": settings.exports.memory_limit,
        "temp_directory": str(target.with_suffix(".spill")),
    }
    with duckdb.connect(config=config) as database:
        database.execute("SET enable_progress_bar = false")
        began = time.perf_counter()
        database.execute(f"COPY (FROM {batch.relation}) TO '{target}' (FORMAT parquet)")
        return time.perf_counter() - began


def measure(folder: Path, store: Path | None, profiles: int) -> None:
    """Build, export, deliver, copy; and print what it took."""
    settings = Settings(data=folder, profiles=store or folder / "profiles")

    def apart(call: Any, *arguments: Any) -> Any:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            return process.submit(call, *arguments).result()

    if store is None:
        apart(build, settings.profiles_folder, profiles)
    exported: Exported = apart(export, settings)
    copied: float = apart(partial(copy, settings), folder / "copy.parquet")
    with broker(None, folder / "kafka") as servers:
        delivered: Delivered = apart(deliver, settings, servers)
    print(
        f"{exported.total:,} profiles: {exported.realized:,} exported, {exported.failed:,} "
        f"discarded ({NAMESPACE})\n"
        f"export    {exported.seconds:7.1f} s  peak {exported.peak / 1e6:,.0f} MB\n"
        f"COPY      {copied:7.1f} s  of the exported rows: {exported.seconds / copied:.2f} x\n"
        f"delivery  {delivered.seconds:7.1f} s  peak {delivered.peak / 1e6:,.0f} MB, "
        f"{delivered.events:,} events: {delivered.seconds / exported.seconds:.2f} x the export"
    )


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--profiles", type=int, default=12_000_000)
    parser.add_argument("--store", type=Path, help="a profile store that is there already")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder otherwise")
    arguments = parser.parse_args()
    print_header("scale: one large export for a journey", "duckdb", "aiokafka")
    configure_logging(level="warning")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        measure(Path(folder), arguments.store, arguments.profiles)


if __name__ == "__main__":
    main()
