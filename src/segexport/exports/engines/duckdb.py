"""Exports on DuckDB: one database in the process, one connection per running query."""

import itertools
import operator
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
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
from segexport.exports.engines.dialect import DuckDBDialect
from segexport.exports.engines.queries import Queries, Sources
from segexport.exports.engines.spill import SpillFolder
from segexport.exports.plan import ExportPlan
from segexport.jobs.request import FileFormat
from segexport.sql import literal, parquet

CONNECTION_SETTINGS: Final = (
    # Both are needed for `query_progress()`, on the connection that runs the query.
    "SET enable_progress_bar = true",
    "SET enable_progress_bar_print = false",
)
BUCKETS_AT_ONCE: Final = 16
"""Buckets that are searched for keys in one query: a bucket alone keeps one thread busy."""
PICKING: Final = 0.3
"""Share of a piece's time that selecting takes, before the rows are merged and written."""
MERGING: Final = 0.7
"""Share that is past when the rows of several batches are merged, before they are written."""
PROFILES: Final = "profiles"
"""The table of a piece's merged profiles, where several batches take from it."""
COPY_OPTIONS: Mapping[FileFormat, str] = MappingProxyType(
    {
        FileFormat.PARQUET: "FORMAT parquet, RETURN_STATS",
        FileFormat.NDJSON: "FORMAT json",
        FileFormat.NDJSON_GZ: "FORMAT json, COMPRESSION gzip",
    }
)


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
        self._queries = Queries(plan, DuckDBDialect())
        self._keys = f"keys_{number}"
        self._duplicates = f"duplicates_{number}"
        self._lock = threading.Lock()
        self._running: dict[duckdb.DuckDBPyConnection, float] = {}  # → what is done before
        self._interrupted = False

    def prepare(self) -> None:
        """Find the keys that several deliverable profiles share, a few buckets at a time."""
        if self._plan.delivery is None:
            return
        keys, buckets = self._keys, range(self._plan.snapshot.buckets)
        with self._connection() as connection:
            self._run(
                connection, f"CREATE OR REPLACE TABLE {keys} (digest UHUGEINT, person_id BIGINT)"
            )
            try:
                for first in range(0, len(buckets), BUCKETS_AT_ONCE):
                    sources = self._sources(buckets[first : first + BUCKETS_AT_ONCE])
                    self._select(connection, sources)
                    self._run(connection, f"INSERT INTO {keys} {self._queries.keys(sources)}")
                duplicates = self._queries.duplicates(keys)
                self._run(connection, f"CREATE OR REPLACE TABLE {self._duplicates} AS {duplicates}")
            finally:
                connection.execute(f"DROP TABLE IF EXISTS {keys}")

    def run_piece(self, index: int, *, data: Sequence[Path], discards: Path) -> PieceResult:
        """Select, judge, merge and write the buckets of one piece."""
        buckets = self._plan.buckets(index)
        sources, queries = self._sources(buckets), self._queries
        with self._connection() as connection:
            self._select(connection, sources)
            self._make(connection, sources.picked, queries.picked(sources))
            counts = {
                batch: (selected, discarded)
                for batch, selected, discarded in self._run(connection, queries.counts(sources))
            }
            namespaces: dict[int, dict[str, int]] = {}
            for batch, namespace, profiles in self._run(connection, queries.namespaces(sources)):
                namespaces.setdefault(batch, {})[namespace] = profiles
            self._running[connection] = PICKING
            wanted = [
                batch
                for batch in range(self._plan.batches)
                if index == 0 or operator.gt(*counts.get(batch, (0, 0)))
            ]
            written = self._write(connection, sources, {batch: data[batch] for batch in wanted})
            parts = []
            for batch in range(self._plan.batches):
                selected, discarded = counts.get(batch, (0, 0))
                part = Part(
                    selected=selected,
                    discarded=discarded,
                    data=written.get(batch),
                    namespaces=namespaces.get(batch, {}),
                )
                self._check(part, buckets)
                parts.append(part)
            told = any(part.discarded for part in parts)
            return PieceResult(
                parts=parts,
                discards=self._copy(connection, queries.discards(sources), discards)
                if told
                else None,
            )

    def _write(
        self, connection: duckdb.DuckDBPyConnection, sources: Sources, targets: Mapping[int, Path]
    ) -> Mapping[int, Written]:
        """The files of these batches. Profiles of several are merged once for all of them."""
        queries, kind = self._queries, self._plan.format
        profiles = queries.profiles(sources)
        if not self._plan.segment_per_batch:
            return {
                batch: self._copy(connection, profiles, target, kind)
                for batch, target in targets.items()
            }
        if not targets:
            return {}
        self._make(connection, PROFILES, profiles)
        written = {}
        for done, (batch, target) in enumerate(targets.items()):
            self._running[connection] = MERGING + (1 - MERGING) * done / len(targets)
            rows = queries.batch(batch, PROFILES, sources)
            written[batch] = self._copy(connection, rows, target, kind)
        return written

    def _check(self, part: Part, buckets: Sequence[int]) -> None:
        exported = part.data.rows if part.data else 0
        if exported + part.discarded != part.selected:
            raise ProfileStoreCorrupt(
                f"buckets {buckets[0]} to {buckets[-1]} of {self._plan.snapshot.folder} give "
                f"{exported} profiles for {part.selected - part.discarded} persons: their "
                "fragments and persons do not agree; load the snapshot again"
            )

    def join_discards(self, pieces: Sequence[Path], target: Path) -> Written:
        """Write the rows of these discard files to one, in their order."""
        with self._connection() as connection:
            return self._copy(connection, f"SELECT * FROM {parquet(pieces)}", target)

    def columns(self, data: Path) -> Sequence[Column]:
        """The columns of a file that a piece has written, in order."""
        with self._connection() as connection:
            query = f"SELECT * FROM {parquet([data])}"
            if self._plan.format is not FileFormat.PARQUET:  # JSON says no types
                sources = self._sources([0])
                self._select(connection, sources)
                nobody = f"{self._queries.picked(sources)} LIMIT 0"
                self._make(connection, sources.picked, nobody)
                query = self._queries.profiles(sources)
            described = self._run(connection, f"DESCRIBE {query}")
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
        with self._database.cursor() as connection:
            connection.execute(f"DROP TABLE IF EXISTS {self._duplicates}")

    def _sources(self, buckets: Sequence[int]) -> Sources:
        """These buckets, read from their files; what is selected of them in tables.

        Tables, because DuckDB then knows how few are selected: it filters the scan of the
        persons by them instead of hashing all persons first (measured: 1.5 times as fast).
        """
        snapshot, delivery = self._plan.snapshot, self._plan.delivery
        return Sources(
            persons=parquet([*map(snapshot.persons_file, buckets)]),
            fragments=parquet([*map(snapshot.fragments_file, buckets)]),
            memberships=parquet([*map(snapshot.memberships_file, buckets)]),
            events=parquet([*map(snapshot.events_file, buckets)]),
            instances=parquet([delivery.instances]) if delivery and delivery.instances else "",
            duplicates=self._duplicates,
        )

    def _select(self, connection: duckdb.DuckDBPyConnection, sources: Sources) -> None:
        if self._plan.segments:
            self._make(connection, sources.selected, self._queries.selected(sources))

    def _make(self, connection: duckdb.DuckDBPyConnection, table: str, query: str) -> None:
        """A table that only this connection sees."""
        self._run(connection, f"CREATE OR REPLACE TEMP TABLE {table} AS {query}")

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

    def _copy(
        self,
        connection: duckdb.DuckDBPyConnection,
        query: str,
        target: Path,
        kind: FileFormat = FileFormat.PARQUET,
    ) -> Written:
        copy = f"COPY ({query}) TO {literal(target)} ({COPY_OPTIONS[kind]})"
        (facts,) = self._run(connection, copy, target)
        if kind is not FileFormat.PARQUET:  # COPY tells the rows alone
            return Written(facts[0], target.stat().st_size)
        _, rows, size, *_ = facts
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
