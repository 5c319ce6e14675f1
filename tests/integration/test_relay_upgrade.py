"""An upgrade finds events that wait, in keys of before: they go out as they were stored."""

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from segexport.consume.consumer import EventReader
from segexport.errors import StoreTooNew
from segexport.events.contract import Contract, Verdict
from segexport.events.discards import expand
from segexport.events.record import Record as Sent
from segexport.events.record import record_of, store_source
from segexport.events.versions import CURRENT, FIRST
from segexport.kafka import ensure_topics
from segexport.settings import KafkaSettings
from segexport.store.sqlite import SqliteStore
from segexport.store.sqlite.file import connect
from support.backlog import DISCARDS, PARKED, WAITING, records, write_store
from support.deliveries import LEASE, SCOPE, complete, delivered, discard_file, relay_of, running
from support.kafka import Kafka, Record
from support.waiting import until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.sqlite"
    write_store(path)
    return path


def by_key(told: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The records of each job, in order."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in told:
        found[record["key"]].append(record)
    return found


def as_text(record: Record) -> dict[str, Any]:
    headers = {name: (value or b"").decode() for name, value in record.header.items()}
    return {
        "key": (record.key or b"").decode(),
        "value": (record.value or b"").decode(),
        "headers": headers,
    }


async def test_a_backlog_of_before_is_delivered_byte_for_byte_under_its_own_contract(
    kafka: Kafka, kafka_settings: KafkaSettings, path: Path, tmp_path: Path
) -> None:
    await ensure_topics(kafka_settings)
    kafka.alter_topic(kafka_settings.topic, "retention.ms", "-1")  # the events are old
    store = await SqliteStore.open(path)
    assert [parked.job_id for parked in await store.parked()] == list(PARKED)
    waiting = await store.get(SCOPE, WAITING)
    async with running(relay_of(store, kafka_settings)):
        await delivered(store)

        async def nothing_is_parked() -> bool:
            return not await store.parked() and not await store.replays(0)

        await until(nothing_is_parked, 20, "what was parked is replayed")
        await complete(store, waiting, discard_file(tmp_path, 2))
        await delivered(store)
        assert await nothing_is_parked()
    old, new = by_key(records()), 4
    count = sum(map(len, old.values())) + new
    received = await asyncio.to_thread(kafka.read, kafka_settings.topic, at_least=count)
    found = by_key(map(as_text, received))
    after = found[str(WAITING)][1:]
    del found[str(WAITING)][1:]
    assert found == old
    assert [record["headers"]["ce_sequence"] for record in after] == [
        f"{sequence:012}" for sequence in range(2, 2 + new)
    ]
    for record in after:
        assert record["headers"]["ce_dataschema"] == "urn:segexport:schema:emitted:2"
        assert CURRENT.own in record["value"]
        assert FIRST.own not in record["value"]
    async with EventReader(kafka_settings, contract=Contract.EMITTED) as reader:
        verdicts = [each.judgement.verdict async for each in reader.so_far()]
    assert verdicts == [Verdict.VALID] * count
    await store.close()


async def test_rows_of_before_are_read_with_their_version_and_make_the_same_records(
    path: Path,
) -> None:
    store = await SqliteStore.open(path)
    source = store_source(store.identity.id)
    made: list[Sent] = []
    for numbered in await store.rows_after(0, limit=100, max_bytes=1 << 30):
        row = numbered.row
        assert row.contract == FIRST.number
        made += (
            [record_of(row, source)] if row.discards is None else expand(row, DISCARDS, 0, source)
        )
    assert [
        {
            "key": record.key.decode(),
            "value": record.value.decode(),
            "headers": {name: value.decode() for name, value in record.headers},
        }
        for record in made
    ] == records()
    await store.close()


async def test_a_row_of_a_later_contract_stops_the_reader_and_is_not_called_something_else(
    path: Path,
) -> None:
    store = await SqliteStore.open(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE outbox SET contract = 99 WHERE number = 1")
    with pytest.raises(StoreTooNew, match=r"version 99 of the contract.*Run the later segexport"):
        await store.rows_after(0, limit=100, max_bytes=1 << 30)
    await store.close()


async def test_a_relay_of_before_that_runs_on_beside_an_upgraded_store_leads_no_more(
    path: Path,
) -> None:
    """It held the store open, so nobody has told it that the store is too new for it."""
    lead = (
        "UPDATE relay SET epoch = epoch + (owner IS NOT 'older'), owner = 'older', lease_until = 0"
        " WHERE owner IS NULL OR owner = 'older' OR lease_until <= 0 RETURNING epoch"
    )
    with closing(connect(path, LEASE)) as older:
        assert older.execute(lead).fetchone()
        store = await SqliteStore.open(path)
        with pytest.raises(sqlite3.OperationalError, match="no such column"):
            older.execute(lead)
        # Its jobs go on: what they write is of the first version, as it does not say otherwise.
        older.execute(
            "INSERT INTO outbox (job_id, organization, sandbox, sequence, event_id, type,"
            " occurred_at, value, discards) SELECT job_id, organization, sandbox, 2, event_id,"
            f" type, occurred_at, value, discards FROM outbox WHERE job_id = {WAITING}"
        )
        numbered = await store.rows_of_job(WAITING, after=0, through=1_000)
        assert [each.row.contract for each in numbered] == [FIRST.number] * 2
        assert await store.lead("newer", LEASE)
        await store.close()
