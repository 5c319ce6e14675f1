"""Statements about what is done for jobs: their finished pieces, failures and progress.

Each function is one whole operation inside the caller's transaction.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from segexport.jobs.job import Job, Scope
from segexport.jobs.lifecycle import JobState
from segexport.store import rows as columns
from segexport.store.sqlite import jobs
from segexport.store.sqlite.jobs import HELD, holder, lost, marks
from segexport.store.store import MAX_FAILURES, Failure, FinishedPiece, Lease, Work

_PIECE = ", ".join(columns.PIECE_COLUMNS)

_SAVE_PIECE = f"""
    INSERT OR REPLACE INTO pieces (job_id, {_PIECE})
    SELECT {marks(1 + len(columns.PIECE_COLUMNS))} FROM jobs WHERE {HELD}
"""
_HOLDS = f"SELECT 1 FROM jobs WHERE {HELD}"
_SAVE_FAILURE = f"""
    INSERT INTO failures (job_id, number, piece, attempt, failed_at, message)
    SELECT :job, count(*) + 1, :piece, :attempt, :failed_at, :message
    FROM failures WHERE job_id = :job HAVING count(*) < {MAX_FAILURES}
"""


def save_piece(
    connection: sqlite3.Connection, lease: Lease, piece: FinishedPiece, now: datetime
) -> None:
    """Remember a piece, in place of an earlier one of the same index."""
    saved = connection.execute(
        _SAVE_PIECE, (lease.job_id, *columns.piece_values(piece, now), *holder(lease))
    ).rowcount
    if not saved:
        raise lost(lease)


def save_failure(connection: sqlite3.Connection, lease: Lease, failure: Failure) -> None:
    """Remember one of the first failures."""
    if connection.execute(_HOLDS, holder(lease)).fetchone() is None:
        raise lost(lease)
    connection.execute(
        _SAVE_FAILURE,
        {
            "job": lease.job_id,
            "piece": failure.piece,
            "attempt": failure.attempt,
            "failed_at": columns.to_micros(failure.failed_at),
            "message": failure.message,
        },
    )


def pieces(connection: sqlite3.Connection, job_id: int) -> Sequence[FinishedPiece]:
    """The pieces of a job, by index."""
    found = connection.execute(
        f"SELECT {_PIECE} FROM pieces WHERE job_id = ? ORDER BY piece", (job_id,)
    )
    return [columns.read_piece(values) for values in found]


def work(connection: sqlite3.Connection, job_ids: Collection[int]) -> Mapping[int, Work]:
    """What is done for each of these jobs."""
    keys, among = _among(job_ids)
    pieces = defaultdict[int, list[FinishedPiece]](list)
    for job_id, *values in connection.execute(
        f"SELECT job_id, {_PIECE} FROM pieces WHERE job_id IN ({among}) ORDER BY job_id, piece",
        keys,
    ):
        pieces[job_id].append(columns.read_piece(values))
    found = connection.execute(f"SELECT id, progress FROM jobs WHERE id IN ({among})", keys)
    return {
        job_id: Work(progress=progress, pieces=pieces.get(job_id, ())) for job_id, progress in found
    }


def failures(
    connection: sqlite3.Connection, job_ids: Collection[int]
) -> Mapping[int, Sequence[Failure]]:
    """The failures of each of these jobs that has some."""
    keys, among = _among(job_ids)
    found = defaultdict[int, list[Failure]](list)
    for job_id, piece, attempt, failed_at, message in connection.execute(
        "SELECT job_id, piece, attempt, failed_at, message FROM failures "
        f"WHERE job_id IN ({among}) ORDER BY job_id, number",
        keys,
    ):
        found[job_id].append(
            Failure(
                piece=piece,
                attempt=attempt,
                failed_at=columns.from_micros(failed_at),
                message=columns.failure_words(message),
            )
        )
    return dict(found)


def status(
    connection: sqlite3.Connection, scope: Scope, job_id: int
) -> tuple[Job, Work, Sequence[Failure]]:
    """One job, what is done for it, its failures."""
    job = jobs.get(connection, scope, job_id)
    done = Work() if job.state is JobState.COMPLETED else work(connection, [job.id])[job.id]
    return job, done, failures(connection, [job.id]).get(job.id, ())


def _among(job_ids: Collection[int]) -> tuple[Sequence[int], str]:
    """The jobs' keys, and the marks for them.

    Filled up to a power of two with keys that are there already: a connection keeps each
    statement that it has seen, about 10 kB, and one for each number of jobs would be a hundred.
    """
    keys = [columns.job_key(job_id) for job_id in job_ids]
    if keys:
        keys += keys[:1] * ((1 << (len(keys) - 1).bit_length()) - len(keys))
    return keys, marks(len(keys))
