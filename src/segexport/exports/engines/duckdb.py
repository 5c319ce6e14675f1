"""Exports on DuckDB: one database in the process, one connection per running query."""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import duckdb

from segexport.database import open_database
from segexport.exports.disk import discard
from segexport.exports.engine import Column, PieceResult, Written, WrittenEndpoints
from segexport.exports.engines.dialect import DuckDBDialect
from segexport.exports.engines.duckdb_desk import DuckDBDesk
from segexport.exports.engines.endpoints import Endpoints
from segexport.exports.engines.piece import run_piece, select
from segexport.exports.engines.queries import Queries, Sources
from segexport.exports.engines.spill import SpillFolder
from segexport.exports.fields import PERSON_ID
from segexport.exports.plan import ExportPlan
from segexport.jobs.request import FileFormat
from segexport.sql import identifier, ndjson, parquet

BUCKETS_AT_ONCE: Final = 16
"""Buckets that are searched for keys in one query: a bucket alone keeps one thread busy."""
KEYS_AT_ONCE: Final = 2_000_000
"""Of about so many keys those that are shared are searched in one query, which holds them."""
RUNS: Final = 1_000
"""After so many runs a database is closed for another one, once nothing runs: DuckDB keeps some
kilobytes of each export on the heap for as long as its database is open."""
DIGESTS: Final = 1 << 128
"""So many digests are possible."""


class DuckDBEngine:
    """Runs exports on DuckDB within `threads` and `memory_limit` for all of them together.

    What does not fit into memory goes to a folder of its own under `spill`.
    """

    def __init__(self, *, spill: Path, threads: int, memory_limit: str) -> None:
        self._spill = SpillFolder(spill)
        self._open = partial(
            open_database, threads=threads, memory_limit=memory_limit, spill=self._spill.path
        )
        self._database = self._open()
        self._numbers = itertools.count(1)
        self._begun = 0  # in this database
        self._running = set[DuckDBRun]()

    @property
    def scratch(self) -> Path:
        """A folder that is deleted with the engine."""
        return self._spill.path

    def begin(self, plan: ExportPlan) -> "DuckDBRun":
        """A run of this plan."""
        if self._begun >= RUNS and not self._running:
            self._database.close()
            self._database, self._begun = self._open(), 0
        run = DuckDBRun(
            self._database, plan, number=next(self._numbers), ended=self._running.discard
        )
        self._begun += 1
        self._running.add(run)
        return run

    def close(self) -> None:
        """Close the database and delete what was spilled."""
        self._database.close()
        self._spill.remove()


class DuckDBRun:
    """One export; see `segexport.exports.engine.Run`."""

    def __init__(
        self,
        database: duckdb.DuckDBPyConnection,
        plan: ExportPlan,
        *,
        number: int,
        ended: Callable[["DuckDBRun"], None],
    ) -> None:
        self._database = database
        self._plan = plan
        self._ended = ended
        self._queries = Queries(plan, DuckDBDialect())
        self._keys = f"keys_{number}"
        self._duplicates = f"duplicates_{number}"
        self._lock = threading.Lock()
        self._desks: set[DuckDBDesk] = set()
        self._interrupted = False

    def reach(self) -> None:
        """It is in this process."""

    def prepare(self) -> None:
        """Find the keys that several deliverable profiles share, a few buckets at a time."""
        if self._plan.delivery is None:
            return
        keys, queries = self._keys, self._queries
        buckets = range(self._plan.snapshot.buckets)
        with self._desk() as desk:
            desk.rows(f"CREATE OR REPLACE TABLE {keys} (digest UHUGEINT, person_id BIGINT)")
            try:
                for first in range(0, len(buckets), BUCKETS_AT_ONCE):
                    sources = self._sources(buckets[first : first + BUCKETS_AT_ONCE])
                    select(queries, desk, sources)
                    desk.rows(f"INSERT INTO {keys} {queries.keys(sources)}")
                desk.rows(
                    f"CREATE OR REPLACE TABLE {self._duplicates} (digest UHUGEINT, winner BIGINT)"
                )
                for part in _parts(self._plan.snapshot.persons):
                    shared = queries.duplicates(f"(FROM {keys} WHERE {part}) AS keys")
                    desk.rows(f"INSERT INTO {self._duplicates} {shared}")
            finally:
                self._drop(keys)

    def run_piece(self, index: int, *, data: Sequence[Path], discards: Path) -> PieceResult:
        """Select, judge, merge and write the buckets of one piece."""
        sources = self._sources(self._plan.buckets(index))
        with self._desk() as desk:
            return run_piece(self._queries, index, desk, sources, data=data, discards=discards)

    def write_endpoints(self, data: Path, target: Path) -> WrittenEndpoints:
        """Write the endpoints of the profiles that a piece has written."""
        plan = self._plan
        if plan.application is None:
            raise ValueError("only an export for a Pinpoint application has endpoints")
        with self._desk() as desk:
            relation = parquet([data])
            if plan.format is not FileFormat.PARQUET:
                relation = ndjson([data], {one.name: one.type for one in self._planned(desk)})
            endpoints = Endpoints(relation, plan.attributes)
            if endpoints.within_json:
                fragments = self._fragments(desk, relation)
                endpoints = endpoints.with_fragments(fragments, plan.policy)
            written = desk.write_lines(endpoints.definitions(plan.application), target)
            ((unknown,),) = desk.rows(endpoints.unknown_consents())
        if not written.rows:
            discard(target)
        return WrittenEndpoints(written if written.rows else None, unknown_consents=unknown)

    def join_discards(self, pieces: Sequence[Path], target: Path) -> Written:
        """Write the rows of these discard files to one, in their order."""
        with self._desk() as desk:
            return desk.write(f"SELECT * FROM {parquet(pieces)}", target, FileFormat.PARQUET)

    def columns(self, data: Path) -> Sequence[Column]:
        """The columns of a file that a piece has written, in order."""
        with self._desk() as desk:
            if self._plan.format is FileFormat.PARQUET:
                return desk.described(f"SELECT * FROM {parquet([data])}")
            return self._planned(desk)  # JSON says no types

    def count(self, data: Path) -> Written:
        """The rows and the size of a Parquet file."""
        with self._desk() as desk:
            return desk.measured(data, FileFormat.PARQUET)

    def convert(self, data: Path, target: Path) -> Written:
        """Write a Parquet file of exported profiles anew, in the plan's format.

        Strings that are JSON by the plan are JSON in it.
        """
        with self._desk() as desk:
            columns = ", ".join(
                f"CAST({identifier(column.name)} AS {column.type}) AS {identifier(column.name)}"
                for column in self._planned(desk)
            )
            query = f"SELECT {columns} FROM {parquet([data])}"
            return desk.write(query, target, self._plan.format)

    def progress(self) -> float:
        """How much of the running pieces is done."""
        with self._lock:
            return sum(desk.progress() for desk in self._desks)

    def interrupt(self) -> None:
        """Stop what runs, and let nothing new begin."""
        with self._lock:
            self._interrupted = True
            for desk in self._desks:
                desk.interrupt()

    def close(self) -> None:
        """Drop the table of duplicates."""
        try:
            self._drop(self._duplicates)
        finally:
            self._ended(self)

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

    def _fragments(self, desk: DuckDBDesk, profiles: str) -> str:
        """The fragments of the buckets that these exported profiles come from, behind FROM."""
        snapshot = self._plan.snapshot
        bucket = f"{identifier(PERSON_ID)}::BIGINT % {snapshot.buckets}"
        buckets = [one for (one,) in desk.rows(f"SELECT DISTINCT {bucket} FROM {profiles}")]
        return parquet([snapshot.fragments_file(one) for one in sorted(buckets) or [0]])

    def _planned(self, desk: DuckDBDesk) -> Sequence[Column]:
        """The columns of the exported profiles as the plan has them."""
        sources, queries = self._sources([0]), self._queries
        nothing = "SELECT 0::UHUGEINT AS digest, 0::BIGINT AS winner WHERE false"
        desk.make(sources.duplicates, nothing)  # whether prepared or not
        select(queries, desk, sources)
        desk.make(sources.picked, f"{queries.picked(sources)} LIMIT 0")
        return desk.described(queries.profiles(sources))

    def _drop(self, table: str) -> None:
        with self._database.cursor() as connection:
            connection.execute(f"DROP TABLE IF EXISTS {table}")

    @contextmanager
    def _desk(self) -> Iterator[DuckDBDesk]:
        with self._database.cursor() as connection:
            desk = DuckDBDesk(connection, self._plan.snapshot.folder, lambda: self._interrupted)
            with self._lock:
                self._desks.add(desk)
            try:
                yield desk
            finally:
                with self._lock:
                    self._desks.discard(desk)


def _parts(keys: int) -> Iterator[str]:
    """Conditions that part so many digests, which are spread evenly, into ranges."""
    parts = max(1, keys // KEYS_AT_ONCE)
    bounds = [part * DIGESTS // parts for part in range(parts + 1)]
    for low, high in itertools.pairwise(bounds):
        yield f"digest BETWEEN {low}::UHUGEINT AND {high - 1}::UHUGEINT"
