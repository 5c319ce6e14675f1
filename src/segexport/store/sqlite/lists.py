"""Statements that read pages of jobs, newest first, each by an index that has them in order.

A page costs about the same wherever it lies, and however many jobs there are in other states
or of other segments. Whether a job has started is asked of each job on the way, as is the
state of a segment's jobs.
"""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from segexport.jobs.job import Job, Scope
from segexport.jobs.lifecycle import JobState, is_terminal
from segexport.store import rows as columns
from segexport.store.sqlite.jobs import marks


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs, see `JobStore.jobs`."""

    scope: Scope
    states: frozenset[JobState] | None
    started: bool | None
    segment: str | None
    before: tuple[datetime, int] | None


@dataclass(frozen=True, slots=True)
class _Source:
    """Where jobs are found in order; `listed` is the table whose columns the index has."""

    tables: str
    listed: str
    id: str


_ALL: Final = _Source("jobs", "jobs", "id")
# Told, for SQLite would rather read all jobs of the scope than the few that have not ended.
_UNFINISHED: Final = _Source("jobs INDEXED BY jobs_unfinished", "jobs", "id")
_OF_SEGMENT: Final = _Source("job_segments JOIN jobs ON id = job_id", "job_segments", "job_id")

_JOB: Final = ", ".join(f"jobs.{column}" for column in columns.JOB_COLUMNS)


_Condition = tuple[str, Sequence[Any]]
"""What stands behind WHERE, with its values."""


@dataclass(frozen=True, slots=True)
class _Statement:
    text: str
    values: Sequence[Any]


def page(connection: sqlite3.Connection, wanted: Wanted, limit: int) -> Sequence[Job]:
    """The newest jobs behind `wanted.before`, at most `limit`."""
    statements = list(_statements(wanted, limit))
    if not statements:
        return []
    # Each is limited, so there is little left to be sorted.
    found = connection.execute(
        " UNION ALL ".join(f"SELECT * FROM ({statement.text})" for statement in statements)
        + " ORDER BY created_at DESC, id DESC LIMIT ?",
        (*(value for statement in statements for value in statement.values), limit),
    )
    return [columns.read_job(values) for values in found]


def _statements(wanted: Wanted, limit: int) -> Iterator[_Statement]:
    """Together they find what is wanted, none of it twice."""
    if wanted.segment is not None:
        named = ("segment = ?", (wanted.segment,))
        states = [] if wanted.states is None else [_in_states(wanted.states)]
        yield _statement(_OF_SEGMENT, [named, *states], wanted, limit)
    elif wanted.states is None:
        yield _statement(_ALL, [], wanted, limit)
    else:
        for state in filter(is_terminal, wanted.states):
            ended = ("finished_at IS NOT NULL AND state = ?", (state.value,))
            yield _statement(_ALL, [ended], wanted, limit)
        unfinished = [state for state in wanted.states if not is_terminal(state)]
        if unfinished:
            among = [("finished_at IS NULL", ()), _in_states(unfinished)]
            yield _statement(_UNFINISHED, among, wanted, limit)


def _in_states(states: Collection[JobState]) -> _Condition:
    return f"state IN ({marks(len(states))})", [state.value for state in states]


def _statement(
    source: _Source, conditions: Sequence[_Condition], wanted: Wanted, limit: int
) -> _Statement:
    scope, listed = wanted.scope, source.listed
    every: list[_Condition] = [
        (f"{listed}.organization = ?", [scope.organization]),
        (f"{listed}.sandbox = ?", [scope.sandbox]),
        *conditions,
    ]
    if wanted.started is not None:
        every.append((f"started_at IS {'NOT NULL' if wanted.started else 'NULL'}", ()))
    if wanted.before is not None:
        moment, job_id = wanted.before
        key = [columns.to_micros(moment), job_id]
        every.append((f"({listed}.created_at, {source.id}) < (?, ?)", key))
    return _Statement(
        f"SELECT {_JOB} FROM {source.tables} WHERE {' AND '.join(text for text, _ in every)} "
        f"ORDER BY {listed}.created_at DESC, {source.id} DESC LIMIT ?",
        [*(value for _, values in every for value in values), limit],
    )
