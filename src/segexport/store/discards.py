"""The file of discarded profiles: written once by an export, expanded into events by the relay.

Parquet, one row per discarded profile, in the order in which their events are numbered:

    segment_namespace VARCHAR   of the segment that selected the profile; NULL where the
    segment VARCHAR             request named no segment
    person_id BIGINT            the profile store's id; where the person was erased since, the
                                row's place in the file from 1 on, which nobody has for an id
    code VARCHAR                why: an `ERROR_INSTANCE_…` code

The file is immutable: its path, SHA-256 and number of rows stand in the job's publication
and in its outbox row (`DiscardFile`). No two rows are alike.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self, cast

import duckdb

from segexport.database import open_database
from segexport.errors import DiscardFileUnusable
from segexport.jobs.publication import DiscardFile
from segexport.sql import parquet, parquet_metadata

COLUMNS: Final = ("segment_namespace", "segment", "person_id", "code")
"""The columns, in order. `DiscardRow` has the same order."""

DiscardRow = tuple[str | None, str | None, int, str]
"""(segment namespace, segment, person id, code)."""


CHUNK: Final = 2**20
"""Bytes that are read at once for a fingerprint."""


def fingerprint(path: Path, go_on: Callable[[], None] = lambda: None) -> str:
    """The SHA-256 of a file, in hex.

    `go_on` is called before each of its chunks: what it raises ends the reading.
    """
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        go_on()
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            go_on()
    return digest.hexdigest()


def _state(path: Path) -> tuple[int, ...]:
    """What differs as soon as a file is another, or its content is."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def require_no_link(path: Path) -> None:
    """Raise `DiscardFileUnusable` for a symbolic link: what it leads to is not ours."""
    if path.is_symlink():
        raise DiscardFileUnusable(
            f"the discard file {path} is a symbolic link, and none is followed; put the file "
            "itself in its place"
        )


class DiscardReader:
    """Reads a discard file from row `start` (counted from 0) on, a few rows at a time.

    Opening checks the whole content against the file's fingerprint, so it blocks for as
    long as reading the file takes, as does `read`: both belong into a thread, never two at
    once. Both raise `DiscardFileUnusable` if the file is missing, unreadable, or another than
    the job was finished with.
    """

    def __init__(self, file: DiscardFile, start: int = 0) -> None:
        path = Path(file.path)
        require_no_link(path)
        try:
            self._opened = _state(path)
            found = fingerprint(path)
        except OSError as error:
            raise DiscardFileUnusable(
                f"the discard file {path} cannot be read: {error.strerror}; "
                "bring it back and replay the job"
            ) from error
        if found != file.sha256:
            raise DiscardFileUnusable(
                f"the discard file {path} has changed since its job was finished (SHA-256 {found}, "
                f"was {file.sha256}); bring the original back and replay the job"
            )
        self._path = path
        # One thread keeps the file's order and costs nothing here: making events of the
        # rows takes far longer than reading them.
        self._database = open_database(threads=1)
        try:
            self._require_rows(file.rows)
            self._rows = self._database.execute(
                f"SELECT {', '.join(COLUMNS)} FROM {parquet([path], numbered=True)} "
                "WHERE file_row_number >= ?",
                [start],
            )
        except duckdb.Error as error:
            self._database.close()
            raise self._unreadable(error) from error
        except DiscardFileUnusable:
            self._database.close()
            raise

    def read(self, limit: int) -> Sequence[DiscardRow]:
        """The next rows, at most `limit`; empty at the end of the file."""
        try:
            rows = cast("list[DiscardRow]", self._rows.fetchmany(limit))
        except duckdb.Error as error:
            raise self._unreadable(error) from error
        self._require_unchanged()
        return rows

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def _require_unchanged(self) -> None:
        """The file may wait for a broker for hours, and is read bit by bit."""
        try:
            changed = _state(self._path) != self._opened
        except FileNotFoundError:
            changed = True
        if changed:
            raise DiscardFileUnusable(
                f"the discard file {self._path} was removed, or has changed, while its events were "
                "delivered; bring the original back and replay the job"
            )

    def _require_rows(self, expected: int) -> None:
        query = f"SELECT num_rows FROM {parquet_metadata(self._path)}"
        found = self._database.execute(query).fetchone()
        if found != (expected,):
            raise DiscardFileUnusable(
                f"the discard file {self._path} holds {found and found[0]} rows, but its job has "
                f"counted {expected} discards"
            )

    def _unreadable(self, error: duckdb.Error) -> DiscardFileUnusable:
        return DiscardFileUnusable(
            f"the discard file {self._path} is not what segexport writes: {error}"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
