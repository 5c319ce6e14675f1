"""Jobs with real events, relays that deliver them, and the oracle that compares both ends."""

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha512
from pathlib import Path
from typing import Any

import duckdb

from segexport.commands import advance
from segexport.events.announcement import Voice, announce
from segexport.events.discards import expand
from segexport.events.record import Record as Sent
from segexport.events.record import record_of, store_source
from segexport.jobs import job as steps
from segexport.jobs.job import Job, Scope
from segexport.jobs.publication import Counts, DataFile, DiscardFile, Publication, PublishedBatch
from segexport.jobs.reading import parse_request
from segexport.jobs.request import ExportRequest
from segexport.relay.publisher import Publisher
from segexport.relay.relay import Relay
from segexport.relay.transactional import TransactionalPublisher
from segexport.settings import KafkaSettings
from segexport.store.discards import DiscardReader, fingerprint
from segexport.store.store import Outbox, Store
from support.kafka import Kafka, Record
from support.waiting import until

SCOPE = Scope("acme", "prod")
LEASE = timedelta(seconds=5)
REQUEST = parse_request(
    {
        "fields": "person.name.lastName",
        "filter": {"segments": [{"segmentId": "s1"}]},
        "destination": {"datasetId": "audience"},
    }
)
_ids = itertools.count(1_000_001)


def voice_of(store: Outbox) -> Voice:
    """How the store speaks, with the default dialect and form."""
    identity = store.identity
    return Voice.of(identity.id, identity.generation, dialect="xdm", form="uri")


def large_request(size: int) -> ExportRequest:
    """A request that makes each of its job's events about `size` bytes, hard to compress."""
    names = [sha512(b"%d" % number).hexdigest() for number in range(size // 170)]
    segments = [{"segmentId": name} for name in names]
    return parse_request({**REQUEST.document(), "filter": {"segments": segments}})


async def submit(
    store: Store, request: ExportRequest = REQUEST, *, created_at: datetime | None = None
) -> Job:
    """A job in state CREATED: one event."""
    number = next(_ids)
    transition, rows = announce(
        steps.submit(
            request,
            job_id=number,
            scope=SCOPE,
            request_id=f"request {number}",
            now=created_at or await store.now(),
        ),
        voice_of(store),
    )
    return (await store.submit(transition, rows, fingerprint="f")).job


async def complete(store: Store, job: Job, discards: DiscardFile | None = None) -> Job:
    """The job after its success: `started`, the discards, `finished`."""
    failed = discards.rows if discards else 0
    publication = Publication(
        batches=(
            PublishedBatch(
                id="b1",
                files=(DataFile(name="part.parquet", rows=10, size=1000, sha256="ab" * 32),),
                counts=Counts(total=10 + failed, realized=10, failed=failed),
            ),
        ),
        discards=discards,
    )
    for step in (
        steps.claim,
        partial(steps.initialize, snapshot="s"),
        partial(steps.start, pieces=1, estimate=10 + failed),
        partial(steps.publish, publication=publication),
        steps.complete,
    ):
        job = await advance(store, voice_of(store), job, step)
    return job


async def run_jobs(store: Store, count: int) -> list[Job]:
    """Jobs that succeed side by side: three events each."""
    jobs = await asyncio.gather(*(submit(store) for _ in range(count)))
    return list(await asyncio.gather(*(complete(store, job) for job in jobs)))


def discard_file(folder: Path, rows: int, *, damaged_at: int | None = None) -> DiscardFile:
    """A discard file of the request's one segment; one row may hold what is no discard."""
    path = folder / f"discards-{next(_ids)}.parquet"
    with duckdb.connect() as database:
        database.execute(
            "COPY (SELECT 'ups' AS segment_namespace, 's1' AS segment, i + 1 AS person_id,"
            " CASE WHEN i = ? THEN 'NONSENSE' ELSE 'ERROR_INSTANCE_BAD_NAMESPACE' END AS code"
            f" FROM range(?) AS rows(i)) TO '{path}' (FORMAT parquet)",
            [-1 if damaged_at is None else damaged_at, rows],
        )
    return DiscardFile(path=str(path), sha256=fingerprint(path), rows=rows)


def relay_of(
    store: Store,
    settings: KafkaSettings,
    *,
    owner: str = "relay",
    publishers: Callable[[], Publisher] | None = None,
    **options: Any,
) -> Relay:
    """A relay as the service makes it, with a short lease."""
    return Relay(
        store,
        publishers or partial(TransactionalPublisher, settings),
        source=store_source(store.identity.id),
        owner=owner,
        **{"lease": LEASE, **options},
    )


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[Relay]:
    """The relay at work; it is stopped cleanly in the end."""
    running = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        relay.stop()
        await running


async def delivered(store: Store, patience: float = 20.0) -> None:
    """Wait until the relay has marked everything in the store as delivered."""

    async def all_delivered() -> bool:
        backlog = await store.backlog()
        return backlog.delivered >= backlog.last

    await until(all_delivered, patience, "everything is delivered")


async def deliver_all(store: Store, settings: KafkaSettings, **options: Any) -> None:
    """Run a relay until it has nothing left to do."""
    async with running(relay_of(store, settings, **options)):
        await delivered(store)


async def sent_by(store: Outbox) -> Mapping[bytes, Sequence[Sent]]:
    """What the topic must hold in the end: every job's records, in order."""
    records: dict[bytes, list[Sent]] = defaultdict(list)
    source, number = store_source(store.identity.id), 0
    while rows := await store.rows_after(number, limit=10_000, max_bytes=1 << 30):
        number = rows[-1].number
        for row in (numbered.row for numbered in rows):
            if row.discards is None:
                made = [record_of(row, source)]
            else:
                with DiscardReader(row.discards) as reader:
                    made = list(expand(row, reader.read(row.discards.rows), 0, source))
            records[made[0].key].extend(made)
    return records


def require_same(expected: Mapping[bytes, Sequence[Sent]], received: Sequence[Record]) -> None:
    """Fail unless each job's records were received once, in order, byte for byte."""
    found: dict[bytes | None, list[Record]] = defaultdict(list)
    for record in received:
        found[record.key].append(record)
    wrong = [f"{key!r} is no job's key" for key in found.keys() - expected.keys()]
    for key, sent in expected.items():
        wrong += [f"job {key.decode()}: {each}" for each in _differences(sent, found[key])]
    assert not wrong, "\n".join(wrong[:20])


def _differences(sent: Sequence[Sent], received: Sequence[Record]) -> Iterator[str]:
    made = [(each.value, dict(each.headers)) for each in sent]
    got = [(each.value, each.header) for each in received]
    if made == got:
        if len({each.partition for each in received}) > 1:
            yield "stands in several partitions"
        return
    sequences = [headers.get("ce_sequence") for _, headers in made]
    arrived = Counter(headers.get("ce_sequence") for _, headers in got)
    yield from (f"event {each!r} is missing" for each in sequences if each not in arrived)
    yield from (f"event {each!r} came {n} times" for each, n in arrived.items() if n > 1)
    yield "order or content differ"


async def require_exactly_once(
    kafka: Kafka, settings: KafkaSettings, store: Outbox, patience: float = 30.0
) -> None:
    """Fail unless the topic holds just what the store says, for a `read_committed` reader."""
    expected = await sent_by(store)
    count = sum(map(len, expected.values()))
    received = await asyncio.to_thread(
        kafka.read, settings.topic, at_least=count, patience=patience
    )
    require_same(expected, received)
