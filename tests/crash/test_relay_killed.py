"""A relay that is killed with SIGKILL, wherever, leaves each event in the topic exactly once."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from segexport.settings import KafkaSettings
from segexport.store.sqlite import SqliteStore
from support import relay_process
from support.deliveries import (
    complete,
    deliver_all,
    discard_file,
    require_exactly_once,
    run_jobs,
    submit,
)
from support.forked import Forked
from support.kafka import Kafka
from support.relay_process import Order, Point, run_process

pytestmark = pytest.mark.crash

DISCARDS = 1_200
TRANSACTION = 256 << 10  # bytes: the work below takes about six transactions

POINTS = [
    Point("before", "start"),
    Point("during", "start"),
    Point("after", "start"),
    Point("before", "begin_transaction"),
    Point("after", "begin_transaction"),
    Point("before", "send_batch positions"),
    Point("after", "send_batch positions"),
    Point("before", "send_batch events"),
    Point("after", "send_batch events"),
    Point("before", "send_batch events", 2),
    Point("after", "send_batch events", 3),
    Point("after", "acknowledgement events"),
    Point("after", "acknowledgement events", 3),
    Point("after", "acknowledgement positions"),
    Point("before", "commit_transaction"),
    Point("during", "commit_transaction"),
    Point("after", "commit_transaction"),
    Point("before", "mark_delivered"),
    Point("after", "mark_delivered"),
    # From the second transaction on, the discards are being expanded.
    Point("after", "begin_transaction", 2),
    Point("after", "send_batch events", 5),
    Point("after", "acknowledgement events", 5),
    Point("before", "commit_transaction", 3),
    Point("during", "commit_transaction", 3),
    Point("after", "commit_transaction", 3),
]


@pytest.fixture(scope="module")
def relays() -> Iterator[Forked]:
    with Forked(relay_process) as forked:
        yield forked


@pytest.mark.parametrize("point", POINTS, ids=str)
async def test_each_event_arrives_exactly_once(
    *,
    point: Point,
    relays: Forked,
    kafka: Kafka,
    kafka_settings: KafkaSettings,
    store: SqliteStore,
    tmp_path: Path,
) -> None:
    await complete(store, await submit(store), discard_file(tmp_path, DISCARDS))
    await run_jobs(store, 6)
    order = Order(
        store=str(tmp_path / "jobs.sqlite"),
        kafka=kafka_settings.model_dump(mode="json", exclude_none=True),
        transaction_size=TRANSACTION,
        death=point,
    )
    assert await run_process(relays, order) == -signal.SIGKILL
    await run_jobs(store, 2)
    await deliver_all(store, kafka_settings)
    await require_exactly_once(kafka, kafka_settings, store)
