"""Exports on DuckDB: one database in the process, one connection per running query."""

import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import duckdb

from segexport.database import open_database
from segexport.errors import (
    DatasetError,
    EngineError,
    ExportCancelled,
    ProfileStoreCorrupt,
    ProfileStoreError,
    SegexportError,
)
from segexport.exports.engine import Column, Part, PieceResult, Written
from segexport.exports.engines import queries
from segexport.exports.engines.spill import SpillFolder
from segexport.exports.plan import ExportPlan

CONNECTION_SETTINGS: Final = (
    # Both are needed for `query_progress()`, on the connection that runs the query.
    "SET enable_progress_bar = true",
    "SET enable_progress_bar_print = false",
)
BUCKETS_AT_ONCE: Final = 16
"""Buckets that are searched for keys in one query: a bucket alone keeps one thread busy."""
PICKING: Final = 0.3
"""Share of a piece's time that selecting takes, before the rows are merged and written."""


class DuckDBEngine:
    """Runs exports on DuckDB within `threads` and `memory_limit` for all of them together.

    What does not fit into memory goes to a folder of its own under `spill`.
    """

    def __init__(self, *, spill: Path, threads: int, memory_limit: str) -> None:
        self._spill = SpillFolder(spill)
        self._database = open_database(
            threads=threads, memory_limit=memory_limit, spill=self._spill.path
        )
        self._numbers = itertools.count(1)

    def begin(self, plan: ExportPlan) -> "DuckDBRun":
        """A run of this plan."""
        return DuckDBRun(self._database, plan, number=next(self._numbers))

    def close(self) -> None:
        """Close the database and delete what was spilled."""
        self._database.close()
        self._spill.remove()


class DuckDBRun:
    """One export; see `segexport.exports.engine.Run`."""

    def __init__(
        self, database: duckdb.DuckDBPyConnection, plan: ExportPlan, *, number: int
    ) -> None:
        self._database = database
        self._plan = plan
        self._number = number
        self._duplicates = f"duplicates_{number}" if plan.delivery else None
        self._lock = threading.Lock()
        self._running: dict[duckdb.DuckDBPyConnection, float] = {}  # → what is done before
        self._interrupted = False

    def prepare(self) -> None:
        """Find the keys that several deliverable profiles share, a few buckets at a time."""
        plan, keys = self._plan, f"keys_{self._number}"
        if plan.delivery is None or self._duplicates is None:
            return
        with self._connection() as connection:
            self._run(connection, queries.keys_table(keys))
            try:
                for first in range(0, plan.snapshot.buckets, BUCKETS_AT_ONCE):
                    buckets = range(plan.snapshot.buckets)[first : first + BUCKETS_AT_ONCE]
                    if plan.segments:
                        self._run(connection, queries.select(plan, buckets))
                    self._run(connection, queries.insert_keys(plan, plan.delivery, buckets, keys))
                self._run(connection, queries.find_duplicates(keys, self._duplicates))
            finally:
                connection.execute(queries.drop(keys))

    def run_piece(self, index: int, *, data: Sequence[Path], discards: Path) -> PieceResult:
        """Select, judge, merge and write the buckets of one piece."""
        buckets = self._plan.buckets(index)
        with self._connection() as connection:
            if self._plan.segments:
                self._run(connection, queries.select(self._plan, buckets))
            self._run(connection, queries.pick(self._plan, buckets, self._duplicates))
            ((selected, discarded),) = self._run(connection, queries.COUNT_PICKED)
            self._running[connection] = PICKING
            namespaces: Mapping[str, int] = {}
            written = None
            if selected > discarded or index == 0:
                namespaces = dict(self._run(connection, queries.COUNT_NAMESPACES))
                written = self._copy(connection, queries.profiles(self._plan, buckets), data[0])
            exported = written.rows if written else 0
            if exported + discarded != selected:
                raise ProfileStoreCorrupt(
                    f"buckets {buckets[0]} to {buckets[-1]} of {self._plan.snapshot.folder} give "
                    f"{exported} profiles for {selected - discarded} persons: their fragments "
                    "and persons do not agree; load the snapshot again"
                )
            part = Part(selected=selected, discarded=discarded, data=written, namespaces=namespaces)
            return PieceResult(
                parts=[part],
                discards=self._copy(connection, queries.discards(self._plan), discards)
                if discarded
                else None,
            )

    def join_discards(self, pieces: Sequence[Path], target: Path) -> Written:
        """Write the rows of these discard files to one, in their order."""
        with self._connection() as connection:
            return self._copy(connection, queries.join_files(pieces), target)

    def columns(self, data: Path) -> Sequence[Column]:
        """The columns of a file that a piece has written, in order."""
        with self._connection() as connection:
            described = self._run(connection, queries.describe(data))
            return [Column(name, str(kind)) for name, kind, *_ in described]

    def progress(self) -> float:
        """How much of the running pieces is done."""
        with self._lock:
            return sum(
                done + (1 - done) * max(0.0, connection.query_progress()) / 100
                for connection, done in self._running.items()
                if done
            )

    def interrupt(self) -> None:
        """Stop what runs, and let nothing new begin."""
        with self._lock:
            self._interrupted = True
            for connection in self._running:
                connection.interrupt()

    def close(self) -> None:
        """Drop the table of duplicates."""
        if self._duplicates is not None:
            with self._database.cursor() as connection:
                connection.execute(queries.drop(self._duplicates))

    @contextmanager
    def _connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._database.cursor() as connection:
            for setting in CONNECTION_SETTINGS:
                connection.execute(setting)
            with self._lock:
                self._running[connection] = 0.0
            try:
                yield connection
            finally:
                with self._lock:
                    del self._running[connection]

    def _copy(self, connection: duckdb.DuckDBPyConnection, query: str, target: Path) -> Written:
        ((_, rows, size, *_),) = self._run(connection, queries.copy(query, target), target)
        return Written(rows, size)

    def _run(
        self, connection: duckdb.DuckDBPyConnection, query: str, target: Path | None = None
    ) -> list[Any]:
        if self._interrupted:
            raise ExportCancelled("the export was told to stop")
        try:
            return connection.execute(query).fetchall()
        except duckdb.InterruptException as error:
            raise ExportCancelled("the export was told to stop") from error
        except duckdb.Error as error:
            raise self._explained(error, target) from error

    def _explained(self, error: duckdb.Error, target: Path | None) -> SegexportError:
        """DuckDB's error in the words of an engine's contract."""
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        if isinstance(error, duckdb.OutOfMemoryException):
            return EngineError(
                f"the export does not fit into memory ({said}); raise exports.memory_limit, "
                "or lower exports.pieces_in_flight"
            )
        snapshot = self._plan.snapshot.folder
        if str(snapshot) in said:
            if isinstance(error, duckdb.IOException):
                return ProfileStoreError(
                    f"a file of snapshot {snapshot} cannot be read ({said}); check that the "
                    "profile store is mounted and whole"
                )
            return ProfileStoreCorrupt(
                f"a file of snapshot {snapshot} is damaged ({said}); load the snapshot again"
            )
        if isinstance(error, duckdb.IOException) and target is not None:
            return DatasetError(
                f"{target} cannot be written ({said}); check the folder's permissions "
                "and the free space"
            )
        return EngineError(f"a query of the export went wrong ({type(error).__name__}: {said})")
