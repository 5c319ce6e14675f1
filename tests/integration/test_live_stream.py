"""The live stream tells each reader all of its own events, once and in order, and no other."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from time import monotonic

import httpx
import pytest
from structlog.testing import capture_logs

from segexport.commands import Commands
from segexport.errors import StoreUnavailable
from segexport.http import live, tail
from segexport.jobs import job as steps
from segexport.jobs.job import Scope
from segexport.jobs.publication import DiscardFile
from segexport.store.sqlite import SqliteStore
from support import store_process
from support.job_stories import WAY_TO_SUCCESS, advanced, event_row, submitted
from support.streams import ACME, LIMITS, Service, at, commands_over, queue, serving
from support.stuck import Failing, Through
from support.waiting import until

OTHER = Scope("other", "prod")
TRYOUT = Scope("acme", "tryout")


@pytest.fixture
async def service(store: SqliteStore) -> AsyncIterator[Service]:
    async with serving(store) as started:
        yield started


@pytest.fixture
def commands(store: SqliteStore) -> Commands:
    return commands_over(store)


async def test_a_stream_begins_by_saying_where_it_begins(
    service: Service, commands: Commands
) -> None:
    await queue(commands, 3)
    listener = await service.connect()
    (first,) = await listener.take(1)
    assert (first.event, first.id, first.data) == ("ready", at(3), {"cursor": at(3)})
    assert listener.retry == 2000
    assert "http/1.1 200 ok" in listener.headers
    assert "content-type: text/event-stream; charset=utf-8" in listener.headers
    assert "cache-control: no-store" in listener.headers
    assert "x-accel-buffering: no" in listener.headers


async def test_an_event_is_told_as_it_was_stored(
    service: Service, commands: Commands, store: SqliteStore
) -> None:
    async with (
        httpx.AsyncClient() as client,
        client.stream("GET", f"http://127.0.0.1:{service.port}/acme/prod") as answer,
    ):
        lines = answer.aiter_lines()
        while await anext(lines) != "event: ready":
            pass
        await queue(commands, 1)
        while await anext(lines) != f"id: {at(1)}":
            pass
        assert await anext(lines) == "event: queued"
        assert await anext(lines) == f"data: {(await store.row(1)).row.value.decode()}"
        assert await anext(lines) == ""


async def test_300_readers_hear_everything_in_order_while_jobs_are_committed_and_the_store_is_read_once(  # noqa: E501
    store: SqliteStore, commands: Commands
) -> None:
    rounds, jobs, readers = 10, 5, 300
    reads = Counter[str]()
    counted = Through(store, lambda method: reads.update([method]))
    async with serving(counted) as service:
        listeners = await asyncio.gather(*(service.listen() for _ in range(readers)))
        hearing = [asyncio.create_task(each.take(rounds * jobs)) for each in listeners]
        for _ in range(rounds):
            await queue(commands, jobs)
        expected = [(at(number), "queued") for number in range(1, rounds * jobs + 1)]
        for heard in hearing:
            assert [(told.id, told.event) for told in await heard] == expected
    assert reads["job_events"] == 0
    assert reads["rows_after"] < 5 * rounds * jobs


async def test_nothing_is_read_while_nobody_listens(store: SqliteStore, commands: Commands) -> None:
    reads = Counter[str]()
    async with serving(Through(store, lambda method: reads.update([method]))) as service:
        await (await service.listen()).close()

        async def rests() -> bool:
            return service.tail.position is None

        await until(rests, 20, "the tail rests")
        reads.clear()
        await queue(commands, 20)
        assert not reads
        listener = await service.listen(last_event_id=at(0))
        assert [told.number for told in await listener.take(20)] == list(range(1, 21))


@pytest.mark.parametrize("capacity", [tail.CAPACITY, 3000, 1])
async def test_a_reader_that_comes_again_goes_on_where_it_was_wherever_that_is(
    store: SqliteStore, commands: Commands, capacity: int
) -> None:
    """From the ring, from the store, and first from the one and then from the other."""
    async with serving(store, capacity=capacity) as service:
        await queue(commands, 6)
        first = await service.listen()
        await queue(commands, 6)
        await first.take(6)
        listeners = [await service.listen(last_event_id=at(seen)) for seen in range(13)]
        for seen, listener in enumerate(listeners):
            assert [each.number for each in await listener.take(12 - seen)] == list(
                range(seen + 1, 13)
            )
        await queue(commands, 2, OTHER)
        await queue(commands, 1)
        for listener in listeners:
            assert [each.number for each in await listener.take(1)] == [15]


@pytest.mark.parametrize(
    ("cursor", "reason"),
    [
        (at(5, generation=0), "the store was restored since"),
        (at(11), "the store has no such event"),
        (at(2), "no longer has all events"),
        ("", "is none of this stream's"),
        ("1-5", "is none of this stream's"),
        ("0" * 32, "is none of this stream's"),
    ],
)
async def test_a_cursor_that_cannot_be_kept_is_told_so_and_the_stream_begins_now(
    service: Service, commands: Commands, store: SqliteStore, cursor: str, reason: str
) -> None:
    await queue(commands, 10)
    await forget_through(store, 3)
    listener = await service.connect(last_event_id=cursor)
    (first,) = await listener.take(1)
    assert (first.event, first.id) == ("expired", at(10))
    assert first.data["cursor"] == at(10)
    assert reason in first.data["reason"]
    await queue(commands, 1)
    assert [told.id for told in await listener.take(1)] == [at(11)]


async def test_the_oldest_events_that_the_store_holds_can_be_gone_on_from(
    service: Service, commands: Commands, store: SqliteStore
) -> None:
    await queue(commands, 10)
    await forget_through(store, 3)
    listener = await service.listen(last_event_id=at(3))
    assert [told.number for told in await listener.take(7)] == list(range(4, 11))


async def forget_through(store: SqliteStore, number: int) -> None:
    """Delete the oldest rows of the outbox."""
    await store._writer.run(
        lambda connection: connection.execute("DELETE FROM outbox WHERE number <= ?", (number,))
    )


async def test_a_cursor_may_be_ahead_of_a_process_that_has_not_read_so_far(
    store: SqliteStore, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader comes from another process, and what it saw there is not told again."""
    monkeypatch.setattr(tail, "PAUSE", 0.1)
    away = Failing("rows_after", StoreUnavailable("away"), times=5, after=1)
    async with serving(Through(store, away.before)) as service:
        await service.listen()
        await queue(commands, 5)
        listener = await service.listen(last_event_id=at(4))
        assert [told.number for told in await listener.take(1)] == [5]


async def test_organizations_and_sandboxes_hear_nothing_of_each_other(
    service: Service, commands: Commands
) -> None:
    live_ones = {scope: await service.listen(scope) for scope in (ACME, OTHER, TRYOUT)}
    for turn in range(10):
        for scope in (ACME, OTHER, TRYOUT) if turn % 2 else (TRYOUT, OTHER, ACME):
            await queue(commands, 1, scope)
    late_ones = {scope: await service.listen(scope, at(0)) for scope in live_ones}
    own = {scope: [job.id for job in await commands.list(scope)] for scope in (ACME, OTHER, TRYOUT)}
    for listeners in (live_ones, late_ones):
        for scope, listener in listeners.items():
            heard = [job_of(told.data) for told in await listener.take(10)]
            assert sorted(heard) == sorted(own[scope])
    await service.tail.close()
    for listener in (*live_ones.values(), *late_ones.values()):
        assert [told.event for told in await listener.rest()] == ["bye"]


def job_of(document: object) -> int:
    """The job that an event is about."""
    assert isinstance(document, dict)
    (event,) = (value for key, value in document.items() if key.endswith("/segmentExportJob"))
    return int(next(value for key, value in event.items() if key.endswith("/ID")))


async def test_files_of_discards_are_not_told_live_or_later(
    service: Service, store: SqliteStore
) -> None:
    prompt = await service.listen()
    job = await submitted(store, scope=ACME)
    for step in WAY_TO_SUCCESS[:-1]:
        job = await advanced(store, job, step)
    end = steps.complete(job, job.updated_at)
    after = replace(end.after, events=job.events + 11)
    discards = DiscardFile(path="discards", sha256="ab" * 32, rows=10)
    rows = [
        event_row(after, job.events + 1, discards=discards),
        event_row(after, job.events + 11),
    ]
    await store.commit(
        replace(end, after=after), [replace(row, value=b'{"end": true}') for row in rows]
    )
    late = await service.listen(last_event_id=at(2))
    assert [told.number for told in await late.take(1)] == [4]
    assert [told.number for told in await prompt.take(3)] == [1, 2, 4]


async def test_an_event_of_another_process_is_told(service: Service, tmp_path: Path) -> None:
    listener = await service.listen()
    writer = await store_process.start(tmp_path / "jobs.sqlite", callers=1, lives=1)
    output = store_process.begin(writer)
    assert [told.event for told in await listener.take(3)] == ["finished"] * 3
    await output


async def test_a_reader_that_falls_behind_is_told_so_and_loses_nothing_by_coming_again(
    store: SqliteStore, commands: Commands
) -> None:
    async with serving(store, limits=replace(LIMITS, backlog=100)) as service:
        lazy = await service.listen(lazy=True)
        prompt = await service.listen()
        for _ in range(20):
            await queue(commands, 50)
            await prompt.take(50)
        with capture_logs() as logged:
            heard = await lazy.rest()
        assert heard[-1].event == "overrun"
        assert "100 events behind" in heard[-1].data["reason"]
        assert [told.number for told in heard[:-1]] == list(range(1, len(heard)))
        assert 1 < len(heard) < 900
        assert [entry["organization"] for entry in logged] == ["acme"]
        again = await service.listen(last_event_id=lazy.last_id)
        found = [told.number for told in await again.take(1001 - len(heard))]
        assert found == list(range(len(heard), 1001))


async def test_a_reader_that_catches_up_is_not_slow(store: SqliteStore, commands: Commands) -> None:
    await queue(commands, 300)
    async with serving(store, limits=replace(LIMITS, backlog=1), capacity=1) as service:
        late = await service.listen(last_event_id=at(0))
        assert [told.number for told in await late.take(300)] == list(range(1, 301))


async def test_a_reader_that_takes_nothing_is_cut_off_and_keeps_neither_connection_nor_memory(
    store: SqliteStore, commands: Commands
) -> None:
    limits = replace(LIMITS, patience=timedelta(seconds=1))
    async with serving(store, limits=limits, capacity=50_000) as service:
        await service.listen(lazy=True)
        listener = await service.listen()
        hearing = asyncio.create_task(listener.take(1000))
        await queue(commands, 1000)
        assert service.tail.ring.size <= 50_000
        await service.has_streams(1)
        assert [told.number for told in await hearing] == list(range(1, 1001))
        assert service.tail.ring.size <= 50_000


async def test_when_the_service_stops_all_streams_end_at_once(
    service: Service, commands: Commands
) -> None:
    stalled = await service.listen(lazy=True)
    listeners = [await service.listen() for _ in range(50)]
    for _ in range(10):
        await queue(commands, 50)
        await asyncio.gather(*(listener.take(50) for listener in listeners))
    hearing = [asyncio.create_task(listener.rest()) for listener in listeners]
    began = monotonic()
    await service.tail.close(timedelta(milliseconds=200))
    assert monotonic() - began < 5
    await service.has_streams(0)
    for heard in hearing:
        assert [told.event for told in await heard] == ["bye"]
    assert "bye" not in {told.event for told in await stalled.rest()}
    late = await service.connect()
    assert [told.event for told in await late.rest()] == ["bye"]


async def test_streams_end_when_following_fails(store: SqliteStore) -> None:
    broken = Failing("rows_after", RuntimeError("a mistake"), times=1)
    async with serving(Through(store, broken.before)) as service:
        with capture_logs() as logged:
            listener = await service.connect()
            assert "bye" in [told.event for told in await listener.rest()]
        assert [one["log_level"] for one in logged if "exc_info" in one] == ["error"]
        with pytest.raises(RuntimeError, match="a mistake"):
            await service.following


async def test_who_may_no_longer_listen_hears_nothing_more(
    service: Service, commands: Commands
) -> None:
    listener = await service.listen()
    service.allowed = False
    await queue(commands, 1)
    (last,) = await listener.rest()
    assert (last.event, last.data) == ("bye", {"reason": "access has ended"})


async def test_a_quiet_stream_looks_at_each_heartbeat_whether_its_reader_may_still_listen(
    store: SqliteStore, commands: Commands
) -> None:
    limits = replace(LIMITS, heartbeat=timedelta(milliseconds=50))
    async with serving(store, limits=limits) as service:
        listener = await service.listen()
        await queue(commands, 5, OTHER)
        hearing = asyncio.create_task(listener.rest())

        async def beats() -> bool:
            return listener.comments > 2 and listener.last_id == at(5)

        await until(beats, 20, "comments come, and move the cursor past what is not told")
        service.allowed = False
        assert [told.event for told in await hearing] == ["bye"]


@pytest.mark.parametrize("method", ["backlog", "rows_after", "job_events", "wait_for_change"])
async def test_a_stream_outlasts_an_outage_of_the_store(
    store: SqliteStore, commands: Commands, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(tail, "PAUSE", 0.05)
    monkeypatch.setattr(live, "PAUSE", 0.05)
    await queue(commands, 3)
    away = Failing(method, StoreUnavailable("the disk is away"), times=4)
    with capture_logs() as logged:
        async with serving(Through(store, away.before)) as service:
            listener = await service.listen(last_event_id=at(0))
            assert [told.number for told in await listener.take(3)] == [1, 2, 3]

            async def is_over() -> bool:
                return away.calls > 4

            await until(is_over, 20, "the outage is over")
            await queue(commands, 1)
            assert [told.number for told in await listener.take(1)] == [4]
    waits = [entry for entry in logged if entry["event"] == "event streams wait for the store"]
    assert len(waits) == 1 or method == "job_events"
    assert waits[0]["reason"] == "the disk is away"
