"""Whether the store's files are still those that were opened.

SQLite goes on with the files that it has open, whatever becomes of their names, and takes for the
log of a file whatever lies beside it under that name (sqlite.org/howtocorrupt.html, 1.4). So a
file that is put in the place of a store in use is mixed with the log of the old one, and what is
accepted from then on goes where nobody will find it. Against that:

- Before each use, and regularly where there is none, the three files are looked at: device and
  inode of each, and whether anybody has written into the file itself. In WAL mode that happens
  only where the log is copied into it, by any process, and the log's index tells of it.
- SQLite copies the log and deletes it by itself when the last connection is closed. One that can
  only read stays open longer than all others, so that this happens on purpose or not at all.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final, Self
from uuid import UUID

import structlog

from segexport.errors import StoreReplaced
from segexport.store.sqlite import file
from segexport.store.sqlite.wal_index import WalIndex, copying, descriptors

log: Final = structlog.stdlib.get_logger(__name__)

_PATIENCE: Final = 0.1
"""Seconds until whoever keeps the log's index locked counts as one who copies the log."""
_LAST_COPY: Final = 1_000
"""Milliseconds that the last copying of a log waits for other processes."""


class Loss(StrEnum):
    """What has become of the files."""

    FILE = "it was removed, moved away or replaced by another file"
    CONTENT = "another program has written into it, as when a backup is copied over it"
    LOG = "its log files (-wal, -shm) were removed or replaced"


@dataclass(frozen=True, slots=True)
class _Content:
    """The file at a moment at which nobody copied the log: bytes, time of the last change in
    nanoseconds, and what the log's index told."""

    size: int
    changed: int
    progress: bytes


class Watch:
    """Looks at the files of an open store, from any thread.

    `path` has been opened by `file.prepare`, and `descriptors` been told of it. What was found is
    final: a file that comes back has missed what was written meanwhile.
    """

    def __init__(self, path: Path, patience: timedelta) -> None:
        """Raises `StoreReplaced`, and what SQLite and the system raise."""
        self._path = path
        self._patience = patience
        self._log = file.log_of(path)
        self._log_index = file.log_index_of(path)
        self._loss: Loss | None = None
        self._looking = threading.Lock()
        self._content: _Content | None = None
        found = path.stat()
        self._opened = found.st_dev, found.st_ino
        self._connection = file.connect(path, patience, cache=file.READER_CACHE, read_only=True)
        try:
            self.identity = file.identity(self._connection)
            self._index = WalIndex(self._log_index)
            self._log_opened = {
                each: (found.st_dev, found.st_ino)
                for each in (self._log, self._log_index)
                for found in (each.stat(),)
            }
            self.look()
        except BaseException:
            self._connection.close()
            raise

    @classmethod
    def open(cls, path: Path, *, patience: timedelta, new_id: Callable[[], UUID]) -> Self:
        """Prepare the store in a file, and keep it open. Raises as `file.prepare` does."""
        descriptors.hold()
        try:
            file.prepare(path, patience=patience, new_id=new_id)
            with file.explained(path):
                return cls(path, patience)
        except BaseException:
            descriptors.let_go()
            raise

    def connect(self, *, cache: int = file.WRITER_CACHE) -> sqlite3.Connection:
        """A connection to the file that was opened, and no other; `cache` in bytes.

        Raises as `look` does.
        """
        self.look()
        return file.connect(self._path, self._patience, cache=cache, opened=self.look)

    def look(self) -> None:
        """Raise `StoreReplaced` if the files are not those that were opened; `OSError` where they
        cannot be looked at."""
        if self._loss is None:
            self._loss = self._found()
        self.require_same()

    def require_same(self) -> None:
        """Raise `StoreReplaced` if an earlier look has found that."""
        if self._loss is not None:
            raise StoreReplaced(
                f"the store {self._path} is not what was opened any more: {self._loss}. Nothing "
                "is written into it from here; stop everything that uses it, put the right file "
                "there without the two log files of another, and start again (docs/operations.md, "
                "Restoring a backup)"
            )

    def leave(self, connection: sqlite3.Connection | None) -> None:
        """Take the log out of the way of whatever has the store's name now.

        For once, after `look` has raised `StoreReplaced`. `connection` is one that writes to the
        files that were opened. What is only in the log is copied into the file that it belongs
        to, where that is still to be had; a log that was not copied is kept beside the file.
        """
        try:
            log_is_there = self._log.exists()
            log_is_ours = log_is_there and self._has_log(self._log)
            may_copy = self._loss is Loss.FILE and log_is_ours
            # Where there is no log, nobody else can have begun another yet.
            may_copy |= self._loss is Loss.LOG and not log_is_there
            if may_copy and connection is not None:
                self._copy_log(connection)
            if self._loss is not Loss.LOG and log_is_ours:
                self._set_log_aside()
        except (sqlite3.Error, OSError) as error:
            log.error(  # noqa: TRY400  (its words say it)
                "the log of the store is left where it is", file=str(self._log), error=str(error)
            )

    def close(self) -> None:
        """Let go of the files; call it when all other connections of the store are closed.

        Where nobody else uses the store, SQLite copies the log into the file and deletes it.
        """
        try:
            with suppress(StoreReplaced, sqlite3.Error, OSError):
                last = self.connect(cache=file.READER_CACHE)
                file.identity(last)  # it has the log open from here on
                self._connection.close()
                with copying:
                    last.close()
        finally:
            self._connection.close()
            descriptors.let_go(self._index.descriptor)

    def _found(self) -> Loss | None:
        progress = self._index.progress()  # before the file: a change that follows is then told
        found = _status(self._path)
        if found is None or (found.st_dev, found.st_ino) != self._opened:
            return Loss.FILE
        # The content first: a log that is gone may only be copied into a file that is as it was.
        if self._content != _Content(found.st_size, found.st_mtime_ns, progress):
            with self._looking:
                if not self._is_explained():
                    return Loss.CONTENT
        return None if self._has_log(self._log) and self._has_log(self._log_index) else Loss.LOG

    def _is_explained(self) -> bool:
        """Whether the file is as it was, or the log was copied into it since."""
        with self._index.nobody_copies(0 if self._content is None else _PATIENCE) as nobody:
            now = self._now() if nobody else None
            known, self._content = self._content, now
        if known is None or now is None:
            return True
        return now.progress != known.progress or now == known

    def _now(self) -> _Content:
        progress = self._index.progress()
        found = self._path.stat()
        return _Content(found.st_size, found.st_mtime_ns, progress)

    def _has_log(self, path: Path) -> bool:
        """Whether a file of the log is the one that was opened."""
        found = _status(path)
        return found is not None and (found.st_dev, found.st_ino) == self._log_opened[path]

    def _copy_log(self, connection: sqlite3.Connection) -> None:
        # SQLite goes by the files that it has open, and not by what has their names now.
        with copying:
            connection.execute(f"PRAGMA busy_timeout={_LAST_COPY}")
            busy, frames, copied = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        log.warning(
            "the log was copied into the file that it belongs to",
            complete=not busy and frames == copied,
        )

    def _set_log_aside(self) -> None:
        if self._has_log(self._log_index):
            self._log_index.unlink()
        if self._log.stat().st_size == 0:
            self._log.unlink()
            return
        aside = self._log.with_name(f"{self._log.name}.of-replaced-store-{time.time_ns()}")
        self._log.rename(aside)
        log.warning("the log of the store that was replaced is set aside", file=str(aside))


def _status(path: Path) -> os.stat_result | None:
    """The file of this name; None if there is none. Raises `OSError`."""
    try:
        return os.stat(path)  # noqa: PTH116  (half the time of Path.stat, before each use)
    except (FileNotFoundError, NotADirectoryError):
        return None
