"""One connection of DuckDB at work: on a piece, or on the files of pieces."""

import gzip
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import duckdb
from duckdb.sqltypes import DuckDBPyType

from segexport.errors import (
    EngineError,
    EngineOutOfMemory,
    ExportCancelled,
    ProfileStoreCorrupt,
    ProfileStoreError,
    SegexportError,
)
from segexport.exports.disk import explaining, unwritable
from segexport.exports.engine import Column, Written
from segexport.exports.engines.beside import beside
from segexport.exports.engines.json_lines import line, needs_lines
from segexport.exports.engines.queries import BATCH
from segexport.jobs.request import MAX_SEGMENTS, FileFormat
from segexport.sql import file_to_write, identifier, parquet, tells_of

CONNECTION_SETTINGS: Final = (
    # Both are needed for `query_progress()`, on the connection that runs the query.
    "SET enable_progress_bar = true",
    "SET enable_progress_bar_print = false",
    # A file that has to be opened again would be a second file of its batch.
    f"SET partitioned_write_max_open_files = {MAX_SEGMENTS}",
    # Rows of a batch that are held before they are written; the default would be half a million.
    "SET partitioned_write_flush_threshold = 65536",
)
_LINES: Final = (
    # No quote, and a delimiter that JSON can only hold escaped: the lines stay as they are.
    "FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER e'\\x01'"
)
COPY_OPTIONS: Mapping[FileFormat, str] = MappingProxyType(
    {
        FileFormat.PARQUET: "FORMAT parquet",
        FileFormat.NDJSON: "FORMAT json",
        FileFormat.NDJSON_GZ: "FORMAT json, COMPRESSION gzip",
    }
)
LINE_OPTIONS: Mapping[FileFormat, str] = MappingProxyType(
    {FileFormat.NDJSON: _LINES, FileFormat.NDJSON_GZ: f"{_LINES}, COMPRESSION gzip"}
)
BLOCK: Final = 1 << 20
"""Bytes that are read at a time to count lines."""


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
        query, options = self._written(query, kind)
        ((rows,),) = self._run(f"COPY ({query}) TO {file_to_write(target)} ({options})", target)
        return Written(rows, target.stat().st_size)

    def write_lines(self, query: str, target: Path) -> Written:
        """Write the JSON texts that are the one column of a query to a gzipped file."""
        options = LINE_OPTIONS[FileFormat.NDJSON_GZ]
        ((rows,),) = self._run(f"COPY ({query}) TO {file_to_write(target)} ({options})", target)
        return Written(rows, target.stat().st_size)

    def write_batches(
        self, query: str, targets: Mapping[int, Path], kind: FileFormat
    ) -> Mapping[int, Written]:
        """Write the rows of a query to a file for each batch that has some, in one pass."""
        first = next(iter(targets.values()))
        query, options = self._written(query, kind, BATCH)
        options = f"{options}, PARTITION_BY ({identifier(BATCH)})"
        with beside(first) as folder:
            self._run(f"COPY ({query}) TO {file_to_write(folder)} ({options})", first)
            written = {}
            for batch, target in targets.items():
                for file in folder.glob(f"*={batch}/*"):
                    with explaining(target):
                        file.replace(target)
                    written[batch] = self.measured(target, kind)
        return written

    def measured(self, file: Path, kind: FileFormat) -> Written:
        """The rows and the size of a file."""
        if kind is FileFormat.PARQUET:
            ((rows,),) = self.rows(f"SELECT count(*) FROM {parquet([file])}")
        else:
            with gzip.open(file) if kind is FileFormat.NDJSON_GZ else file.open("rb") as lines:
                rows = sum(block.count(b"\n") for block in iter(lambda: lines.read(BLOCK), b""))
        return Written(rows, file.stat().st_size)

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

    def _written(self, query: str, kind: FileFormat, *beside: str) -> tuple[str, str]:
        """The query whose rows go into a file of this kind, and how they do.

        Columns `beside` stay as they are.
        """
        if kind is FileFormat.PARQUET:
            return query, COPY_OPTIONS[kind]
        columns = {name: one for name, one in self._columns(query).items() if name not in beside}
        if not needs_lines(columns):
            return query, COPY_OPTIONS[kind]
        items = ", ".join([*map(identifier, beside), f"{line(columns)} AS line"])
        return f"SELECT {items} FROM ({query})", LINE_OPTIONS[kind]

    def _columns(self, query: str) -> Mapping[str, DuckDBPyType]:
        """The columns of a query, which is not run for that."""
        try:
            relation = self._connection.sql(query)
        except duckdb.Error as error:
            raise self._explained(error, None) from error
        return dict(zip(relation.columns, relation.types, strict=True))

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
            return EngineOutOfMemory(
                f"the export does not fit into memory ({said}); raise exports.memory_limit, "
                "or lower exports.pieces_in_flight"
            )
        if tells_of(said, self._snapshot):
            if isinstance(error, duckdb.IOException):
                return ProfileStoreError(
                    f"a file of snapshot {self._snapshot} cannot be read ({said}); check that "
                    "the profile store is mounted and whole"
                )
            return ProfileStoreCorrupt(
                f"a file of snapshot {self._snapshot} is damaged ({said}); load the snapshot again"
            )
        if isinstance(error, duckdb.IOException) and target is not None:
            return unwritable(target, said)
        return EngineError(f"a query of the export went wrong ({type(error).__name__}: {said})")
