"""Large exports for a journey, and the delivery of their discards to a real Kafka.

By default three sizes, up to that of the schema's own example: twelve million profiles, of which
more than two million have no identity in the journey's namespace. The export runs through the
real worker in a process of its own, whose peak of memory is that of nothing else; so does the
relay afterwards. The physical limit of the export is DuckDB's own `COPY` of the rows that it
wrote, run after it on the same files. Each size is run once: together they take about as long as
all the other benchmarks.

    python benchmarks/scale.py [--profiles N ...] [--store FOLDER] [--folder FOLDER]
"""

import argparse
import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import stores
from apart import apart
from copier import copier
from exporter import PATIENCE, SCOPE, Wanted, exporter
from measure import Ran, aim, print_header
from relay import broker, new_settings
from segexport.events.record import store_source
from segexport.exports.dataset import Datasets
from segexport.kafka import ensure_topics
from segexport.profiles.snapshots import ProfileStore
from segexport.relay.relay import Relay
from segexport.relay.transactional import TransactionalPublisher
from segexport.service import open_store
from segexport.settings import KafkaSettings, Settings
from segexport.store.sqlite import SqliteStore
from segexport.telemetry import configure_logging

SIZES: Final = (1_000_000, 4_000_000, 12_000_000)
NAMESPACE: Final = "ECID"
"""A fifth of the sample's profiles have no identity in it."""

MEMORY: Final = 1.0
"""GB that an export and a relay should take at most, whatever the size."""
DELIVERY: Final = 1.0
"""The most that delivery should take, in times of the export."""


class Deliverer:
    """A relay that has not begun yet."""

    def __init__(self, store: SqliteStore, kafka: KafkaSettings) -> None:
        self._store = store
        self._kafka = kafka

    async def deliver(self) -> int:
        """Deliver everything that the store holds, and return the events of its newest job."""
        store = self._store
        relay = Relay(
            store,
            lambda: TransactionalPublisher(self._kafka),
            source=store_source(store.identity.id),
            owner="benchmark",
        )
        running = asyncio.create_task(relay.run())
        backlog = await store.backlog()
        seen = 0
        while backlog.delivered < backlog.last and not running.done():
            seen = await store.wait_for_change(seen, PATIENCE)
            backlog = await store.backlog()
        relay.stop()
        await running
        return (await store.jobs(SCOPE))[0].events


@asynccontextmanager
async def deliverer(settings: Settings, servers: str) -> AsyncIterator[Deliverer]:
    """Delivers from the store of the settings to a new topic."""
    configure_logging(level="warning")
    kafka = new_settings(KafkaSettings(bootstrap_servers=servers, replication_factor=1))
    await ensure_topics(kafka)
    async with open_store(settings) as store:
        yield Deliverer(store, kafka)


async def measure(folder: Path, servers: str, settings: Settings) -> None:
    """Export, copy, deliver; and print what it took."""
    async with apart(exporter, settings) as side:
        exported = await side.run("export", Wanted("whole", namespace=NAMESPACE))
    (batch,) = Datasets(settings.datasets_folder).dataset(SCOPE, "whole").batches()
    async with apart(copier, settings, folder / "copy.parquet") as side:
        copied = await side.run("copy", batch.relation)
    async with apart(deliverer, settings, servers) as side:
        delivered = await side.run("deliver")
    counts = batch.manifest.counts
    of_export = delivered.seconds / exported.seconds
    print(
        f"{counts.total:,} profiles: {counts.realized:,} exported, {counts.failed:,} discarded "
        f"({NAMESPACE})\n"
        f"export    {_line(exported)}, {exported.seconds / copied.seconds:.2f} x the COPY\n"
        f"COPY      {_line(copied)}, of the exported rows\n"
        f"delivery  {_line(delivered)}, {delivered.items:,} events, {of_export:.2f} x the export"
    )
    for name, ran in (("export", exported), ("relay", delivered)):
        print(aim(f"the {name}'s peak of memory, in GB,", (ran.peak or 0) / 1e9, MEMORY))
    print(aim("delivery, against the export,", of_export, DELIVERY), "\n")


def _line(ran: Ran) -> str:
    return f"{ran.seconds:7.1f} s  peak {(ran.peak or 0) / 1e6:5,.0f} MB"


def measure_all(folder: Path, store: Path | None, sizes: Sequence[int]) -> None:
    """Each size with a sample of its own, or one store that is there already."""
    if store is not None:
        sizes = [ProfileStore(store).latest().persons]
    with broker(None, folder / "kafka") as servers:
        for profiles in sizes:
            with tempfile.TemporaryDirectory(dir=folder) as name:
                place = Path(name)
                settings = Settings(data=place, profiles=store or place / "profiles")
                if store is None:
                    stores.sample(settings, profiles)
                asyncio.run(measure(place, servers, settings))


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--profiles", type=int, nargs="+", default=SIZES)
    parser.add_argument("--store", type=Path, help="a profile store that is there already")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder otherwise")
    arguments = parser.parse_args()
    print_header("scale: large exports for a journey", "duckdb", "aiokafka")
    configure_logging(level="warning")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        measure_all(Path(folder), arguments.store, arguments.profiles)


if __name__ == "__main__":
    main()
