"""Exports on Spark: the queries that every engine runs, each piece as a few jobs of the cluster.

The worker is Spark's driver. It and all executors see the same files under the same paths:
the profile store, and the folders in which pieces are written. What needs no cluster is done
by DuckDB in the worker's process: joining discard files, and writing JSON, of which Spark
would round the numbers.
"""

import itertools
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql.types import StructType

from segexport.errors import ProfileStoreCorrupt, ProfileStoreError
from segexport.exports.engine import Column, PieceResult, Written, WrittenEndpoints
from segexport.exports.engines.duckdb import DuckDBEngine, DuckDBRun
from segexport.exports.engines.piece import run_piece, select
from segexport.exports.engines.queries import Queries, Sources
from segexport.exports.engines.spark_cluster import SparkCluster
from segexport.exports.engines.spark_desk import SparkDesk, forget
from segexport.exports.engines.spark_dialect import SparkDialect
from segexport.exports.plan import ExportPlan
from segexport.settings import SparkSettings

FOR_PIECES: Mapping[str, str] = MappingProxyType({"spark.sql.shuffle.partitions": "1"})
"""A piece has one task behind each shuffle: what spreads over the executors are the pieces
that are in flight, and the scans of each."""
MAGIC: Final = b"PAR1"
"""How a Parquet file begins and ends. Spark takes an empty file for one without rows."""


class SparkEngine:
    """Runs exports on the cluster of the settings; `local` does what needs none."""

    def __init__(self, settings: SparkSettings, *, local: DuckDBEngine) -> None:
        self._local = local
        self._cluster = SparkCluster(settings, scratch=local.scratch)
        # A cancel asks the driver, which may be slow to answer; who cancels does not wait.
        self._canceller = ThreadPoolExecutor(1, thread_name_prefix="spark-cancel")
        self._numbers = itertools.count(1)

    def begin(self, plan: ExportPlan) -> "SparkRun":
        """A run of this plan."""
        name = f"segexport-{next(self._numbers)}"
        return SparkRun(self._cluster, self._canceller, plan, self._local.begin(plan), name=name)

    def close(self) -> None:
        """Disconnect from the cluster."""
        self._canceller.shutdown(wait=False, cancel_futures=True)
        self._cluster.close()
        self._local.close()


class SparkRun:
    """One export; see `segexport.exports.engine.Run`."""

    def __init__(
        self,
        cluster: SparkCluster,
        canceller: ThreadPoolExecutor,
        plan: ExportPlan,
        local: DuckDBRun,
        *,
        name: str,
    ) -> None:
        self._cluster = cluster
        self._canceller = canceller
        self._plan = plan
        self._local = local
        self._name = name
        self._queries = Queries(plan, SparkDialect())
        self._duplicates = f"duplicates_{name.replace('-', '_')}"
        self._shared: DataFrame | None = None
        self._schemas: dict[str, StructType] = {}
        self._lock = threading.Lock()
        self._desks: set[SparkDesk] = set()
        self._cancelling: Future[None] | None = None
        self._interrupted = False

    def reach(self) -> None:
        """Connect to the cluster, if that has not been done."""
        with self._desk("hello") as desk:
            desk.rows("SELECT 1")

    def prepare(self) -> None:
        """Find the keys that several deliverable profiles share, for all sessions."""
        if self._plan.delivery is None:
            return
        queries = self._queries
        with self._desk("keys") as desk:
            sources = self._sources(desk, range(self._plan.snapshot.buckets))
            select(queries, desk, sources)
            shared = queries.duplicates(f"({queries.keys(sources)}) AS keys")
            self._shared = desk.share(self._duplicates, shared)

    def run_piece(self, index: int, *, data: Sequence[Path], discards: Path) -> PieceResult:
        """Select, judge, merge and write the buckets of one piece."""
        with self._desk(f"piece-{index}", FOR_PIECES) as desk:
            sources = self._sources(desk, self._plan.buckets(index))
            return run_piece(self._queries, index, desk, sources, data=data, discards=discards)

    def write_endpoints(self, data: Path, target: Path) -> WrittenEndpoints:
        """Write the endpoints of the profiles that a piece has written."""
        return self._local.write_endpoints(data, target)

    def join_discards(self, pieces: Sequence[Path], target: Path) -> Written:
        """Write the rows of these discard files to one, in their order."""
        return self._local.join_discards(pieces, target)

    def columns(self, data: Path) -> Sequence[Column]:
        """The columns of a file that a piece has written, in order, in DuckDB's words."""
        return self._local.columns(data)

    def progress(self) -> float:
        """How much of the running pieces is done, by the steps that they have taken."""
        with self._lock:
            return sum(desk.progress for desk in self._desks)

    def interrupt(self) -> None:
        """Stop what runs, and let nothing new begin."""
        self._interrupted = True
        self._local.interrupt()
        with self._lock:
            if self._desks and (self._cancelling is None or self._cancelling.done()):
                self._cancelling = self._canceller.submit(_cancel, tuple(self._desks))

    def close(self) -> None:
        """Forget the keys that are shared."""
        if self._shared is not None:
            forget(self._shared)
        self._local.close()

    def _sources(self, desk: SparkDesk, buckets: Sequence[int]) -> Sources:
        """Views of these buckets, as far as the plan reads them."""
        plan, snapshot = self._plan, self._plan.snapshot
        needed: dict[str, Sequence[Path]] = {"persons": [*map(snapshot.persons_file, buckets)]}
        if plan.attributes:
            needed["fragments"] = [*map(snapshot.fragments_file, buckets)]
        if plan.events:
            needed["events"] = [*map(snapshot.events_file, buckets)]
        if plan.segments or plan.segment_membership:
            needed["memberships"] = [*map(snapshot.memberships_file, buckets)]
        if plan.delivery and plan.delivery.instances:
            needed["instances"] = [plan.delivery.instances]
        for name, files in needed.items():
            for file in files:
                _check_parquet(file)
            known = self._schemas.get(name)  # looked up in one file, once for all pieces
            self._schemas[name] = desk.read(f"source_{name}", files, known)
        return Sources(
            persons="source_persons",
            fragments="source_fragments",
            events="source_events",
            memberships="source_memberships",
            instances="source_instances",
            duplicates=f"global_temp.{self._duplicates}",
        )

    @contextmanager
    def _desk(
        self, work: str, options: Mapping[str, str] = MappingProxyType({})
    ) -> Iterator[SparkDesk]:
        desk = SparkDesk(
            self._cluster.session(options, lambda: self._interrupted),
            name=f"{self._name}-{work}",
            turns=self._name,
            local=self._local,
            snapshot=self._plan.snapshot.folder,
            is_stopped=lambda: self._interrupted,
        )
        with self._lock:
            self._desks.add(desk)
        try:
            yield desk
        finally:
            with self._lock:
                self._desks.discard(desk)
            desk.close()


def _cancel(desks: Iterable[SparkDesk]) -> None:
    for desk in desks:
        desk.cancel()


def _check_parquet(file: Path) -> None:
    """Raise for a file that is not there, or no Parquet: Spark takes an empty one for no rows."""
    try:
        with file.open("rb") as opened:
            start = opened.read(len(MAGIC))
            opened.seek(-min(len(MAGIC), file.stat().st_size), os.SEEK_END)
            end = opened.read()
    except OSError as error:
        raise ProfileStoreError(
            f"{file} cannot be read ({error.strerror}); check that the profile store is mounted "
            "and whole"
        ) from error
    if start != MAGIC or end != MAGIC:
        raise ProfileStoreCorrupt(
            f"{file} is damaged: it is no Parquet file; load the snapshot again"
        )
