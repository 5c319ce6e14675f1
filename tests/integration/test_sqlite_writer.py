"""Group commit: who shares one, who is told what, and what a failing disk leaves behind."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest

from segexport.errors import JobNotFound, StoreError, StoreUnavailable
from segexport.store.sqlite import SqliteStore, file, writer
from support.job_stories import SCOPE, announced, cancel, new_job, submitted

PATIENCE = timedelta(milliseconds=300)


class Disk:
    """What happens to COMMIT on the store's connections, and how often they flush."""

    def __init__(self) -> None:
        self.commits = 0
        self.checkpoints = 0
        self.at_commit: Callable[[sqlite3.Connection], None] = lambda _: None
        self.after_commit: Callable[[sqlite3.Connection], None] = lambda _: None

    def fail_once(self, *, committed: bool) -> None:
        """The next COMMIT reports an error, after it took place or instead."""

        def fail(_: sqlite3.Connection) -> None:
            self.at_commit = self.after_commit = lambda _: None
            raise sqlite3.OperationalError("disk I/O error")

        if committed:
            self.after_commit = fail
        else:
            self.at_commit = fail


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            disk.checkpoints += "wal_checkpoint" in sql
            if sql != "COMMIT":
                return super().execute(sql, parameters)
            disk.commits += 1
            disk.at_commit(self)
            cursor = super().execute(sql)
            disk.after_commit(self)
            return cursor

    connect = sqlite3.connect

    def connect_to_disk(*arguments: Any, **options: Any) -> sqlite3.Connection:
        return connect(*arguments, factory=Connection, **options)

    monkeypatch.setattr(sqlite3, "connect", connect_to_disk)
    return disk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite"


@pytest.fixture
async def store(path: Path, disk: Disk) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(path, patience=PATIENCE)
    disk.commits = 0
    yield store
    await store.close()


async def stored_ids(store: SqliteStore) -> set[int]:
    return {job.id for job in await store.jobs(SCOPE, limit=1000)}


async def test_callers_of_the_same_moment_share_a_commit(store: SqliteStore, disk: Disk) -> None:
    jobs = await asyncio.gather(*(submitted(store) for _ in range(64)))
    assert disk.commits == 1
    assert await stored_ids(store) == {job.id for job in jobs}


async def test_callers_who_come_during_a_commit_share_the_next(
    store: SqliteStore, disk: Disk
) -> None:
    busy, free = threading.Event(), threading.Event()

    def wait(_: sqlite3.Connection) -> None:
        busy.set()
        assert free.wait(10)

    disk.at_commit = wait
    first = asyncio.create_task(submitted(store))
    await asyncio.to_thread(busy.wait, 10)
    later = []
    for _ in range(10):
        later.append(asyncio.create_task(submitted(store)))
        await asyncio.sleep(0)
    free.set()
    await asyncio.gather(first, *later)
    assert disk.commits == 2


async def test_nobody_is_told_before_the_commit_has_returned(
    store: SqliteStore, disk: Disk
) -> None:
    busy, free = threading.Event(), threading.Event()

    def wait(_: sqlite3.Connection) -> None:
        busy.set()
        assert free.wait(10)

    disk.at_commit = wait
    callers = [asyncio.create_task(submitted(store)) for _ in range(3)]
    await asyncio.to_thread(busy.wait, 10)
    await asyncio.sleep(0.05)
    assert not any(caller.done() for caller in callers)
    assert await stored_ids(store) == set()
    free.set()
    await asyncio.gather(*callers)


async def test_a_caller_who_fails_takes_nobody_with_him(store: SqliteStore, disk: Disk) -> None:
    job = await submitted(store)
    good = [new_job() for _ in range(4)]
    bad, bad_rows = announced(cancel(job, job.created_at), events=2)
    bad_rows[1] = replace(bad_rows[1], value=cast("bytes", None))
    disk.commits = 0
    outcomes = await asyncio.gather(
        *(store.submit(*transition, fingerprint="f") for transition in good[:2]),
        store.commit(bad, bad_rows),
        *(store.submit(*transition, fingerprint="f") for transition in good[2:]),
        return_exceptions=True,
    )
    assert disk.commits == 1
    assert [isinstance(outcome, StoreError) for outcome in outcomes] == [
        False,
        False,
        True,
        False,
        False,
    ]
    assert await store.get(SCOPE, job.id) == job
    rows = await store.rows_after(0, limit=100, max_bytes=1 << 20)
    assert [numbered.number for numbered in rows] == [1, 2, 3, 4, 5]
    assert [numbered.row.job_id for numbered in rows[1:]] == [t.after.id for t, _ in good]


async def test_a_mistake_in_one_operation_reaches_its_caller_only(store: SqliteStore) -> None:
    def mistaken(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE relay SET delivered = 99")
        raise ZeroDivisionError

    wrong = store._writer.run(mistaken)
    job = await submitted(store)
    with pytest.raises(ZeroDivisionError):
        await wrong
    assert (await store.backlog()).delivered == 0
    assert await stored_ids(store) == {job.id}


async def test_after_a_commit_that_failed_everybody_in_it_hears_so_and_nothing_is_stored(
    store: SqliteStore, disk: Disk
) -> None:
    disk.fail_once(committed=False)
    outcomes = await asyncio.gather(*(submitted(store) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
    assert "disk I/O error" in str(outcomes[0])
    assert len({id(outcome) for outcome in outcomes}) == 5
    assert await stored_ids(store) == set()
    job = await submitted(store)
    assert await stored_ids(store) == {job.id}


async def test_a_commit_that_took_place_but_reported_an_error_is_a_success(
    store: SqliteStore, disk: Disk
) -> None:
    disk.fail_once(committed=True)
    jobs = await asyncio.gather(*(submitted(store) for _ in range(5)))
    assert await stored_ids(store) == {job.id for job in jobs}


async def test_nobody_is_told_of_success_where_it_cannot_be_known(
    store: SqliteStore, disk: Disk, path: Path
) -> None:
    """Another process committed before the failed COMMIT could be looked into."""

    def fail_and_let_another_write(_: sqlite3.Connection) -> None:
        disk.after_commit = lambda _: None
        neighbour = sqlite3.connect(path)
        neighbour.execute("UPDATE store SET last_group = 1")
        neighbour.commit()
        neighbour.close()
        raise sqlite3.OperationalError("disk I/O error")

    disk.after_commit = fail_and_let_another_write
    with pytest.raises(StoreUnavailable, match="read again"):
        await submitted(store)


async def test_a_full_disk_is_said_to_be_full_and_room_is_used_again(
    store: SqliteStore, path: Path
) -> None:
    def limit(pages: int) -> Callable[[sqlite3.Connection], None]:
        return lambda connection: connection.execute(f"PRAGMA max_page_count={pages}").close()

    await store._writer.run(limit(1))  # SQLite makes that the pages that there are
    small = await submitted(store)
    transition, rows = announced(cancel(small, small.created_at), events=3)
    fat = [replace(row, value=bytes(1 << 20)) for row in rows]
    outcomes = await asyncio.gather(
        store.commit(transition, fat), submitted(store), return_exceptions=True
    )
    assert isinstance(outcomes[0], StoreUnavailable)
    assert "no space is left" in str(outcomes[0])
    assert await store.get(SCOPE, small.id) == small
    await store._writer.run(limit(1 << 30))
    await store.commit(transition, fat)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


async def test_a_locked_file_is_waited_for_and_then_reported(
    store: SqliteStore, path: Path
) -> None:
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    early = asyncio.create_task(submitted(store))
    with pytest.raises(StoreUnavailable, match="locked by another process"):
        await early
    waiting = asyncio.create_task(submitted(store))
    assert await stored_ids(store) == set()
    holder.execute("ROLLBACK")
    holder.close()
    job = await waiting
    assert await stored_ids(store) == {job.id}


async def test_the_event_loop_runs_on_while_the_store_waits(store: SqliteStore, path: Path) -> None:
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(submitted(store))
    turns = 0
    while not waiting.done():
        turns += 1
        await asyncio.sleep(0.001)
    holder.execute("ROLLBACK")
    holder.close()
    assert waiting.exception() is not None
    assert turns > 20


async def test_nobody_looks_for_other_processes_while_nobody_waits(store: SqliteStore) -> None:
    looks = 0
    look = store._writer._others_committed

    def counted() -> bool:
        nonlocal looks
        looks += 1
        return look()

    store._writer._others_committed = counted  # type: ignore[method-assign]  # counts the calls
    await asyncio.sleep(0.2)
    assert looks == 0
    seen = await store.wait_for_change(0, timedelta(seconds=5))
    assert await store.wait_for_change(seen, timedelta(milliseconds=200)) == seen
    assert looks > 1
    before = looks
    await asyncio.sleep(0.2)
    assert looks <= before + 1


async def test_a_program_that_dies_without_closing_its_store_ends_all_the_same(
    path: Path,
) -> None:
    program = (
        "import asyncio, sys, pathlib\n"
        "from segexport.store.sqlite import SqliteStore\n"
        "async def main():\n"
        "    store = await SqliteStore.open(pathlib.Path(sys.argv[1]))\n"
        "    await store.claim('worker', __import__('datetime').timedelta(1), limit=100)\n"
        "    sys.exit(7)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program, path], check=False, timeout=30)
    assert done.returncode == 7


async def test_a_job_that_is_gone_is_told_apart_from_a_lost_lease(
    store: SqliteStore, path: Path
) -> None:
    job = await submitted(store)
    with sqlite3.connect(path) as connection:
        for table in ("outbox", "requests"):
            connection.execute(f"DELETE FROM {table}")
        connection.execute("DELETE FROM jobs")
    connection.close()
    transition, rows = announced(cancel(job, job.created_at))
    with pytest.raises(JobNotFound):
        await store.commit(transition, rows)


class TestLog:
    """The write-ahead log is copied into the file before it grows too long."""

    LIMIT = 200_000

    @pytest.fixture
    async def store(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[SqliteStore]:
        for module in (file, writer):
            monkeypatch.setattr(module, "LOG_BYTES", self.LIMIT)
        monkeypatch.setattr(writer, "_CHECKPOINT_PATIENCE", 20)
        store = await SqliteStore.open(path, patience=PATIENCE)
        yield store
        await store.close()

    async def test_it_stays_short_however_much_is_written(
        self, store: SqliteStore, path: Path
    ) -> None:
        sizes = []
        for _ in range(100):
            await submitted(store)
            sizes.append(file.log_size(path))
        group = max(after - before for before, after in pairwise(sizes))
        assert max(sizes) <= self.LIMIT + group
        assert path.stat().st_size > self.LIMIT / 2
        assert len(await stored_ids(store)) == 100

    async def test_a_reader_of_an_old_state_is_not_waited_for_each_time(
        self, disk: Disk, store: SqliteStore, path: Path
    ) -> None:
        await submitted(store)
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM jobs").fetchall()
        async with asyncio.timeout(10):
            while file.log_size(path) < 3 * self.LIMIT:
                await submitted(store)
        assert reader.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
        assert 1 <= disk.checkpoints <= 3
        reader.close()
        async with asyncio.timeout(10):
            while file.log_size(path) > 2 * self.LIMIT:
                await submitted(store)

    async def test_sqlite_never_copies_it_by_itself(self, store: SqliteStore) -> None:
        def setting(connection: sqlite3.Connection) -> int:
            return int(connection.execute("PRAGMA wal_autocheckpoint").fetchone()[0])

        assert await store._writer.run(setting) == 0
        assert await store._readers.run(setting) == 0


class TestFailure:
    """What becomes of callers when the writer's thread meets an error that nobody foresaw."""

    @pytest.fixture
    async def store(self, path: Path) -> AsyncIterator[SqliteStore]:
        store = await SqliteStore.open(path, patience=PATIENCE)
        yield store
        async with asyncio.timeout(5):
            await store.close()

    async def test_everybody_who_waits_is_told(
        self, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        busy, free = threading.Event(), threading.Event()

        def fail() -> sqlite3.Connection:
            busy.set()
            assert free.wait(10)
            raise ZeroDivisionError

        monkeypatch.setattr(store._writer, "_begin", fail)
        watching = asyncio.create_task(store.keep_watch())
        first = asyncio.create_task(submitted(store))
        await asyncio.to_thread(busy.wait, 10)
        later = asyncio.create_task(submitted(store))
        await asyncio.sleep(0)
        free.set()
        async with asyncio.timeout(5):
            outcomes = await asyncio.gather(first, later, return_exceptions=True)
            with pytest.raises(ZeroDivisionError):
                await watching
        for outcome in outcomes:
            assert isinstance(outcome, StoreUnavailable)
            assert "ZeroDivisionError" in str(outcome)

    async def test_whoever_comes_later_is_told_at_once(
        self, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(store._writer, "_log_size", lambda: 1 // 0)
        job = await submitted(store)
        with pytest.raises(ZeroDivisionError):
            await store.keep_watch()
        with pytest.raises(StoreUnavailable):
            await submitted(store)
        with pytest.raises(StoreUnavailable):
            await store.wait_for_change(0, timedelta(seconds=5))
        assert await stored_ids(store) == {job.id}

    async def test_trouble_with_the_log_is_no_failure(
        self, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused() -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(store._writer, "_log_size", refused)
        jobs = [await submitted(store) for _ in range(3)]
        assert await stored_ids(store) == {job.id for job in jobs}
