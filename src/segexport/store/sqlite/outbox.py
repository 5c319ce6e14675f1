"""Statements about event rows, the relay's leadership, parked rows and replays.

Each function is one whole operation inside the caller's transaction.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

from segexport.errors import DiscardsWaiting, JobNotFound, RelayFenced, StoreError
from segexport.events.outbox import NumberedRow
from segexport.jobs.job import Scope
from segexport.jobs.publication import DiscardFile
from segexport.store import rows as columns
from segexport.store.store import Backlog, Parked, Replay

_ROW = ", ".join(("number", *columns.ROW_COLUMNS))

_LEAD = """
    UPDATE relay SET
        epoch = epoch + (leader IS NOT :leader), leader = :leader, lease_until = :until
    WHERE leader IS NULL OR leader = :leader OR lease_until <= :now
    RETURNING epoch
"""
_PARK = """
    INSERT INTO parked (number, job_id, row_offset, reason, parked_at) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (number) DO UPDATE SET row_offset = excluded.row_offset, reason = excluded.reason
"""
_REQUEST_REPLAY = """
    INSERT INTO replays (job_id, number, requested_at)
    SELECT job_id, min(number), ? FROM parked WHERE job_id = ? GROUP BY job_id
    RETURNING id
"""
_FINISH_REPLAY = """
    UPDATE replays SET finished_at = ? WHERE id = ? AND finished_at IS NULL RETURNING number
"""
_BACKLOG = """
    SELECT
        (SELECT coalesce(max(number), 0) FROM outbox),
        (SELECT delivered FROM relay),
        (SELECT count(*) FROM parked)
"""


def lead(
    connection: sqlite3.Connection, owner: str, duration: timedelta, now: datetime
) -> int | None:
    """Take or extend the leadership."""
    found = connection.execute(
        _LEAD,
        {
            "leader": owner,
            "until": columns.to_micros(now + duration),
            "now": columns.to_micros(now),
        },
    ).fetchone()
    return None if found is None else int(found[0])


def resign(connection: sqlite3.Connection, owner: str) -> None:
    """Give the leadership up, if it is held."""
    connection.execute(
        "UPDATE relay SET leader = NULL, lease_until = NULL WHERE leader = ?", (owner,)
    )


def rows_after(
    connection: sqlite3.Connection, number: int, limit: int, max_bytes: int
) -> Sequence[NumberedRow]:
    """The next rows, by number."""
    found = connection.execute(
        f"SELECT {_ROW} FROM outbox WHERE number > ? ORDER BY number LIMIT ?", (number, limit)
    )
    taken: list[NumberedRow] = []
    size = 0
    # Closed, for a cursor that is not read to its end keeps its snapshot.
    with closing(found):
        for values in found:
            numbered = columns.read_event(values)
            size += len(numbered.row.value)
            if taken and size > max_bytes:
                break
            taken.append(numbered)
    return taken


def rows_of_job(
    connection: sqlite3.Connection, job_id: int, after: int, through: int
) -> Sequence[NumberedRow]:
    """A job's rows in a range of numbers."""
    # By sequence: it orders a job's rows as their numbers do, and has the index.
    return _events(
        connection.execute(
            f"SELECT {_ROW} FROM outbox WHERE job_id = ? AND number > ? AND number <= ? "
            "ORDER BY sequence",
            (job_id, after, through),
        )
    )


def job_events(
    connection: sqlite3.Connection, scope: Scope, after: int, limit: int
) -> Sequence[NumberedRow]:
    """A scope's rows in a range of numbers, without those of discard files."""
    return _events(
        connection.execute(
            f"SELECT {_ROW} FROM outbox WHERE organization = ? AND sandbox = ? AND number > ? "
            "AND discards IS NULL ORDER BY number LIMIT ?",
            (scope.organization, scope.sandbox, after, limit),
        )
    )


def row(connection: sqlite3.Connection, number: int) -> NumberedRow:
    """One row."""
    found = connection.execute(f"SELECT {_ROW} FROM outbox WHERE number = ?", (number,)).fetchone()
    if found is None:
        raise StoreError(f"the store holds no event row {number}")
    return columns.read_event(found)


def park(
    connection: sqlite3.Connection, owner: str, epoch: int, parked: Parked, now: datetime
) -> None:
    """Note a refusal; it also answers the replays of that row asked for until now."""
    _require_leader(connection, owner, epoch)
    connection.execute(
        _PARK,
        (
            parked.number,
            parked.job_id,
            parked.offset,
            parked.reason,
            columns.to_micros(parked.parked_at),
        ),
    )
    connection.execute(
        "UPDATE replays SET finished_at = ? WHERE number = ? AND finished_at IS NULL",
        (columns.to_micros(now), parked.number),
    )


def parked(connection: sqlite3.Connection) -> Sequence[Parked]:
    """All parked rows."""
    found = connection.execute(
        "SELECT number, job_id, row_offset, reason, parked_at FROM parked ORDER BY number"
    )
    return [
        Parked(number, job_id, offset, reason, columns.from_micros(parked_at))
        for number, job_id, offset, reason, parked_at in found
    ]


def request_replay(connection: sqlite3.Connection, job_id: int, now: datetime) -> Replay:
    """Ask for the job's first parked row again."""
    asked = (columns.to_micros(now), columns.job_key(job_id))
    found = connection.execute(_REQUEST_REPLAY, asked).fetchone()
    if found is None:
        raise JobNotFound(f"job {job_id} has no parked event; there is nothing to send again")
    return Replay(found[0], job_id)


def replays(connection: sqlite3.Connection, after: int) -> Sequence[Replay]:
    """Replays that nobody has finished."""
    found = connection.execute(
        "SELECT id, job_id FROM replays WHERE id > ? AND finished_at IS NULL ORDER BY id", (after,)
    )
    return [Replay(replay_id, job_id) for replay_id, job_id in found]


def finish_replay(
    connection: sqlite3.Connection, owner: str, epoch: int, replay: Replay, now: datetime
) -> None:
    """Forget the row that the replay was asked for; once."""
    _require_leader(connection, owner, epoch)
    found = connection.execute(_FINISH_REPLAY, (columns.to_micros(now), replay.id)).fetchone()
    if found is not None:
        connection.execute("DELETE FROM parked WHERE number = ?", found)


def mark_delivered(connection: sqlite3.Connection, owner: str, epoch: int, number: int) -> None:
    """Note how far delivery is."""
    _require_leader(connection, owner, epoch)
    connection.execute("UPDATE relay SET delivered = ?", (number,))


def backlog(connection: sqlite3.Connection) -> Backlog:
    """Last number given, delivered up to, rows parked."""
    last, delivered, parked_rows = connection.execute(_BACKLOG).fetchone()
    return Backlog(last=last, delivered=delivered, parked=parked_rows)


def discard_files(connection: sqlite3.Connection) -> Sequence[tuple[int, DiscardFile]]:
    """All jobs' discard files."""
    found = connection.execute(
        "SELECT job_id, discards FROM outbox WHERE discards IS NOT NULL ORDER BY number"
    )
    return [(job_id, columns.read_discards(text)) for job_id, text in found]


def replace_discards(
    connection: sqlite3.Connection, job_id: int, old: DiscardFile, new: DiscardFile
) -> None:
    """Another file in the place of a delivered one, wherever the store names it."""
    found = connection.execute(
        "SELECT number, discards, publication FROM outbox JOIN jobs ON jobs.id = job_id "
        "WHERE job_id = ? AND discards IS NOT NULL",
        (columns.job_key(job_id),),
    ).fetchone()
    if found is None or columns.read_discards(found[1]) != old or old.rows != new.rows:
        raise StoreError(
            f"job {job_id} has no discard file {old.path} with SHA-256 {old.sha256} and "
            f"{new.rows} rows; look again which one it has"
        )
    number, _, publication = found
    waiting = connection.execute(
        "SELECT 1 FROM relay WHERE delivered < ? UNION ALL SELECT 1 FROM parked WHERE job_id = ?",
        (number, job_id),
    ).fetchone()
    if waiting is not None:
        raise DiscardsWaiting(
            f"events of the discard file of job {job_id} are still to be delivered; erase again "
            "when they are (`segexport outbox show`)"
        )
    connection.execute(
        "UPDATE outbox SET discards = ? WHERE number = ?", (columns.discards_text(new), number)
    )
    connection.execute(
        "UPDATE jobs SET publication = ? WHERE id = ?",
        (columns.with_discards(publication, new), job_id),
    )


def _events(found: Iterable[Sequence[Any]]) -> Sequence[NumberedRow]:
    return [columns.read_event(values) for values in found]


def _require_leader(connection: sqlite3.Connection, owner: str, epoch: int) -> None:
    leads = connection.execute(
        "SELECT 1 FROM relay WHERE leader = ? AND epoch = ?", (owner, epoch)
    ).fetchone()
    if leads is None:
        raise RelayFenced(
            f"relay {owner} (epoch {epoch}) no longer leads: another took over; nothing was written"
        )
