"""A worker in a process of its own, which can be made to die at a chosen point.

It is forked (`support.forked`) with a point, or run as a program to be killed from outside.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson

from segexport.events.outbox import OutboxRow
from segexport.exports import on_disk, publishing, staging
from segexport.exports.engines.duckdb import DuckDBRun
from segexport.exports.object_store import ObjectStore
from segexport.jobs.job import Transition
from segexport.store.sqlite import SqliteStore
from segexport.store.store import FinishedPiece, Lease
from support.forked import TESTS, Forked
from support.workplace import Workplace

LEASE = timedelta(milliseconds=600)
PATIENCE = 20  # seconds


@dataclass(frozen=True, slots=True)
class Point:
    """A moment of a worker's work: before, during or after the nth call of something.

    `call` is `commit` with the state it leads to, `save_piece`, a blocking method of a run,
    a step of publishing (`move`, `sweep`, `remove`), or `request` with the method of a file
    system on an object store. `during` means a few milliseconds after the call has begun.
    """

    moment: str
    call: str
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.moment} {self.call} #{self.nth}"


async def start_worker(folder: Path) -> asyncio.subprocess.Process:
    """Start a process that works until it is killed; its output is this process's."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "support.worker_process", str(folder), "null", cwd=TESTS
    )


async def killed_worker(workers: Forked, folder: Path, point: Point) -> None:
    """Run a worker until it has killed itself at the point."""
    status = await asyncio.to_thread(
        workers.run, str(folder), orjson.dumps(asdict(point)).decode(), patience=PATIENCE
    )
    assert status == -signal.SIGKILL, f"the worker never came to {point}"


class Fuse:
    """Kills the process when the point is reached."""

    def __init__(self, point: Point | None) -> None:
        self._point = point
        self._calls = 0
        self._lock = threading.Lock()

    @contextmanager
    def around(self, call: str) -> Iterator[None]:
        point = self._point
        if point is None or call != point.call:
            yield
            return
        with self._lock:
            self._calls += 1
            due = self._calls == point.nth
        if due and point.moment == "before":
            die()
        if due and point.moment == "during":
            threading.Timer(0.004, die).start()
        yield
        if due and point.moment == "after":
            die()

    def wrap(self, call: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def fused(*args: Any, **kwargs: Any) -> Any:
            with self.around(call):
                return function(*args, **kwargs)

        return fused


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(folder: str, point: str) -> None:
    """Work below `folder` until killed, by itself at the `Point` (JSON, or `null`)."""
    told = orjson.loads(point)
    asyncio.run(_work(Path(folder), Point(**told) if told else None))


async def _work(folder: Path, point: Point | None) -> None:
    fuse = Fuse(point)
    plain_commit, plain_save = SqliteStore.commit, SqliteStore.save_piece

    async def commit(store: SqliteStore, transition: Transition, rows: Sequence[OutboxRow]) -> None:
        with fuse.around(f"commit {transition.after.state}"):
            await plain_commit(store, transition, rows)

    async def save_piece(store: SqliteStore, lease: Lease, piece: FinishedPiece) -> None:
        with fuse.around("save_piece"):
            await plain_save(store, lease, piece)

    patch(SqliteStore, "commit", commit)
    patch(SqliteStore, "save_piece", save_piece)
    for name in ("prepare", "run_piece", "join_discards", "columns"):
        patch(DuckDBRun, name, fuse.wrap(name, getattr(DuckDBRun, name)))
    for module in (publishing, on_disk):
        patch(module, "move", fuse.wrap("move", module.move))
    patch(publishing.DiscardFolder, "sweep", fuse.wrap("sweep", publishing.DiscardFolder.sweep))
    for module in (staging, on_disk):
        patch(module, "remove", fuse.wrap("remove", module.remove))
    plain_request = ObjectStore.request

    def request(store: ObjectStore, about: str, method: str, *rest: Any, **options: Any) -> Any:
        with fuse.around(f"request {method}"):
            return plain_request(store, about, method, *rest, **options)

    patch(ObjectStore, "request", request)
    place = await Workplace.open(folder, lease=LEASE)
    await place.new_worker(f"process {os.getpid()}").run()


def patch(owner: object, name: str, replacement: object) -> None:
    setattr(owner, name, replacement)


if __name__ == "__main__":
    main(*sys.argv[1:])
