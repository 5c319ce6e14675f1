"""Which events go out when: order, interleaving, parking, replays; on a topic in memory."""

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from segexport.errors import PositionMismatch
from segexport.events.record import Record
from segexport.jobs.job import Job
from segexport.relay.position import Position
from segexport.relay.schedule import OPEN_JOBS, Bounds
from segexport.settings import KafkaSettings
from segexport.store.sqlite import SqliteStore
from segexport.store.store import Parked, Replay, StoreIdentity
from support.deliveries import (
    complete,
    delivered,
    discard_file,
    relay_of,
    run_jobs,
    running,
    sent_by,
    submit,
)
from support.tape import Tape
from support.waiting import until

SMALL = Bounds(size=20_000)
NOWHERE = KafkaSettings()


async def deliver(store: SqliteStore, tape: Tape, bounds: Bounds = SMALL) -> None:
    relay = relay_of(store, NOWHERE, publishers=tape.publisher, bounds=bounds)
    async with running(relay):
        await delivered(store)


async def require_all_on(tape: Tape, store: SqliteStore) -> None:
    """Everything that the store has is on the tape: once, in order, unchanged."""
    assert {key: list(map(_plain, made)) for key, made in tape.by_key.items()} == {
        key: list(map(_plain, made)) for key, made in (await sent_by(store)).items()
    }


def _plain(record: Record) -> tuple[bytes, dict[str, bytes], int]:
    return record.value, dict(record.headers), record.timestamp_ms


def sequences(tape: Tape, job: Job) -> list[int]:
    return [int(dict(each.headers)["ce_sequence"]) for each in tape.by_key.get(b"%d" % job.id, [])]


async def test_a_job_with_many_discards_does_not_hold_up_other_jobs(
    store: SqliteStore, tmp_path: Path
) -> None:
    slow = await complete(store, await submit(store), discard_file(tmp_path, 2_000))
    quick = await run_jobs(store, 40)
    tape = Tape()
    await deliver(store, tape)
    await require_all_on(tape, store)
    first = [record.key for record in tape.records[: len(tape.records) // 2]]
    assert {b"%d" % job.id for job in quick} <= set(first)
    assert sequences(tape, slow)[-1] == 2_003


async def test_expansions_take_at_most_half_of_a_transaction_while_other_rows_are_due(
    store: SqliteStore, tmp_path: Path
) -> None:
    slow = await complete(store, await submit(store), discard_file(tmp_path, 1_000))
    await run_jobs(store, 60)
    tape = Tape()
    await deliver(store, tape)
    others_left = 3 * 60
    for transaction in tape.transactions[1:]:
        share = Counter(record.key == b"%d" % slow.id for record in transaction)
        others_left -= share[False]
        if others_left > 40:
            assert 0 < share[True] <= share[False] + 5


async def test_several_expansions_take_turns(store: SqliteStore, tmp_path: Path) -> None:
    jobs = [await submit(store) for _ in range(3)]
    for job in jobs:
        await complete(store, job, discard_file(tmp_path, 300))
    tape = Tape()
    await deliver(store, tape)
    await require_all_on(tape, store)
    ends = [
        max(place for place, record in enumerate(tape.records) if record.key == b"%d" % job.id)
        for job in jobs
    ]
    assert max(ends) - min(ends) < 200


async def test_more_expansions_than_may_be_open_are_all_delivered(
    store: SqliteStore, tmp_path: Path
) -> None:
    for _ in range(OPEN_JOBS + 3):
        await complete(store, await submit(store), discard_file(tmp_path, 40))
    await run_jobs(store, 2)
    tape = Tape()
    await deliver(store, tape)
    await require_all_on(tape, store)


@pytest.mark.parametrize("fault", ["lost", "unanswered"])
async def test_a_failure_within_an_expansion_neither_loses_nor_repeats(
    store: SqliteStore, tmp_path: Path, fault: str
) -> None:
    await complete(store, await submit(store), discard_file(tmp_path, 500))
    await run_jobs(store, 5)
    tape = Tape(faults=[None, fault, None, None, fault, fault, None])
    await deliver(store, tape)
    assert tape.starts == 4
    await require_all_on(tape, store)


async def parked_rows(store: SqliteStore) -> list[tuple[int, int]]:
    return [(each.job_id, each.offset) for each in await store.parked()]


async def until_parked(store: SqliteStore, count: int = 1) -> None:
    async def holds() -> bool:
        return len(await store.parked()) == count

    await until(holds, 20, f"{count} events are parked")


async def test_a_refused_event_is_parked_and_only_its_job_waits(store: SqliteStore) -> None:
    jobs = await run_jobs(store, 30)
    bad = jobs[17]
    tape = Tape(refuses=lambda record: _is(record, bad, 2))
    await deliver(store, tape, Bounds())
    assert await parked_rows(store) == [(bad.id, 0)]
    assert sequences(tape, bad) == [1]
    for job in jobs:
        if job is not bad:
            assert sequences(tape, job) == [1, 2, 3]


async def test_a_replay_sends_the_parked_event_and_what_waits_behind_it_in_order(
    store: SqliteStore,
) -> None:
    jobs = await run_jobs(store, 5)
    bad = jobs[2]
    tape = Tape(refuses=lambda record: _is(record, bad, 2))
    async with running(relay_of(store, NOWHERE, publishers=tape.publisher)):
        await until_parked(store)
        await run_jobs(store, 1)
        await delivered(store)
        tape.refuses = lambda _: False
        await store.request_replay(bad.id)
        await until_parked(store, 0)
        await delivered(store)
    await require_all_on(tape, store)


async def test_at_every_moment_of_a_replay_the_store_says_that_the_event_is_parked_or_waits(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, *_ = await run_jobs(store, 3)
    tape = Tape(refuses=lambda record: _is(record, job, 2))
    marks: list[int] = []
    finish = store.finish_replay

    async def finish_replay(owner: str, epoch: int, replay: Replay) -> None:
        marks.append((await store.backlog()).delivered)
        await finish(owner, epoch, replay)

    monkeypatch.setattr(store, "finish_replay", finish_replay)
    async with running(relay_of(store, NOWHERE, publishers=tape.publisher)):
        await until_parked(store)
        await delivered(store)
        [waiting] = await store.parked()
        tape.refuses = lambda _: False
        await run_jobs(store, 1)  # the mark of these is fresh
        await store.request_replay(job.id)
        await until_parked(store, 0)
        await delivered(store)
    assert marks
    assert all(mark < waiting.number for mark in marks)


async def test_a_replay_that_is_refused_again_is_parked_again(store: SqliteStore) -> None:
    job, *_ = await run_jobs(store, 3)
    tape = Tape(refuses=lambda record: _is(record, job, 2) or _is(record, job, 3))
    async with running(relay_of(store, NOWHERE, publishers=tape.publisher)):
        await until_parked(store)
        replay = await store.request_replay(job.id)
        await until(lambda: _answered(store, replay.id), 20, "the replay is answered")
        await until_parked(store)
        assert sequences(tape, job) == [1]
        tape.refuses = lambda record: _is(record, job, 3)
        await store.request_replay(job.id)
        await until(lambda: _arrived(tape, job, [1, 2]), 20, "the second event is delivered")
        await until_parked(store)
        tape.refuses = lambda _: False
        await store.request_replay(job.id)
        await until(lambda: _arrived(tape, job, [1, 2, 3]), 20, "all is delivered")
    assert await store.parked() == []
    await require_all_on(tape, store)


async def test_a_job_with_two_parked_events_waits_at_the_second_after_the_first_is_replayed(
    store: SqliteStore,
) -> None:
    job, *_ = await run_jobs(store, 2)
    rows = await store.rows_of_job(job.id, after=0, through=100)
    epoch = await store.lead("before", timedelta(seconds=10))
    assert epoch is not None
    for row in rows[1:]:
        moment = datetime.now(UTC)
        await store.park("before", epoch, Parked(row.number, job.id, 0, "too large", moment))
    await store.resign("before")
    tape = Tape()
    async with running(relay_of(store, NOWHERE, publishers=tape.publisher)):
        await until(lambda: _arrived(tape, job, [1]), 20, "the first event is delivered")
        await store.request_replay(job.id)
        await until(lambda: _arrived(tape, job, [1, 2]), 20, "the second event is delivered")
        await until_parked(store, 1)
        await store.request_replay(job.id)
        await until(lambda: _arrived(tape, job, [1, 2, 3]), 20, "all is delivered")
    await require_all_on(tape, store)


async def test_a_relay_that_is_stopped_delivers_what_is_committed_and_makes_way_at_once(
    store: SqliteStore, tmp_path: Path
) -> None:
    tape = Tape()
    long = timedelta(hours=1)
    relay = relay_of(store, NOWHERE, publishers=tape.publisher, lease=long, bounds=SMALL)
    async with running(relay):
        await run_jobs(store, 1)
        await delivered(store)
        await complete(store, await submit(store), discard_file(tmp_path, 1_000))
        await run_jobs(store, 20)
    await require_all_on(tape, store)
    assert await store.lead("next", long) is not None


async def test_a_relay_that_is_stopped_does_not_drain_for_ever(
    store: SqliteStore, tmp_path: Path
) -> None:
    await complete(store, await submit(store), discard_file(tmp_path, 50_000))
    tape = Tape()
    relay = relay_of(
        store, NOWHERE, publishers=tape.publisher, bounds=SMALL, drain=timedelta(seconds=0.2)
    )
    async with running(relay):
        await until(lambda: _begun(tape), 20, "delivery has begun")
        stopped = time.monotonic()
    assert time.monotonic() - stopped < 2
    assert len(tape.records) < 50_000
    await deliver(store, tape, Bounds())
    await require_all_on(tape, store)


async def _begun(tape: Tape) -> bool:
    return len(tape.transactions) > 1


async def test_a_refused_discard_is_found_and_its_replay_goes_on_right_there(
    store: SqliteStore, tmp_path: Path
) -> None:
    job = await complete(store, await submit(store), discard_file(tmp_path, 2_000))
    others = await run_jobs(store, 10)
    tape = Tape(refuses=lambda record: _is(record, job, 1_234))
    async with running(relay_of(store, NOWHERE, publishers=tape.publisher)):
        await until_parked(store)
        await delivered(store)
        assert await parked_rows(store) == [(job.id, 1_234 - 3)]
        assert sequences(tape, job) == list(range(1, 1_234))
        assert all(sequences(tape, other) == [1, 2, 3] for other in others)
        tape.refuses = lambda _: False
        await store.request_replay(job.id)
        await until(lambda: _arrived(tape, job, list(range(1, 2_004))), 20, "all is delivered")
    await require_all_on(tape, store)


async def test_a_replay_that_the_topic_has_answered_is_not_answered_twice_after_a_crash(
    store: SqliteStore,
) -> None:
    job, *_ = await run_jobs(store, 3)
    tape = Tape(refuses=lambda record: _is(record, job, 2))
    await deliver(store, tape)
    tape.refuses = lambda _: False
    await store.request_replay(job.id)
    tape.faults = ["unanswered"]  # the relay never learns that the replay was accepted
    async with running(relay_of(store, NOWHERE, publishers=tape.publisher)):
        await until_parked(store, 0)
        await until(lambda: _arrived(tape, job, [1, 2, 3]), 20, "all is delivered")
    await require_all_on(tape, store)


def damage(path: Path, harm: str) -> None:
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"!")


@pytest.mark.parametrize("harm", ["missing", "changed"])
async def test_a_discard_file_that_cannot_be_trusted_parks_its_job_until_it_is_back(
    store: SqliteStore, tmp_path: Path, harm: str
) -> None:
    file = discard_file(tmp_path, 50)
    job = await complete(store, await submit(store), file)
    kept = await asyncio.to_thread(Path(file.path).read_bytes)
    await asyncio.to_thread(damage, Path(file.path), harm)
    others = await run_jobs(store, 3)
    tape = Tape()
    async with running(relay_of(store, NOWHERE, publishers=tape.publisher)):
        await until_parked(store)
        await until(lambda: _arrived(tape, others[-1], [1, 2, 3]), 20, "other jobs go on")
        assert sequences(tape, job) == [1, 2]
        [parked] = await store.parked()
        assert file.path in parked.reason
        assert "replay" in parked.reason
        await asyncio.to_thread(Path(file.path).write_bytes, kept)
        await store.request_replay(job.id)
        await until(lambda: _arrived(tape, job, list(range(1, 54))), 20, "all is delivered")
    await require_all_on(tape, store)


def _is(record: Record, job: Job, sequence: int) -> bool:
    headers = dict(record.headers)
    return record.key == b"%d" % job.id and int(headers["ce_sequence"]) == sequence


async def _arrived(tape: Tape, job: Job, expected: list[int]) -> bool:
    return sequences(tape, job) == expected


async def _answered(store: SqliteStore, replay: int) -> bool:
    return all(each.id != replay for each in await store.replays(after=0))


async def test_a_row_that_is_no_discard_parks_its_job_right_there(
    store: SqliteStore, tmp_path: Path
) -> None:
    job = await complete(
        store, await submit(store), discard_file(tmp_path, 1_500, damaged_at=1_200)
    )
    others = await run_jobs(store, 2)
    tape = Tape()
    async with running(relay_of(store, NOWHERE, publishers=tape.publisher)):
        await until_parked(store)
        await until(lambda: _arrived(tape, others[-1], [1, 2, 3]), 20, "other jobs go on")
        await until(lambda: _arrived(tape, job, list(range(1, 1_203))), 20, "up to the damage")
    [parked] = await store.parked()
    assert (parked.job_id, parked.offset) == (job.id, 1_200)
    assert "row 1200" in parked.reason


async def test_a_store_that_has_given_fewer_numbers_than_the_topic_holds_is_refused(
    store: SqliteStore,
) -> None:
    await run_jobs(store, 1)
    tape = Tape(position=Position(store=store.identity, number=4))
    with pytest.raises(PositionMismatch, match=r"up to number 4, .* up to 3 only"):
        await relay_of(store, NOWHERE, publishers=tape.publisher).run()
    assert tape.records == []


async def test_a_relay_of_another_store_stops_before_it_disturbs_anybody(
    store: SqliteStore,
) -> None:
    other = StoreIdentity(uuid4(), 1)
    tape = Tape(position=Position(store=other, number=0))
    with pytest.raises(PositionMismatch, match=str(other.id)):
        await relay_of(store, NOWHERE, publishers=tape.publisher).run()
    assert tape.starts == 0
