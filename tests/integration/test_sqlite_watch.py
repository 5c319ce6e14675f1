"""A store whose files are removed, replaced or overwritten while it is open."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from segexport.errors import StoreReplaced, StoreUnavailable
from segexport.store.sqlite import SqliteStore, watch
from support.job_stories import SCOPE, submitted
from support.waiting import until

SAVED = 3
"""Jobs in the backup."""
LATER = 5
"""Jobs that are accepted after it was made."""


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def index_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-shm")


def remove(path: Path, _: Path) -> None:
    path.unlink()


def remove_everything(path: Path, _: Path) -> None:
    for file in (path, log_of(path), index_of(path)):
        file.unlink()


def move_away(path: Path, _: Path) -> None:
    path.rename(path.with_name("old.sqlite"))


def move_backup(path: Path, backup: Path) -> None:
    backup.rename(path)


def copy_backup(path: Path, backup: Path) -> None:
    shutil.copyfile(backup, path)


def copy_backup_with_its_times(path: Path, backup: Path) -> None:
    shutil.copy2(backup, path)


def copy_backup_onto_a_clean_place(path: Path, backup: Path) -> None:
    remove_everything(path, backup)
    shutil.copyfile(backup, path)


def remove_logs(path: Path, _: Path) -> None:
    log_of(path).unlink()
    index_of(path).unlink()


def remove_log(path: Path, _: Path) -> None:
    log_of(path).unlink()


def remove_log_index(path: Path, _: Path) -> None:
    index_of(path).unlink()


Way = Callable[[Path, Path], None]
REMOVING: list[Way] = [remove, remove_everything, move_away]
RESTORING: list[Way] = [
    move_backup,
    copy_backup,
    copy_backup_with_its_times,
    copy_backup_onto_a_clean_place,
]
REMOVING_LOGS: list[Way] = [remove_logs, remove_log, remove_log_index]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite"


@pytest.fixture
def backup(path: Path) -> Path:
    return path.with_name("backup.sqlite")


@pytest.fixture
async def store(path: Path, backup: Path) -> AsyncIterator[SqliteStore]:
    """With jobs of before and after a backup, all of them in the log."""
    store = await SqliteStore.open(path)
    for _ in range(SAVED):
        await submitted(store)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(backup)) as target:
        source.backup(target)
    for _ in range(LATER):
        await submitted(store)
    yield store
    await store.close()


def jobs_in(path: Path) -> int:
    """The number of jobs in a file that is whole."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (jobs,) = connection.execute("SELECT count(*) FROM jobs").fetchone()
    return int(jobs)


async def noticed(store: SqliteStore) -> None:
    """Return when the store has noticed by itself, which it does within about a second."""
    with pytest.raises(StoreReplaced):
        async with asyncio.timeout(5):
            await store.keep_watch()


@pytest.mark.parametrize("way", REMOVING + RESTORING + REMOVING_LOGS)
async def test_what_is_written_afterwards_is_refused_with_the_reason(
    store: SqliteStore, path: Path, backup: Path, way: Way
) -> None:
    way(path, backup)
    with pytest.raises(StoreReplaced, match=r"jobs\.sqlite is not what was opened any more"):
        await submitted(store)
    await noticed(store)
    with pytest.raises(StoreReplaced):
        await submitted(store)
    with pytest.raises(StoreReplaced):
        await store.jobs(SCOPE)


@pytest.mark.parametrize("way", REMOVING + RESTORING + REMOVING_LOGS)
async def test_a_store_that_nobody_uses_notices_it_too(
    store: SqliteStore, path: Path, backup: Path, way: Way
) -> None:
    way(path, backup)
    await noticed(store)


@pytest.mark.parametrize("way", RESTORING)
async def test_a_backup_that_is_put_there_stays_what_it_is(
    store: SqliteStore, path: Path, backup: Path, way: Way
) -> None:
    way(path, backup)
    before = path.read_bytes()
    await noticed(store)
    assert not log_of(path).exists()
    assert not index_of(path).exists()
    await store.close()
    assert path.read_bytes() == before
    assert jobs_in(path) == SAVED
    restored = await SqliteStore.open(path)
    assert len(await restored.jobs(SCOPE)) == SAVED
    await restored.close()


async def test_a_backup_that_comes_with_a_log_of_its_own_keeps_it(
    store: SqliteStore, path: Path, backup: Path
) -> None:
    with closing(sqlite3.connect(backup)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("CREATE TABLE since (x)")
        connection.commit()
        for name in ("jobs.sqlite", "jobs.sqlite-wal"):
            shutil.copyfile(
                backup.with_name(name.replace("jobs", "backup")), aside := path.with_name("aside")
            )
            aside.rename(path.with_name(name))
    index_of(path).unlink()
    await noticed(store)
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM since").fetchone() == (0,)
    assert jobs_in(path) == SAVED


@pytest.mark.parametrize("way", REMOVING)
async def test_a_file_that_is_gone_is_not_made_again(
    store: SqliteStore, path: Path, backup: Path, way: Way
) -> None:
    way(path, backup)
    await noticed(store)
    await store.close()
    assert not {path, log_of(path), index_of(path)} & set(path.parent.iterdir())


async def test_a_file_that_was_moved_away_holds_all_that_was_accepted(
    store: SqliteStore, path: Path, backup: Path
) -> None:
    move_away(path, backup)
    await noticed(store)
    await store.close()
    assert jobs_in(path.with_name("old.sqlite")) == SAVED + LATER


@pytest.mark.parametrize("way", REMOVING_LOGS)
async def test_what_only_a_removed_log_held_is_in_the_file(
    store: SqliteStore, path: Path, backup: Path, way: Way
) -> None:
    way(path, backup)
    await noticed(store)
    await store.close()
    assert jobs_in(path) == SAVED + LATER


async def test_the_log_of_a_file_that_was_overwritten_is_kept_aside(
    store: SqliteStore, path: Path, backup: Path
) -> None:
    log = log_of(path).read_bytes()
    copy_backup(path, backup)
    await noticed(store)
    (aside,) = path.parent.glob("jobs.sqlite-wal.of-replaced-store-*")
    assert aside.read_bytes() == log


async def test_of_two_that_share_a_file_both_leave_a_backup_alone(
    store: SqliteStore, path: Path, backup: Path
) -> None:
    other = await SqliteStore.open(path)
    await submitted(other)
    copy_backup(path, backup)
    await noticed(store)
    await noticed(other)
    await other.close()
    await store.close()
    assert jobs_in(path) == SAVED


def in_another_process(path: Path, statement: str) -> str:
    """What a program that is not ours gets to hear for a statement, or why it failed."""
    program = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)\n"
        "try:\n"
        "    print(*connection.execute(sys.argv[2]).fetchall())\n"
        "except sqlite3.Error as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path, statement],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("mode", ["PASSIVE", "RESTART", "TRUNCATE"])
async def test_a_log_that_another_process_copies_into_the_file_is_no_fault(
    store: SqliteStore, path: Path, mode: str
) -> None:
    for _ in range(3):
        before = path.stat().st_mtime_ns
        await submitted(store)
        copied = in_another_process(path, f"PRAGMA wal_checkpoint({mode})")
        assert copied.startswith("(0,")
        assert path.stat().st_mtime_ns > before
        await submitted(store)
    await store.close()
    assert jobs_in(path) == SAVED + LATER + 6


async def test_a_backup_that_is_copied_over_is_noticed_after_the_log_was_copied_too(
    store: SqliteStore, path: Path, backup: Path
) -> None:
    in_another_process(path, "PRAGMA wal_checkpoint(RESTART)")
    await submitted(store)
    copy_backup(path, backup)
    with pytest.raises(StoreReplaced, match="another program has written into it"):
        await submitted(store)


async def test_another_mode_another_name_and_a_backup_are_no_fault(
    store: SqliteStore, path: Path
) -> None:
    path.chmod(0o600)
    path.with_name("link.sqlite").hardlink_to(path)
    in_another_process(path, f"VACUUM INTO '{path.with_name('copy.sqlite')}'")
    await submitted(store)


async def test_a_store_behind_a_link_is_watched_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    real = tmp_path / "elsewhere" / "store.sqlite"
    path = tmp_path / "jobs.sqlite"
    path.symlink_to(real)
    store = await SqliteStore.open(path)
    await submitted(store)
    log_of(real).unlink()
    await noticed(store)
    await store.close()
    assert jobs_in(real) == 1


async def test_files_that_cannot_be_looked_at_are_trouble_that_passes(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as trouble:
        trouble.setattr(watch, "_status", refuse)
        with pytest.raises(StoreUnavailable, match="Permission denied"):
            await submitted(store)
    await submitted(store)


async def test_the_last_to_close_a_store_leaves_one_file(store: SqliteStore, path: Path) -> None:
    other = await SqliteStore.open(path)
    await store.close()
    assert log_of(path).exists()
    await other.close()
    assert not log_of(path).exists()
    assert not index_of(path).exists()
    assert jobs_in(path) == SAVED + LATER


async def test_closing_one_of_two_stores_takes_no_lock_of_the_other(
    store: SqliteStore, path: Path
) -> None:
    """A process that closes a descriptor of a file loses all of its locks on it."""
    other = await SqliteStore.open(path)
    await other.close()
    assert in_another_process(path, "PRAGMA journal_mode=DELETE") == "database is locked"
    # Whoever finds this byte free takes the log's index for one that nobody uses.
    program = (
        "import fcntl, os, sys\n"
        "fcntl.lockf(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 128)\n"
    )
    locking = subprocess.run(
        [sys.executable, "-c", program, index_of(path)], check=False, capture_output=True, text=True
    )
    assert "BlockingIOError" in locking.stderr
    await submitted(store)


@pytest.fixture
def descriptors() -> Callable[[], int]:
    folder = Path("/dev/fd")
    return lambda: len(list(folder.iterdir()))


async def test_stores_that_are_closed_leave_no_descriptor(
    path: Path, descriptors: Callable[[], int]
) -> None:
    async def once() -> None:
        store = await SqliteStore.open(path)
        await submitted(store)
        await store.jobs(SCOPE)
        await store.close()

    await once()
    before = descriptors()
    for _ in range(5):
        await once()

    async def as_before() -> bool:
        return descriptors() <= before

    await until(as_before, 5, "all descriptors are closed")


async def test_a_file_that_is_no_store_leaves_no_descriptor(
    path: Path, descriptors: Callable[[], int]
) -> None:
    path.write_text("no store" * 200)
    before = descriptors()
    for _ in range(5):
        with suppress(Exception):
            await SqliteStore.open(path)
    assert descriptors() <= before


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("made", ["VACUUM INTO", "PRAGMA journal_mode"])
async def test_a_store_that_is_not_in_wal_mode_is_brought_into_it(
    path: Path, backup: Path, made: str
) -> None:
    copy = path.with_name("copy.sqlite")
    if made == "VACUUM INTO":
        in_another_process(path, f"VACUUM INTO '{copy}'")
    else:
        shutil.copyfile(backup, copy)
        assert in_another_process(copy, "PRAGMA journal_mode=DELETE") == "('delete',)"
    opened = await SqliteStore.open(copy)
    assert in_another_process(copy, "PRAGMA journal_mode") == "('wal',)"
    await submitted(opened)
    await opened.close()
    assert in_another_process(copy, "PRAGMA journal_mode") == "('wal',)"
