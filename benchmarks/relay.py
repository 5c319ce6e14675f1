"""The relay's throughput, exactly once, against a bare aiokafka `send_batch` loop.

The relay reads rows from its store (or discards from a file), makes records of them, and
delivers them in transactions together with its position. The peers have their records in
memory, ready made, and only pack them into the same batches and send them: one in
transactions of the same size, one without any. All write records of the same bytes with the
same compression to new topics of the same broker; connecting is part of each run.

The broker is the tests' (docs/testing.md), one node on this machine, or the one that
`--bootstrap-servers` names. On this machine it takes its share of the same cores.

    python benchmarks/relay.py [--events N] [--discards N] [--runs N] [--compression lz4]
        [--bootstrap-servers …]
"""

import argparse
import asyncio
import gc
import itertools
import logging
import sqlite3
import sys
import tempfile
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Final
from uuid import UUID, uuid4

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.producer.message_accumulator import BatchBuilder

from measure import Case, Comparison, Ran, compare, print_header
from segexport.commands import random_job_id
from segexport.events.announcement import announce
from segexport.events.discards import expand
from segexport.events.outbox import NumberedRow, OutboxRow
from segexport.events.record import Record, record_of, store_source
from segexport.jobs import job as steps
from segexport.kafka import client_arguments, ensure_topics
from segexport.relay.parcel import Parcel
from segexport.relay.reading import CHUNK
from segexport.relay.relay import Relay
from segexport.relay.schedule import Bounds
from segexport.relay.sending import require_accepted, send_batches
from segexport.relay.transactional import TransactionalPublisher
from segexport.settings import KafkaSettings
from segexport.store.discards import DiscardReader
from segexport.store.sqlite import SqliteStore, file, outbox

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from support.deliveries import (
    REQUEST,
    SCOPE,
    complete,
    discard_file,
    submit,
    voice_of,
)
from support.kafka import Cluster, find_distribution

EVENTS_OF_JOB: Final = 3
SAMPLE: Final = 50_000
"""Records that the peers hold in memory; they send them over and over."""
PATIENCE: Final = timedelta(seconds=1)
CALLERS: Final = 500
ATTRIBUTES: Final = {"none": 0, "gzip": 1, "lz4": 3}
"""Kafka's number of each compression."""

NOWHERE: Final = NumberedRow(
    0,
    OutboxRow(
        job_id=0,
        scope=SCOPE,
        sequence=0,
        event_id=UUID(int=0),
        type="",
        occurred_at=datetime.now(UTC),
        value=b"",
    ),
)
"""Where the peers' records come from: a parcel keeps account of that."""

_numbers = itertools.count(1)


def new_settings(base: KafkaSettings) -> KafkaSettings:
    """The same settings with a topic that nobody has used."""
    topic = f"bench-{next(_numbers)}-{uuid4().hex[:8]}"
    return base.model_copy(update={"topic": topic})


class Ours:
    """The relay, over a store that is full already."""

    def __init__(self, path: Path, kafka: KafkaSettings, records: int) -> None:
        self._path = path
        self._kafka = kafka
        self._records = records

    async def before(self) -> None:
        """A new topic, and a store that thinks it has delivered nothing."""
        self._settings = new_settings(self._kafka)
        await ensure_topics(self._settings)
        connection = sqlite3.connect(self._path)
        with connection:
            connection.execute("UPDATE relay SET delivered = 0")
        connection.close()
        self._store = await SqliteStore.open(self._path)

    async def run(self) -> Ran:
        """From the start of the relay until it has nothing left."""
        began, spent = perf_counter(), process_time()
        store = self._store
        relay = Relay(
            store,
            partial(TransactionalPublisher, self._settings),
            source=store_source(store.identity.id),
            owner="bench",
        )
        running = asyncio.create_task(relay.run())
        backlog, seen = await store.backlog(), 0
        while backlog.delivered < backlog.last:
            seen = await store.wait_for_change(seen, PATIENCE)
            backlog = await store.backlog()
        relay.stop()
        await running
        # Beside the relay, only those who wait for it run in this process.
        return Ran(self._records, perf_counter() - began, process_time() - spent)

    async def after(self) -> None:
        """Check that the topic has it all."""
        await self._store.close()
        await require_records(self._settings, self._records)


class Bare:
    """aiokafka alone."""

    def __init__(
        self, sample: Sequence[Record], kafka: KafkaSettings, records: int, *, transactions: bool
    ) -> None:
        self._sample = sample
        self._kafka = kafka
        self._records = records
        self._transactions = transactions

    async def before(self) -> None:
        """A new topic."""
        self._settings = new_settings(self._kafka)
        self._topics = await ensure_topics(self._settings)

    async def run(self) -> Ran:
        """Pack and send, as much at a time as the relay does."""
        began, spent = perf_counter(), process_time()
        settings = self._settings
        kind = (
            {"transactional_id": settings.transactional_id}
            if self._transactions
            else {"enable_idempotence": True}
        )
        producer = AIOKafkaProducer(
            **client_arguments(settings, role="bench"),
            **kind,
            compression_type=None if settings.compression == "none" else settings.compression,
            max_batch_size=self._topics.max_message_bytes,
        )
        await producer.start()
        records = itertools.islice(itertools.cycle(self._sample), self._records)
        while (parcel := self._packed(producer, records)).records:
            if self._transactions:
                await producer.begin_transaction()
            sending = await send_batches(producer, settings.topic, parcel)
            await asyncio.wait(sending)
            require_accepted(sending)
            if self._transactions:
                await producer.commit_transaction()
        await producer.stop()
        return Ran(self._records, perf_counter() - began, process_time() - spent)

    def _packed(self, producer: AIOKafkaProducer, records: Iterator[Record]) -> Parcel:
        parcel = Parcel(producer.create_batch, self._topics.partitions)
        size = Bounds().size
        for record in records:
            parcel.add(record, NOWHERE)
            if parcel.size >= size:
                break
        return parcel

    async def after(self) -> None:
        """Check that the topic has it all."""
        await require_records(self._settings, self._records)


async def require_records(settings: KafkaSettings, expected: int) -> None:
    """A benchmark of something that did not arrive is worth nothing."""
    consumer = AIOKafkaConsumer(**client_arguments(settings, role="bench"))
    await consumer.start()
    try:
        partitions = [TopicPartition(settings.topic, each) for each in range(settings.partitions)]
        ends = await consumer.end_offsets(partitions)
    finally:
        await consumer.stop()
    # Commit markers use up offsets as well: a few for each transaction.
    found = sum(ends.values())
    if not expected <= found <= expected * 1.02 + 1000:
        raise RuntimeError(f"{settings.topic} holds {found} offsets for {expected} records")


async def fill_with_events(path: Path, events: int) -> list[Record]:
    """A store with so many events, three a job; and a sample of their records."""
    store = await SqliteStore.open(path)
    jobs = events // EVENTS_OF_JOB
    for _ in range(0, jobs, CALLERS):
        await asyncio.gather(*(_submit_with_events(store) for _ in range(min(CALLERS, jobs))))
    source = store_source(store.identity.id)
    rows = await store.rows_after(0, limit=SAMPLE, max_bytes=1 << 30)
    await store.close()
    return [record_of(numbered.row, source) for numbered in rows]


async def _submit_with_events(store: SqliteStore) -> None:
    transition, rows = announce(
        steps.submit(
            REQUEST,
            job_id=random_job_id(),
            scope=SCOPE,
            request_id=uuid4().hex,
            now=await store.now(),
        ),
        voice_of(store),
    )
    more = [
        replace(rows[0], sequence=sequence, event_id=uuid4())
        for sequence in range(2, EVENTS_OF_JOB + 1)
    ]
    after = replace(transition.after, events=EVENTS_OF_JOB)
    await store.submit(replace(transition, after=after), [*rows, *more], fingerprint="f")


async def fill_with_discards(path: Path, discards: int) -> list[Record]:
    """A store with one job that has so many discards; and a sample of their records."""
    store = await SqliteStore.open(path)
    await complete(store, await submit(store), discard_file(path.parent, discards))
    source = store_source(store.identity.id)
    [row] = [
        numbered.row
        for numbered in await store.rows_after(0, limit=10, max_bytes=1 << 30)
        if numbered.row.discards is not None
    ]
    await store.close()
    assert row.discards is not None
    with DiscardReader(row.discards) as reader:
        return list(expand(row, reader.read(SAMPLE), 0, source))


def stages(path: Path, sample: Sequence[Record], attributes: int) -> str:
    """CPU time of the stages that a stored event passes, one after the other, in µs."""
    connection = file.connect(path, PATIENCE)
    parcel = Parcel(partial(BatchBuilder, 1_000_000, attributes), partitions=6)
    spent: dict[str, float] = defaultdict(float)
    number = done = 0
    while done < len(sample):
        rows = _clocked(spent, "read", outbox.rows_after, connection, number, CHUNK, 1 << 30)
        number, done = rows[-1].number, done + len(rows)
        records = _clocked(spent, "make", list, (record_of(each.row, "urn:x") for each in rows))
        _clocked(spent, "pack", deque, map(parcel.add, records, rows), 0)
    batches = [each.builder for every in parcel.batches.values() for each in every]
    # What a producer does when it sends.
    _clocked(spent, "compress", list, (each._build() for each in batches))  # type: ignore[attr-defined]  # noqa: SLF001  (aiokafka's own)
    connection.close()
    return ", ".join(f"{stage} {1e6 * seconds / done:.1f}" for stage, seconds in spent.items())


def _clocked(spent: dict[str, float], stage: str, work: Callable[..., Any], *arguments: Any) -> Any:
    began = process_time()
    result = work(*arguments)
    spent[stage] += process_time() - began
    return result


async def measure(
    name: str,
    path: Path,
    kafka: KafkaSettings,
    sample: Sequence[Record],
    *,
    records: int,
    runs: int,
) -> Comparison:
    """The relay and both peers, in turns."""
    gc.collect()
    gc.freeze()  # the peers' sample is no part of what a relay's garbage collector looks at
    ours = Ours(path, kafka, records)
    bare = Bare(sample, kafka, records, transactions=True)
    plain = Bare(sample, kafka, records, transactions=False)
    comparison = await compare(
        name,
        {
            "relay": Case(ours.run, ours.before, ours.after),
            "bare transactions": Case(bare.run, bare.before, bare.after),
            "bare idempotent": Case(plain.run, plain.before, plain.after),
        },
        runs=runs,
        baseline="bare transactions",
    )
    gc.unfreeze()
    return comparison


@contextmanager
def broker(servers: str | None, folder: Path) -> Iterator[str]:
    """The address of a Kafka."""
    if servers is not None:
        yield servers
        return
    distribution = find_distribution()
    cluster = Cluster(distribution, folder)
    try:
        yield cluster.bootstrap_servers
    finally:
        cluster.close()
        distribution.close()


async def main(arguments: argparse.Namespace) -> None:
    """Print both tables."""
    print_header("relay: exactly once against bare aiokafka", "aiokafka", "duckdb", "orjson")
    with (
        tempfile.TemporaryDirectory() as folder,
        broker(arguments.bootstrap_servers, Path(folder, "kafka")) as servers,
    ):
        kafka = KafkaSettings(
            bootstrap_servers=servers, replication_factor=1, compression=arguments.compression
        )
        path = Path(folder, "events.sqlite")
        events = arguments.events // EVENTS_OF_JOB // CALLERS * CALLERS * EVENTS_OF_JOB
        sample = await fill_with_events(path, events)
        title = f"{events:,} stored events of {len(sample[0].value)} bytes"
        print(await measure(title, path, kafka, sample, records=events, runs=arguments.runs))
        spent = stages(path, sample, ATTRIBUTES[kafka.compression])
        print(f"CPU of one event in µs: {spent}\n")

        path = Path(folder, "discards.sqlite")
        sample = await fill_with_discards(path, arguments.discards)
        title = f"an expansion of {arguments.discards:,} discards of {len(sample[0].value)} bytes"
        records = arguments.discards + EVENTS_OF_JOB
        print(await measure(title, path, kafka, sample, records=records, runs=arguments.runs))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--discards", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--compression", choices=ATTRIBUTES, default="lz4")
    parser.add_argument("--bootstrap-servers")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    asyncio.run(main(parse(sys.argv[1:])))
