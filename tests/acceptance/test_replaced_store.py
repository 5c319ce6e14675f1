"""`segexport serve`, when its store is replaced under it: it says so, and ends."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from support.command_line import Segexport
from support.waiting import wait_until

JOB = {
    "filter": {"segments": [{"segmentId": "loyalty-gold"}]},
    "destination": {"datasetId": "gold-members"},
}


def remove(store: Path, _: Path) -> None:
    store.unlink()


def move_backup(store: Path, backup: Path) -> None:
    backup.rename(store)


def copy_backup(store: Path, backup: Path) -> None:
    shutil.copyfile(backup, store)


def remove_logs(store: Path, _: Path) -> None:
    for name in ("jobs.sqlite-wal", "jobs.sqlite-shm"):
        (store.parent / name).unlink()


def jobs_in(store: Path) -> int:
    with closing(sqlite3.connect(store)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return int(connection.execute("SELECT count(*) FROM jobs").fetchone()[0])


@pytest.mark.parametrize(
    ("way", "left"), [(remove, None), (move_backup, 2), (copy_backup, 2), (remove_logs, 4)]
)
@pytest.mark.parametrize("asked", [True, False], ids=["asked", "idle"])
def test_a_service_whose_store_is_replaced_refuses_jobs_and_ends_with_the_reason(
    segexport: Segexport, way: Callable[[Path, Path], None], left: int | None, asked: bool
) -> None:
    store = segexport.folder / "data" / "jobs.sqlite"
    backup = segexport.folder / "backup.sqlite"
    with segexport.serving() as process, httpx.Client(base_url=segexport.address) as client:

        def submit() -> int | None:
            """The answer's status; None where nobody answers any more."""
            try:
                return client.post("/data/core/ups/export/jobs", json=JOB).status_code
            except httpx.TransportError:
                return None

        def is_ready() -> bool:
            try:
                return client.get("/readyz").status_code == 200
            except httpx.TransportError:
                return False

        assert [submit(), submit()] == [200, 200]
        with closing(sqlite3.connect(store)) as source, closing(sqlite3.connect(backup)) as target:
            source.backup(target)
        assert [submit(), submit()] == [200, 200]
        way(store, backup)
        if asked:
            assert submit() in {503, None}
            wait_until(lambda: not is_ready(), 5, "it is not ready")
        assert process.wait(timeout=30) == 2
    said = segexport.log.read_text()
    assert "error [store.replaced] the store" in said
    assert "is not what was opened any more" in said
    if left is None:
        assert not store.exists()
    else:
        assert jobs_in(store) == left
        listed = segexport("list", "--format", "json")
        assert listed.returncode == 0, listed.stderr
