"""The relay in each compression that the settings offer, and how large its records are then.

The relay is that of `relay.py`, over the same stores and broker.

    python benchmarks/compressions.py [--events N] [--discards N] [--runs N] [--bootstrap-servers …]
"""

import argparse
import asyncio
import logging
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from aiokafka.producer.message_accumulator import BatchBuilder

from measure import Case, Comparison, compare, print_header
from relay import (
    ATTRIBUTES,
    CALLERS,
    EVENTS_OF_JOB,
    NOWHERE,
    Ours,
    broker,
    fill_with_discards,
    fill_with_events,
)
from segexport.events.record import Record
from segexport.relay.parcel import Parcel
from segexport.settings import KafkaSettings


async def measure(
    name: str, path: Path, kafka: KafkaSettings, *, records: int, runs: int
) -> Comparison:
    """The relay in each compression, in turns."""
    cases = {}
    for codec in ATTRIBUTES:
        ours = Ours(path, kafka.model_copy(update={"compression": codec}), records)
        cases[codec] = Case(ours.run, ours.before, ours.after)
    return await compare(name, cases, runs=runs, baseline=kafka.compression)


def packed_sizes(sample: Sequence[Record]) -> str:
    """Bytes of a record in each compression, in batches as large as the topic accepts."""
    sizes = []
    for codec, attributes in ATTRIBUTES.items():
        parcel = Parcel(partial(BatchBuilder, 1_000_000, attributes), partitions=6)
        for record in sample:
            parcel.add(record, NOWHERE)
        builders: list[Any] = [each.builder for every in parcel.batches.values() for each in every]
        size = sum(len(each._build()) for each in builders)  # noqa: SLF001  (aiokafka's own)
        sizes.append(f"{codec} {size / len(sample):.0f}")
    return ", ".join(sizes)


async def main(arguments: argparse.Namespace) -> None:
    """Print both tables."""
    print_header("relay: in each compression", "aiokafka", "duckdb", "orjson")
    with (
        tempfile.TemporaryDirectory() as folder,
        broker(arguments.bootstrap_servers, Path(folder, "kafka")) as servers,
    ):
        kafka = KafkaSettings(bootstrap_servers=servers, replication_factor=1)
        path = Path(folder, "events.sqlite")
        events = arguments.events // EVENTS_OF_JOB // CALLERS * CALLERS * EVENTS_OF_JOB
        sample = await fill_with_events(path, events)
        title = f"{events:,} stored events of {len(sample[0].value)} bytes"
        print(await measure(title, path, kafka, records=events, runs=arguments.runs))
        print(f"bytes of one on the topic: {packed_sizes(sample)}\n")

        path = Path(folder, "discards.sqlite")
        sample = await fill_with_discards(path, arguments.discards)
        title = f"an expansion of {arguments.discards:,} discards of {len(sample[0].value)} bytes"
        records = arguments.discards + EVENTS_OF_JOB
        print(await measure(title, path, kafka, records=records, runs=arguments.runs))
        print(f"bytes of one on the topic: {packed_sizes(sample)}")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=99_000)
    parser.add_argument("--discards", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--bootstrap-servers")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    asyncio.run(main(parse(sys.argv[1:])))
