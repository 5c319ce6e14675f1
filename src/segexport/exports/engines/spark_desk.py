"""One session of Spark at work: on a piece, or on what is known before the pieces run."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from segexport.errors import (
    EngineError,
    EngineOutOfMemory,
    ExportCancelled,
    ProfileStoreCorrupt,
    ProfileStoreError,
    SegexportError,
)
from segexport.exports.disk import explaining, unwritable
from segexport.exports.engine import Written
from segexport.exports.engines.beside import beside
from segexport.exports.engines.duckdb import DuckDBRun
from segexport.exports.engines.queries import BATCH
from segexport.exports.engines.spark_cluster import FAULTS, first_line
from segexport.jobs.request import FileFormat

_GLOB: Final = re.compile(r"[][{}*?\\]")
"""What Hadoop takes for more than a letter of a path."""
_DAMAGED: Final = re.compile(
    r"CANNOT_READ_FILE_FOOTER|not a Parquet file|corrupted file|^Caused by: org\.apache\.parquet\.",
    re.MULTILINE,
)
_UNREADABLE: Final = re.compile(r"\[(?:FAILED_READ_FILE|PATH_NOT_FOUND).*")
_MEMORY: Final = re.compile(r"OutOfMemoryError|UNABLE_TO_ACQUIRE_MEMORY")
_UNWRITABLE: Final = re.compile(r"No space left on device|Mkdirs failed|Permission denied")


class SparkDesk:
    """See `segexport.exports.engines.piece.Desk`; raises what an engine's contract says.

    Its jobs run as the group `name`, and take turns with those of other `turns`. `local`
    does what needs no cluster, `snapshot` is the folder of what is read. Nothing begins any
    more once `is_stopped`.
    """

    def __init__(
        self,
        session: SparkSession,
        *,
        name: str,
        turns: str,
        local: DuckDBRun,
        snapshot: Path,
        is_stopped: Callable[[], bool],
    ) -> None:
        self.name = name
        self.progress = 0.0
        self._session = session
        self._local = local
        self._snapshot = snapshot
        self._is_stopped = is_stopped
        self._kept: list[DataFrame] = []
        with self._explaining():
            context = session.sparkContext  # what is set here is the calling thread's
            context.setJobGroup(name, name, interruptOnCancel=True)
            context.setLocalProperty("spark.scheduler.pool", turns)

    def read(self, view: str, files: Sequence[Path], schema: StructType | None) -> StructType:
        """Make a view of Parquet files that are alike, and tell their schema, if not known."""
        with self._explaining():
            # Folders above a file say nothing about it, whatever they are called.
            reader = self._session.read.option("recursiveFileLookup", "true")
            paths = [_GLOB.sub(r"\\\g<0>", str(file.absolute())) for file in files]
            schema = schema or reader.parquet(paths[0]).schema
            reader.schema(schema).parquet(*paths).createOrReplaceTempView(view)
            return schema

    def make(self, table: str, query: str) -> None:
        """Keep the rows of a query, from when they are first needed, in a view of the session."""
        with self._explaining():
            frame = self._session.sql(query).persist()
            self._kept.append(frame)
            frame.createOrReplaceTempView(table)

    def share(self, table: str, query: str) -> DataFrame:
        """Keep the rows of a query for all sessions, as `global_temp.<table>`, until forgotten."""
        with self._explaining():
            frame = self._session.sql(query).persist()
            frame.count()
            frame.createOrReplaceGlobalTempView(table)
            return frame

    def rows(self, query: str) -> Sequence[Sequence[Any]]:
        """The rows of a query."""
        with self._explaining():
            return self._session.sql(query).collect()

    def write(self, query: str, target: Path, kind: FileFormat) -> Written:
        """Write the rows of a query to a file: by one task, beside the target at first."""
        with self._written(target, query) as folder:
            return self._move(folder, target, kind)

    def write_batches(
        self, query: str, targets: Mapping[int, Path], kind: FileFormat
    ) -> Mapping[int, Written]:
        """Write the rows of a query to a file for each batch that has some, in one pass."""
        first = next(iter(targets.values()))
        with self._written(first, query, BATCH) as folder:
            return {
                batch: self._move(part, target, kind)
                for batch, target in targets.items()
                for part in folder.glob(f"*={batch}")
            }

    @contextmanager
    def _written(self, target: Path, query: str, *by: str) -> Iterator[Path]:
        """A folder beside the target, with the Parquet files of a query; by columns, if any."""
        if not target.parent.is_dir() or (target.exists() and not target.is_file()):
            raise unwritable(target, "its folder is missing, or it is no regular file")
        with beside(target) as folder:
            with self._explaining(target):
                rows = self._session.sql(query).coalesce(1)
                rows.write.partitionBy(*by).parquet(str(folder))
            yield folder

    def _move(self, folder: Path, target: Path, kind: FileFormat) -> Written:
        """Make the one Parquet file in a folder the target, in its format."""
        (written,) = folder.glob("part-*.parquet")
        if kind is not FileFormat.PARQUET:
            return self._local.convert(written, target)
        with explaining(target):
            written.replace(target)
        return self._local.count(target)

    def reached(self, done: float) -> None:
        """This share of the piece is done."""
        self.progress = done

    def cancel(self) -> None:
        """Stop the jobs that run."""
        with suppress(*FAULTS):  # without a driver, none runs
            self._session.sparkContext.cancelJobGroup(self.name)

    def close(self) -> None:
        """Forget what was kept."""
        for frame in self._kept:
            forget(frame)

    @contextmanager
    def _explaining(self, target: Path | None = None) -> Iterator[None]:
        if self._is_stopped():
            raise ExportCancelled("the export was told to stop")
        try:
            yield
        except FAULTS as error:
            raise self._explained(error, target) from error

    def _explained(self, error: Exception, target: Path | None) -> SegexportError:
        """Spark's error in the words of an engine's contract."""
        if self._is_stopped():
            return ExportCancelled("the export was told to stop")
        whole, said = str(error), first_line(error)
        if unreadable := _UNREADABLE.search(whole):
            said = unreadable[0]  # with the file's name
            if _DAMAGED.search(whole):
                return ProfileStoreCorrupt(
                    f"a file of snapshot {self._snapshot} is damaged ({said}); load the snapshot "
                    "again"
                )
            return ProfileStoreError(
                f"a file of snapshot {self._snapshot} cannot be read ({said}); check that the "
                "profile store is mounted and whole, on all executors"
            )
        if target is not None and _UNWRITABLE.search(whole):
            return unwritable(target, said)
        words = f"a query of the export went wrong ({type(error).__name__}: {said})"
        if _MEMORY.search(whole):
            return EngineOutOfMemory(
                f"{words}; raise spark.executor.memory, or spark.driver.memory where the master is "
                "local"
            )
        return EngineError(words)


def forget(frame: DataFrame) -> None:
    """Let go of the rows that are kept of a query."""
    with suppress(*FAULTS):  # with the driver, they are gone already
        frame.unpersist()
