"""One thread writes: it commits what concurrent callers ask for in groups.

A commit costs a flush to the disk, whatever it holds. So whoever asks while the disk is
busy goes into the next group: one transaction, a savepoint for each caller, one COMMIT.
A caller whose writes fail is rolled back to his savepoint and told so; nobody is told of
success before the COMMIT has returned.

Trouble with the file is told to whoever is in the group, and the next group tries again. An
error that nobody foresaw ends the thread: then everybody who waits is told, whoever comes later
too, and `failed` raises it for the service to end with.
"""

import asyncio
import itertools
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import Any, Final, NoReturn, TypeVar

from segexport.errors import StoreError, StoreReplaced, StoreUnavailable
from segexport.store.sqlite.file import LOG_BYTES, TROUBLE, is_busy
from segexport.store.sqlite.wal_index import copying
from segexport.store.sqlite.watch import Watch

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]

_GROUP: Final = 1024
"""Callers that share a commit at most: others wait for the lock, and results for the COMMIT."""
_LOOK_AROUND: Final = 0.05
"""Seconds between two looks for commits of other processes, while somebody waits for one."""
_LOOK_AT_FILES: Final = 1.0
"""Seconds between two looks at the files, while nobody waits for anything."""
_LOCK_RETRY: Final = 0.001
"""Seconds between two tries for the write lock. SQLite's own waiting grows to 100 ms, and a
busy neighbour's gaps are shorter than that."""
_CHECKPOINT_PATIENCE: Final = 1_000
"""Milliseconds that a checkpoint waits for other processes, which wait for it meanwhile."""
_NOTHING: Final = -1
"""No data version: the first look at a connection always finds a change."""


@dataclass(slots=True, eq=False)
class _Call:
    """What a caller asked for, and what became of it."""

    operation: Operation[Any]
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


class Writer:
    """Runs operations on the only connection that writes. Belongs to one event loop.

    `on_change` is called on the loop after each commit, by this process or another.
    """

    def __init__(
        self,
        watch: Watch,
        explain: Callable[[sqlite3.Error | OSError], StoreError],
        *,
        log_size: Callable[[], int],
        on_change: Callable[[], None],
        patience: timedelta,
    ) -> None:
        self._watch = watch
        self._log_size = log_size
        self._explain = explain
        self._on_change = on_change
        self._patience = patience.total_seconds()
        self._loop = asyncio.get_running_loop()
        self._asked: list[_Call] = []
        self._unanswered: set[_Call] = set()
        self._queue = SimpleQueue[list[_Call] | None]()
        self._lookouts = 0
        self._closing = False
        self._ended = self._loop.create_future()
        self._fatal: asyncio.Future[NoReturn] = self._loop.create_future()
        self._connection: sqlite3.Connection | None = None
        self._seen_of_others = _NOTHING
        self._checkpoint_above = LOG_BYTES
        self._groups = itertools.count(secrets.randbits(62))
        # A daemon: a program that dies without close() must not hang on it.
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    def run(self, operation: Operation[T]) -> asyncio.Future[T]:
        """Do it in the next group. Done when it is durable, or has failed without a trace."""
        self._require_open()
        if not self._asked:
            # Everybody who asks in this turn of the loop is handed over at once.
            self._loop.call_soon(self._hand_over)
        call = _Call(operation, self._loop.create_future())
        self._asked.append(call)
        self._unanswered.add(call)
        return call.future

    async def failed(self) -> NoReturn:
        """Wait for the error that ends the thread, and raise it."""
        await asyncio.shield(self._fatal)

    @contextmanager
    def looking_around(self) -> Iterator[None]:
        """While inside, commits of other processes are noticed, at once and then regularly."""
        self._require_open()
        self._lookouts += 1
        if self._lookouts == 1:
            self._queue.put([])
        try:
            yield
        finally:
            self._lookouts -= 1

    async def close(self) -> None:
        """Do what was asked for, then end."""
        if not self._closing:
            self._closing = True
            self._hand_over()
            self._queue.put(None)
        await asyncio.shield(self._ended)
        self._thread.join()

    def _require_open(self) -> None:
        if self._fatal.done():
            raise self._written_no_more()
        if self._closing:
            raise StoreUnavailable("the store is closed")

    def _hand_over(self) -> None:
        calls, self._asked = self._asked, []
        if calls:
            self._queue.put(calls)

    def _answer(self, calls: list[_Call], changed: bool) -> None:
        try:
            self._deliver(calls, changed)
        except Exception as error:  # noqa: BLE001  (the event loop would note it, and go on)
            self._fail(error)

    def _deliver(self, calls: list[_Call], changed: bool) -> None:
        for call in calls:
            self._unanswered.discard(call)
            if call.future.done():
                continue
            if call.error is None:
                call.future.set_result(call.result)
            else:
                call.future.set_exception(call.error)
        if changed:
            self._on_change()

    def _fail(self, error: Exception) -> None:
        if self._fatal.done():
            return
        self._fatal.set_exception(error)
        self._fatal.exception()  # a program that does not ask for it need not hear of it
        for call in self._unanswered:
            if not call.future.done():
                call.future.set_exception(self._written_no_more())
        self._unanswered.clear()

    def _written_no_more(self) -> StoreError:
        error = self._fatal.exception()
        if isinstance(error, StoreReplaced):
            return StoreReplaced(str(error))
        told = StoreUnavailable(
            f"the store is written no more, because its writer has met an error that nobody "
            f"foresaw ({error!r}). What was asked for last may have been written all the same: "
            "start the service again, and read"
        )
        told.__cause__ = error
        return told

    # Everything below runs in the writer's thread.

    def _work(self) -> None:
        try:
            self._write_groups()
            self._reset()
        except Exception as error:  # noqa: BLE001  (nobody waits for a thread to see what it met)
            if isinstance(error, StoreReplaced):
                self._watch.leave(self._connection)
            self._reset()
            self._on_loop(self._fail, error)
        finally:
            self._on_loop(self._ended.set_result, None)

    def _write_groups(self) -> None:
        going_on = True
        while going_on:
            calls, going_on = self._next_group()
            changed = self._write(calls) if calls else self._looked_around()
            if calls or changed:
                going_on &= self._on_loop(self._answer, calls, changed)
            if calls:
                self._checkpoint_when_due()

    def _on_loop(self, function: Callable[..., object], *arguments: Any) -> bool:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            # The loop was closed and the store was not: nobody is left to be told.
            return False
        return True

    def _next_group(self) -> tuple[list[_Call], bool]:
        """Wait for work or for the next look around; False with the last of the work."""
        group: list[_Call] = []
        try:
            while len(group) < _GROUP:
                if group:
                    calls = self._queue.get_nowait()
                else:
                    calls = self._queue.get(
                        timeout=_LOOK_AROUND if self._lookouts else _LOOK_AT_FILES
                    )
                if calls is None:
                    return group, False
                if not calls and not group:
                    break
                group += calls
        except Empty:
            pass
        return group, True

    def _write(self, calls: list[_Call]) -> bool:
        """Run a group; then each call has its result or its error. True if anything changed."""
        committing = None
        try:
            connection = self._begin()
            changed = self._others_committed()
            before = connection.total_changes
            for call in calls:
                self._run_one(connection, call)
            if connection.total_changes > before:
                changed = True
                committing = next(self._groups)
                connection.execute("UPDATE store SET last_group = ?", (committing,))
            connection.execute("COMMIT")
            self._watch.look()  # nobody is told of a commit that went into a lost file
        except TROUBLE as error:
            self._reset()
            if committing is None or not self._was_committed(committing):
                for call in calls:
                    call.error = self._failure(error, unsure=committing is not None)
            # Whatever took place, it is worth reading again.
            return True
        return changed

    def _begin(self) -> sqlite3.Connection:
        self._watch.look()
        connection = self._connected()
        until = time.monotonic() + self._patience
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() > until:
                    raise
                time.sleep(_LOCK_RETRY)
            else:
                return connection

    def _run_one(self, connection: sqlite3.Connection, call: _Call) -> None:
        connection.execute("SAVEPOINT caller")
        try:
            call.result = call.operation(connection)
        except Exception as error:
            if isinstance(error, sqlite3.Error) and not connection.in_transaction:
                raise  # The disk is full or broken: SQLite has given up the whole group.
            connection.execute("ROLLBACK TO caller")
            call.error = self._failure(error)
        connection.execute("RELEASE caller")

    def _failure(self, error: Exception, *, unsure: bool = False) -> Exception:
        """What one caller is told; an object of his own, for it will carry his traceback."""
        if not isinstance(error, TROUBLE):
            return error
        told = self._explain(error)
        if unsure:
            told = StoreUnavailable(f"{told}. It may have been written all the same: read again")
        told.__cause__ = error
        return told

    def _was_committed(self, group: int) -> bool:
        """Read again, after a COMMIT that reported an error, whether it took place."""
        try:
            (last,) = self._connected().execute("SELECT last_group FROM store").fetchone()
        except TROUBLE:
            self._reset()
            return False
        return int(last) == group

    def _others_committed(self) -> bool:
        """Whether another connection has committed since the last look."""
        try:
            version = int(self._connected().execute("PRAGMA data_version").fetchone()[0])
        except TROUBLE:
            self._reset()
            return False
        changed = version != self._seen_of_others
        self._seen_of_others = version
        return changed

    def _looked_around(self) -> bool:
        """Look at the files and for commits of others, with nothing to write.

        Raises `StoreReplaced`.
        """
        try:
            self._watch.look()
        except OSError:
            return False
        return self._others_committed()

    def _checkpoint_when_due(self) -> None:
        """Copy the log into the file once it has grown.

        SQLite would do so by itself, after a commit, while other processes go on writing;
        up to 3.51.2 it could then leave committed pages behind (sqlite.org/wal.html, "The
        WAL-Reset Bug"). RESTART takes the write lock first, so there is nobody to race with,
        and has the log begin anew.
        """
        size = 0
        try:
            size = self._log_size()
            if size <= self._checkpoint_above:
                return
            self._watch.look()
            connection = self._connected()
            connection.execute(f"PRAGMA busy_timeout={_CHECKPOINT_PATIENCE}")
            with copying:
                (blocked, *_) = connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            connection.execute("PRAGMA busy_timeout=0")
        except TROUBLE:
            # Nothing is lost: the log is read as before, and copied another time.
            self._reset()
            blocked = True
        # Somebody reads an old state: let the log grow rather than wait for him every time.
        self._checkpoint_above = size + LOG_BYTES if blocked else LOG_BYTES

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = self._watch.connect()
            # Waiting for the lock is done here, with shorter steps.
            connection.execute("PRAGMA busy_timeout=0")
            self._connection = connection
            self._seen_of_others = _NOTHING
        return self._connection

    def _reset(self) -> None:
        """Let go of a connection that may be in any state; closing rolls back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()
