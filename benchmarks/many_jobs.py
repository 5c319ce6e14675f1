"""Job stores to list: a thousand jobs, or a million.

Rows are written by SQLite itself, into a file that the store has made: a million jobs that
live their lives one by one would take hours. What is written is what the store writes: a few
lives are led through the steps of the domain, their rows are made by the store's own mapping,
and each job is one of them with another id at another time. Events and request ids, which
no list reads, are left out.

A job is 30 seconds younger than the next. The newest run or wait, all others have ended. One in
a thousand has failed, and one in a thousand is of the segment `RARE`; of a small store, as
many as fill two pages, the oldest, so that a page holds the same wherever it is taken.
"""

import asyncio
import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

from calls import body
from segexport.jobs import job as steps
from segexport.jobs.job import MAX_JOB_ID, Fault, FaultKind, Job, Scope
from segexport.jobs.publication import Counts, DataFile, Publication, PublishedBatch
from segexport.jobs.reading import parse_request
from segexport.store import rows as columns
from segexport.store.migrations import HEAD
from segexport.store.sqlite import SqliteStore
from segexport.store.store import FinishedPart, FinishedPiece

SCOPE: Final = Scope("local", "prod")
RARE: Final = "rare"
APART: Final = timedelta(seconds=30)
UNFINISHED: Final = 50
RARELY: Final = 1_000
"""One in so many has failed, one in so many is of the segment `RARE`."""
PIECES: Final = 8
_MICROSECOND: Final = timedelta(microseconds=1)
_FAILURE_COLUMNS: Final = ("number", "piece", "attempt", "failed_at", "message")
_BEGIN: Final = datetime(2025, 1, 1, tzinfo=UTC)
_AT_ONCE: Final = 10_000
_JOB_COLUMNS: Final = columns.FIXED_COLUMNS + columns.CHANGING_COLUMNS
_TIMES: Final = [
    _JOB_COLUMNS.index(name)
    for name in ("created_at", "deadline", "updated_at", "started_at", "finished_at")
]
_ID: Final = _JOB_COLUMNS.index("id")
_REQUEST_ID: Final = _JOB_COLUMNS.index("request_id")


def store_of(folder: Path, jobs: int) -> Path:
    """A folder with a store of so many jobs, made once: below `folder`, which is kept."""
    made = folder / f"{HEAD}-{jobs}"
    if not made.exists():
        unfinished = folder / f"{made.name}.new"
        unfinished.mkdir(parents=True, exist_ok=True)
        _fill(unfinished / "jobs.sqlite", jobs)
        unfinished.rename(made)
    return made


def middle(folder: Path) -> tuple[int, int]:
    """The cursor of the job in the middle of a store: milliseconds since 1970, and its id."""
    with closing(sqlite3.connect(folder / "jobs.sqlite")) as database:
        created_at, job_id = database.execute(
            "SELECT created_at, id FROM jobs ORDER BY organization, sandbox, created_at, id "
            "LIMIT 1 OFFSET (SELECT count(*) / 2 FROM jobs)"
        ).fetchone()
    return created_at // 1000, job_id


@dataclass(frozen=True, slots=True)
class _Life:
    """The rows of a job, as they are where its id is 0 and it was created at `_BEGIN`."""

    job: Sequence[Any]
    segments: Sequence[Sequence[Any]]
    pieces: Sequence[Sequence[Any]]
    failures: Sequence[Sequence[Any]]


def _fill(path: Path, jobs: int) -> None:
    path.unlink(missing_ok=True)
    asyncio.run(_make(path))
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA synchronous=OFF")
        database.execute("PRAGMA cache_size=-1000000")
        ids = _ids(jobs)
        for first in range(0, jobs, _AT_ONCE):
            database.execute("BEGIN")
            _write(database, ids, range(first, min(jobs, first + _AT_ONCE)))
            database.execute("COMMIT")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


async def _make(path: Path) -> None:
    await (await SqliteStore.open(path)).close()


def _ids(count: int) -> Sequence[int]:
    return random.Random(1).sample(range(1, MAX_JOB_ID), count)


def _write(database: sqlite3.Connection, ids: Sequence[int], places: range) -> None:
    jobs, segments, pieces, failures = [], [], [], []
    for place in places:
        life, job_id, later = _life(place, len(ids)), ids[place], place * APART // _MICROSECOND
        job = list(life.job)
        job[_ID], job[_REQUEST_ID] = job_id, f"{job_id:032x}"
        for column in _TIMES:
            job[column] = None if job[column] is None else job[column] + later
        jobs.append(job)
        segments += [(*scope, at + later, job_id) for *scope, at, _ in life.segments]
        pieces += [(job_id, *piece) for piece in life.pieces]
        failures += [(job_id, *failure) for failure in life.failures]
    database.executemany(_insert("jobs", _JOB_COLUMNS), jobs)
    database.executemany(_insert("job_segments", columns.SEGMENT_COLUMNS), segments)
    database.executemany(_insert("pieces", ("job_id", *columns.PIECE_COLUMNS)), pieces)
    database.executemany(_insert("failures", ("job_id", *_FAILURE_COLUMNS)), failures)


def _insert(table: str, names: Sequence[str]) -> str:
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"


def _life(place: int, jobs: int) -> _Life:
    usual = f"segment-{place % 100}"
    if place >= jobs - UNFINISHED:
        return _waiting(usual) if place % 5 else _running(usual)
    if jobs >= 1_000 * RARELY:
        if place % RARELY < 2:
            return _completed(RARE) if place % RARELY else _failed(usual)
    elif place < 400:
        return _completed(RARE) if place % 2 else _failed(usual)
    return _completed(usual)


def _submitted(segment: str) -> Job:
    request = parse_request(body(segment, "ups")).with_policy("timestamp-ordered", 1)
    return steps.submit(
        request,
        job_id=1,
        scope=SCOPE,
        request_id="any",
        now=_BEGIN,
        deadline=_BEGIN + timedelta(days=1),
    ).after


def _processing(segment: str) -> Job:
    job = steps.claim(_submitted(segment), _BEGIN + timedelta(seconds=1)).after
    job = steps.initialize(job, _BEGIN + timedelta(seconds=1), snapshot="20250101T000000-1").after
    return steps.start(job, _BEGIN + timedelta(seconds=2), pieces=PIECES, estimate=99_000).after


@cache
def _waiting(segment: str) -> _Life:
    return _rows(_submitted(segment))


@cache
def _running(segment: str) -> _Life:
    return _rows(_processing(segment), pieces=PIECES // 2)


@cache
def _failed(segment: str) -> _Life:
    fault = Fault(FaultKind.FAILED, "piece 7 has failed three times: no space left on the device")
    later = _BEGIN + timedelta(seconds=9)
    job = steps.clean_up(steps.fail(_processing(segment), later, fault).after, later).after
    message = "no space left on the device; make room"
    failures = [(n, 7, n, columns.to_micros(later), message) for n in (1, 2, 3)]
    return _rows(job, pieces=PIECES - 1, failures=failures)


@cache
def _completed(segment: str) -> _Life:
    later = _BEGIN + timedelta(seconds=9)
    batch = PublishedBatch(
        id="0f" * 16,
        files=tuple(_file(piece) for piece in range(PIECES)),
        counts=Counts(total=12_000 * PIECES, realized=12_000 * PIECES, failed=0),
        namespaces={"CRMID": 96_000, "ECID": 77_000, "Email": 91_000},
    )
    job = steps.publish(_processing(segment), later, Publication(batches=(batch,))).after
    return _rows(steps.complete(job, later).after)


def _file(piece: int) -> DataFile:
    return DataFile(name=f"part-{piece:05d}.parquet", rows=12_000, size=1 << 20, sha256="5a" * 32)


def _rows(job: Job, *, pieces: int = 0, failures: Sequence[Sequence[Any]] = ()) -> _Life:
    parts = [
        FinishedPart(selected=12_000, discarded=0, data=_file(piece), namespaces={"Email": 11_000})
        for piece in range(pieces)
    ]
    return _Life(
        job=columns.fixed_values(job) + columns.changing_values(job),
        segments=columns.segment_values(job),
        pieces=[
            columns.piece_values(FinishedPiece(index=index, epoch=1, parts=(part,)), _BEGIN)
            for index, part in enumerate(parts)
        ],
        failures=failures,
    )
