"""One connection of DuckDB at work: on a piece, or on the files of pieces."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import duckdb

from segexport.errors import (
    DatasetError,
    EngineError,
    ExportCancelled,
    ProfileStoreCorrupt,
    ProfileStoreError,
    SegexportError,
)
from segexport.exports.engine import Column, Written
from segexport.jobs.request import FileFormat
from segexport.sql import literal

CONNECTION_SETTINGS: Final = (
    # Both are needed for `query_progress()`, on the connection that runs the query.
    "SET enable_progress_bar = true",
    "SET enable_progress_bar_print = false",
)
COPY_OPTIONS: Mapping[FileFormat, str] = MappingProxyType(
    {
        FileFormat.PARQUET: "FORMAT parquet, RETURN_STATS",
        FileFormat.NDJSON: "FORMAT json",
        FileFormat.NDJSON_GZ: "FORMAT json, COMPRESSION gzip",
    }
)


class DuckDBDesk:
    """See `segexport.exports.engines.piece.Desk`; raises what an engine's contract says.

    `snapshot` is the folder of what is read. Nothing begins any more once `is_stopped`.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        snapshot: Path,
        is_stopped: Callable[[], bool],
    ) -> None:
        for setting in CONNECTION_SETTINGS:
            connection.execute(setting)
        self._connection = connection
        self._snapshot = snapshot
        self._is_stopped = is_stopped
        self._done = 0.0

    def make(self, table: str, query: str) -> None:
        """Keep the rows of a query in a table that only this connection sees."""
        self.rows(f"CREATE OR REPLACE TEMP TABLE {table} AS {query}")

    def rows(self, query: str) -> list[Any]:
        """The rows of a query."""
        return self._run(query)

    def write(self, query: str, target: Path, kind: FileFormat) -> Written:
        """Write the rows of a query to a file."""
        copy = f"COPY ({query}) TO {literal(target)} ({COPY_OPTIONS[kind]})"
        (facts,) = self._run(copy, target)
        if kind is not FileFormat.PARQUET:  # COPY tells the rows alone
            return Written(facts[0], target.stat().st_size)
        _, rows, size, *_ = facts
        return Written(rows, size)

    def described(self, query: str) -> Sequence[Column]:
        """The columns of a query."""
        return [Column(name, str(kind)) for name, kind, *_ in self.rows(f"DESCRIBE {query}")]

    def reached(self, done: float) -> None:
        """What runs next begins when this share of the piece is done."""
        self._done = done

    def progress(self) -> float:
        """How much of the piece is done; 0 as long as no share has been reached."""
        if not self._done:
            return 0.0
        running = max(0.0, self._connection.query_progress()) / 100
        return self._done + (1 - self._done) * running

    def interrupt(self) -> None:
        """Stop the query that runs."""
        self._connection.interrupt()

    def _run(self, query: str, target: Path | None = None) -> list[Any]:
        if self._is_stopped():
            raise ExportCancelled("the export was told to stop")
        try:
            return self._connection.execute(query).fetchall()
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
        if str(self._snapshot) in said:
            if isinstance(error, duckdb.IOException):
                return ProfileStoreError(
                    f"a file of snapshot {self._snapshot} cannot be read ({said}); check that "
                    "the profile store is mounted and whole"
                )
            return ProfileStoreCorrupt(
                f"a file of snapshot {self._snapshot} is damaged ({said}); load the snapshot again"
            )
        if isinstance(error, duckdb.IOException) and target is not None:
            return DatasetError(
                f"{target} cannot be written ({said}); check the folder's permissions "
                "and the free space"
            )
        return EngineError(f"a query of the export went wrong ({type(error).__name__}: {said})")
