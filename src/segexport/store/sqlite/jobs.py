"""Statements about jobs and their leases.

Each function is one whole operation inside the caller's transaction: it writes everything
or raises. `now` is the store's clock, read by the caller within that transaction.
"""

import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from segexport.errors import JobNotFound, LeaseLost, RequestConflict, StoreError
from segexport.events.outbox import OutboxRow
from segexport.jobs.job import Job, Scope, Transition
from segexport.jobs.lifecycle import JobState
from segexport.store import rows as columns
from segexport.store.store import Lease, Submission

REQUEST_IDS_KEPT: Final = timedelta(hours=24)

_JOB = ", ".join(columns.JOB_COLUMNS)

_ENDING = (JobState.COMPLETING, JobState.FAILING, JobState.CANCELLING)


def marks(count: int) -> str:
    """The marks for so many values of a statement."""
    return ", ".join("?" * count)


_INSERT_JOB = (
    f"INSERT INTO jobs ({', '.join(columns.FIXED_COLUMNS + columns.CHANGING_COLUMNS)}) "
    f"VALUES ({marks(len(columns.FIXED_COLUMNS + columns.CHANGING_COLUMNS))})"
)
_INSERT_ROW = (
    f"INSERT INTO outbox ({', '.join(columns.ROW_COLUMNS)}) "
    f"VALUES ({marks(len(columns.ROW_COLUMNS))})"
)
_KNOWN_REQUEST = """
    SELECT job_id, fingerprint FROM requests
    WHERE organization = ? AND sandbox = ? AND request_id = ? AND accepted_at > ?
"""
_REMEMBER_REQUEST = """
    INSERT OR REPLACE INTO requests
        (organization, sandbox, request_id, fingerprint, job_id, accepted_at)
    VALUES (?, ?, ?, ?, ?, ?)
"""
_NAME_SEGMENT = f"""
    INSERT INTO job_segments ({", ".join(columns.SEGMENT_COLUMNS)})
    VALUES ({marks(len(columns.SEGMENT_COLUMNS))})
"""
_ADVANCE = f"""
    UPDATE jobs SET {", ".join(f"{column} = ?" for column in columns.CHANGING_COLUMNS)}
    WHERE id = ? AND state = ? AND epoch = ?
"""
_ADVANCE_AND_LET_GO = f"""
    UPDATE jobs SET {", ".join(f"{column} = ?" for column in columns.CHANGING_COLUMNS)},
        owner = NULL, lease_until = NULL
    WHERE id = ? AND state = ? AND epoch = ?
"""
# SQLite would rather read all jobs that there ever were, in the order of their organizations.
_UNFINISHED: Final = "jobs INDEXED BY jobs_unfinished"
_RUNNING = f"""
    WITH running AS (
        SELECT organization, count(*) AS jobs FROM {_UNFINISHED}
        WHERE finished_at IS NULL AND lease_until > :now GROUP BY organization
    )
"""
_CLAIM = f"""
    {_RUNNING}
    UPDATE jobs SET owner = :owner, epoch = epoch + 1, lease_until = :until
    WHERE id = (
        SELECT id FROM {_UNFINISHED} LEFT JOIN running USING (organization)
        WHERE finished_at IS NULL
            AND (lease_until IS NULL OR lease_until <= :now)
            AND (not_before IS NULL OR not_before <= :now)
            AND (coalesce(running.jobs, 0) < :limit OR deadline <= :now
                 OR state IN ({", ".join(f"'{state}'" for state in _ENDING)}))
        ORDER BY coalesce(running.jobs, 0), created_at, id
        LIMIT 1
    )
    RETURNING {_JOB}
"""
_HELD_BACK = f"""
    {_RUNNING}
    SELECT {_JOB} FROM {_UNFINISHED} JOIN running USING (organization)
    WHERE finished_at IS NULL AND lease_until IS NULL AND state = '{JobState.CREATED}'
        AND running.jobs >= :limit
    ORDER BY created_at, id LIMIT 100
"""
HELD: Final = "id = ? AND owner = ? AND epoch = ?"
"""Whether a lease is still held, with the values that `holder` gives."""
_RENEW = f"UPDATE jobs SET lease_until = ?, progress = ? WHERE {HELD} RETURNING {_JOB}"
_RELEASE = f"UPDATE jobs SET owner = NULL, lease_until = NULL WHERE {HELD}"


def submit(
    connection: sqlite3.Connection,
    transition: Transition,
    rows: Sequence[OutboxRow],
    fingerprint: str,
    now: datetime,
) -> Submission:
    """Store a new job, unless its request id is known."""
    job = transition.after
    first = known(connection, job.scope, job.request_id, fingerprint, now)
    if first is not None:
        return Submission(first, created=False)
    connection.execute(_INSERT_JOB, columns.fixed_values(job) + columns.changing_values(job))
    connection.executemany(_NAME_SEGMENT, columns.segment_values(job))
    key = (job.scope.organization, job.scope.sandbox, job.request_id)
    connection.execute(_REMEMBER_REQUEST, (*key, fingerprint, job.id, columns.to_micros(now)))
    _insert_rows(connection, rows)
    return Submission(job, created=True)


def known(
    connection: sqlite3.Connection, scope: Scope, request_id: str, fingerprint: str, now: datetime
) -> Job | None:
    """The job that was submitted with a request id lately."""
    found = connection.execute(
        _KNOWN_REQUEST,
        (
            scope.organization,
            scope.sandbox,
            request_id,
            columns.to_micros(now - REQUEST_IDS_KEPT),
        ),
    ).fetchone()
    if found is None:
        return None
    job_id, known_fingerprint = found
    if known_fingerprint != fingerprint:
        raise RequestConflict(
            f"request id {request_id!r} was used for job {job_id} with another body; "
            "send that body again, or take a new request id"
        )
    return get(connection, scope, job_id)


def commit(
    connection: sqlite3.Connection, before: Job, after: Job, rows: Sequence[OutboxRow]
) -> None:
    """Compare and set, with the event rows."""
    ends_lease = after.is_terminal or after.state is JobState.PENDING_JOB
    changed = connection.execute(
        _ADVANCE_AND_LET_GO if ends_lease else _ADVANCE,
        (*columns.changing_values(after), after.id, before.state.value, before.epoch),
    ).rowcount
    if not changed:
        raise _refusal(connection, before)
    _insert_rows(connection, rows)


def get(connection: sqlite3.Connection, scope: Scope, job_id: int) -> Job:
    """One job of this scope."""
    found = connection.execute(
        f"SELECT {_JOB} FROM jobs WHERE id = ? AND organization = ? AND sandbox = ?",
        (columns.job_key(job_id), scope.organization, scope.sandbox),
    ).fetchone()
    if found is None:
        raise JobNotFound(
            f"there is no job {job_id} in organization {scope.organization}, "
            f"sandbox {scope.sandbox}; list the jobs there"
        )
    return columns.read_job(found)


def unfinished(connection: sqlite3.Connection) -> Sequence[Job]:
    """Jobs of every scope that have not ended, oldest first."""
    found = connection.execute(
        f"SELECT {_JOB} FROM jobs WHERE finished_at IS NULL ORDER BY created_at, id"
    )
    return [columns.read_job(values) for values in found]


def claim(
    connection: sqlite3.Connection, owner: str, duration: timedelta, limit: int, now: datetime
) -> Job | None:
    """Lease the job whose turn it is."""
    found = connection.execute(
        _CLAIM,
        {
            "owner": owner,
            "until": columns.to_micros(now + duration),
            "now": columns.to_micros(now),
            "limit": limit,
        },
    ).fetchone()
    return None if found is None else columns.read_job(found)


def held_back(connection: sqlite3.Connection, limit: int, now: datetime) -> Sequence[Job]:
    """New jobs of organizations that run as many as they may."""
    found = connection.execute(_HELD_BACK, {"now": columns.to_micros(now), "limit": limit})
    return [columns.read_job(values) for values in found]


def renew(
    connection: sqlite3.Connection,
    lease: Lease,
    duration: timedelta,
    progress: float,
    now: datetime,
) -> Job:
    """Extend a lease that is still held."""
    found = connection.execute(
        _RENEW, (columns.to_micros(now + duration), progress, *holder(lease))
    ).fetchone()
    if found is None:
        raise lost(lease)
    return columns.read_job(found)


def release(connection: sqlite3.Connection, lease: Lease) -> None:
    """End a lease, if it is still held."""
    connection.execute(_RELEASE, holder(lease))


def _insert_rows(connection: sqlite3.Connection, rows: Sequence[OutboxRow]) -> None:
    for row in rows:
        try:
            connection.execute(_INSERT_ROW, columns.event_values(row))
        except sqlite3.IntegrityError as error:
            raise StoreError(
                f"event {row.event_id} (number {row.sequence} of job {row.job_id}) cannot be "
                f"stored ({error}); the transition was not stored either"
            ) from error


def holder(lease: Lease) -> tuple[int, str, int]:
    """The values of `HELD`."""
    return lease.job_id, lease.owner, lease.epoch


def lost(lease: Lease) -> LeaseLost:
    """What is raised where a lease is not held."""
    return LeaseLost(
        f"{lease.owner} no longer holds job {lease.job_id} (epoch {lease.epoch}): "
        "stop working on it; nothing was written"
    )


def _refusal(connection: sqlite3.Connection, before: Job) -> Exception:
    found = connection.execute(
        "SELECT state, epoch FROM jobs WHERE id = ?", (before.id,)
    ).fetchone()
    if found is None:
        return JobNotFound(f"there is no job {before.id}")
    state, epoch = found
    return LeaseLost(
        f"job {before.id} is in state {state}, epoch {epoch}, no longer in {before.state}, epoch "
        f"{before.epoch}: read it again; nothing was written"
    )
