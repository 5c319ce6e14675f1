"""Takes records in: good ones into Parquet parts, the others into a file of rejects.

Chunks of text are checked side by side, one to a thread; Parquet by one query that DuckDB spreads
over its threads.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import duckdb
import orjson

from segexport.profiles.attributes import Tree, found_by, found_in, join
from segexport.profiles.builder import Progress
from segexport.profiles.refusals import EXPLANATIONS
from segexport.profiles.sources import (
    Chunk,
    Kind,
    Refused,
    Source,
    chunks,
    place_of,
    position_of,
    records,
    unreadable,
)
from segexport.sql import file_to_write, parquet

_POLL: Final = 0.25  # seconds between two looks at a running query
_SLICE: Final = 16_384  # fragments whose attributes are looked at together
_FETCHED: Final = 1_000  # rejects in memory at once


@dataclass(frozen=True, slots=True)
class Found:
    """The attributes of some records, and whether any has numbers that a double does not hold."""

    attributes: Tree
    exact: bool = False

    def __add__(self, other: "Found") -> "Found":
        return Found(join(self.attributes, other.attributes), self.exact or other.exact)


_NOTHING: Final = Found({})


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of the records: how many are good, with which attributes, and where these
    are; why others are refused."""

    accepted: int
    refused: Counter[str]
    parts: Sequence[Path]
    found: Found


class Intake:
    """Checks the records of files, one file after the other.

    `check` makes the query that checks the records of a query (such as `fragments.checked`);
    unless `has_attributes`, its result has no column of that name.
    `rejects` receives, as NDJSON, the source, number, reason and text of what is refused.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        *,
        folder: Path,
        rejects: IO[bytes],
        check: Callable[[str], str],
        threads: int,
        has_attributes: bool = True,
    ) -> None:
        self._connection = connection
        self._folder = folder
        self._rejects = rejects
        self._check = check
        self._threads = threads
        self._run = _check if has_attributes else _write
        self._accepted = 0
        self._refused: Counter[str] = Counter()
        self._parts: list[Path] = []
        self._found = _NOTHING

    def take(self, sources: Sequence[Source], progress: Progress) -> Taken:
        """Check all records. Raises `FragmentsUnreadable` if a file cannot be read."""
        self._folder.mkdir()
        total, before = sum(source.size for source in sources), 0
        with ThreadPoolExecutor(self._threads) as pool:
            for index, source in enumerate(sources):
                take = self._take_whole if source.kind is Kind.PARQUET else self._take_chunks
                for done in take(pool, index, source):
                    progress("reading", before + done, total)
                before += source.size
        return Taken(self._accepted, self._refused, tuple(self._parts), self._found)

    def _take_chunks(self, pool: ThreadPoolExecutor, index: int, source: Source) -> Iterator[int]:
        """Take a file of text; gives the bytes done, again and again."""
        running: deque[tuple[Chunk, Path, Future[Found]]] = deque()

        def settle() -> int:
            chunk, part, future = running.popleft()
            self._settle(source, part, chunk.refused, future.result())
            return chunk.end

        for chunk in chunks(source):
            part = self._new_part()
            offset = position_of(index, chunk.first) - 1
            query = self._check(f"""
                SELECT {offset} + number AS position, raw
                FROM (SELECT unnest(texts) AS raw, generate_subscripts(texts, 1) AS number
                      FROM (SELECT ?::VARCHAR[] AS texts))
                WHERE trim(raw, chr(32) || chr(9) || chr(13)) <> ''""")
            cursor = self._connection.cursor()
            running.append(
                (chunk, part, pool.submit(self._run, cursor, query, part, [chunk.texts]))
            )
            if len(running) > self._threads:
                yield settle()
        while running:
            yield settle()

    def _take_whole(self, pool: ThreadPoolExecutor, index: int, source: Source) -> Iterator[int]:
        """Take a Parquet file; gives the bytes done, again and again."""
        part, cursor = self._new_part(), self._connection.cursor()
        query = self._check(f"""
            SELECT {position_of(index, 0)} + position AS position, raw
            FROM ({records(source, cursor)})""")
        cursor.execute("SET enable_progress_bar = true")
        cursor.execute("SET enable_progress_bar_print = false")
        future = pool.submit(self._run, cursor, query, part, [])
        percent = 0.0
        try:
            while not wait([future], timeout=_POLL).done:
                # The queries that follow the check begin at nothing again.
                percent = max(percent, cursor.query_progress())
                yield int(source.size * percent / 100)
            found = future.result()
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error as error:
            raise unreadable(source.path, error) from error
        except BaseException:
            cursor.interrupt()
            raise
        self._settle(source, part, (), found)
        yield source.size

    def _new_part(self) -> Path:
        part = self._folder / f"part-{len(self._parts):06d}.parquet"
        self._parts.append(part)
        return part

    def _settle(
        self, source: Source, part: Path, unchecked: Sequence[Refused], found: Found
    ) -> None:
        """Count what a part holds, and write down what it refused, in the file's order."""
        self._found += found
        cursor = self._connection.cursor()
        cursor.execute(f"SELECT reason, count(*) FROM {parquet([part])} GROUP BY reason")
        for reason, count in cursor.fetchall():
            if reason is None:
                self._accepted += count
            else:
                self._refused[reason] += count
        self._refused.update(refused.reason for refused in unchecked)
        cursor.execute(f"""
            SELECT position, reason, raw FROM {parquet([part])}
            WHERE reason IS NOT NULL ORDER BY position""")
        waiting = deque(unchecked)
        while rows := cursor.fetchmany(_FETCHED):
            for position, reason, raw in rows:
                _, number = place_of(position)
                while waiting and waiting[0].number < number:
                    self._write(source, waiting.popleft())
                self._write(source, Refused(number, reason, raw))
        for refused in waiting:
            self._write(source, refused)

    def _write(self, source: Source, refused: Refused) -> None:
        document = {
            "source": str(source.path).encode(errors="backslashreplace").decode(),
            "record": refused.number,
            "reason": refused.reason,
            "explanation": EXPLANATIONS[refused.reason],
            "raw": refused.raw,
        }
        self._rejects.write(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))


def _write(
    cursor: duckdb.DuckDBPyConnection, query: str, part: Path, parameters: Sequence[Sequence[str]]
) -> Found:
    """Write the checked records into a part; they have no attributes."""
    cursor.execute(
        f"COPY ({query}) TO {file_to_write(part)} (FORMAT parquet, ROW_GROUP_SIZE {_SLICE})",
        parameters,
    )
    return _NOTHING


def _check(
    cursor: duckdb.DuckDBPyConnection, query: str, part: Path, parameters: Sequence[Sequence[str]]
) -> Found:
    """Write the checked records into a part, and find their attributes."""
    _write(cursor, query, part, parameters)
    cursor.execute(f"""
        SELECT min(position), max(position), coalesce(bool_or(exact) FILTER (reason IS NULL), false)
        FROM {parquet([part])}""")
    ((first, last, exact),) = cursor.fetchall()
    attributes: Tree = {}
    for start in range(first or 0, (last or -1) + 1, _SLICE):
        cursor.execute(f"""
            SELECT {found_by("attributes")} FROM {parquet([part])}
            WHERE reason IS NULL AND position BETWEEN {start} AND {start + _SLICE - 1}""")
        ((structure,),) = cursor.fetchall()
        attributes = join(attributes, found_in(structure))
    return Found(attributes, exact)
