"""Reads cost what they show, and not what the store has come to hold: by which index they go."""

from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from segexport.jobs.lifecycle import JobState
from segexport.store.sqlite import SqliteStore, file, jobs, lists, outbox, work
from support.job_stories import NOON, SCOPE

Plan = Callable[..., list[str]]
SORTED_ROWS = "USE TEMP B-TREE"


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.sqlite"
    await (await SqliteStore.open(path)).close()
    return path


@pytest.fixture
def plan(path: Path) -> Iterator[Plan]:
    """What SQLite says of how it carries out the one statement of a read."""
    with closing(file.connect(path, timedelta(seconds=1))) as connection:

        def explained(read: Callable[..., Any], *arguments: Any) -> list[str]:
            statements: list[str] = []
            connection.set_trace_callback(statements.append)
            read(connection, *arguments)
            connection.set_trace_callback(None)
            (statement,) = statements
            found = connection.execute(f"EXPLAIN QUERY PLAN {statement}")
            return [detail for *_, detail in found]

        yield explained


def wanted(states: Collection[JobState] | None = None, segment: str | None = None) -> lists.Wanted:
    among = None if states is None else frozenset(states)
    return lists.Wanted(SCOPE, among, started=None, segment=segment, before=(NOON, 7))


def reads(plan: list[str]) -> list[str]:
    """By which index each table is read, and what is looked up in it."""
    lines = [line for line in plan if line.startswith(("SEARCH", "SCAN"))]
    return [line.partition(" USING ")[2] for line in lines if "subquery" not in line.lower()]


def test_a_page_of_all_jobs_begins_where_the_last_one_ended(plan: Plan) -> None:
    assert reads(plan(lists.page, wanted(), 10)) == [
        "INDEX jobs_by_age (organization=? AND sandbox=? AND (created_at,id)<(?,?))"
    ]


def test_ended_jobs_are_found_by_their_state_and_others_among_the_unfinished(plan: Plan) -> None:
    states = {JobState.FAILED, JobState.CANCELLED, JobState.CREATED, JobState.PENDING_JOB}
    key = "(created_at,id)<(?,?)"
    ended = f"INDEX jobs_ended (organization=? AND sandbox=? AND state=? AND {key})"
    unfinished = f"INDEX jobs_unfinished ({key})"
    assert sorted(reads(plan(lists.page, wanted(states), 10))) == [ended, ended, unfinished]


def test_jobs_of_a_segment_are_found_by_it(plan: Plan) -> None:
    assert reads(plan(lists.page, wanted(segment="gold"), 10)) == [
        "PRIMARY KEY (organization=? AND sandbox=? AND segment=? AND (created_at,job_id)<(?,?))",
        "INDEX sqlite_autoindex_jobs_1 (id=?)",
    ]


def test_each_part_of_a_list_is_in_order_as_it_is_read(plan: Plan) -> None:
    """Only the pages of the parts are sorted, together; no part is read to its end."""
    states = {JobState.FAILED, JobState.CREATED}
    for asked, parts in ((wanted(), 1), (wanted(states), 2), (wanted(segment="gold"), 1)):
        told = plan(lists.page, asked, 10)
        assert sum(SORTED_ROWS in line for line in told) == parts
        for place, line in enumerate(told):
            if SORTED_ROWS in line:
                assert "subquery" in told[place - 1].lower()


@pytest.mark.parametrize(
    ("read", "arguments"),
    [
        (jobs.claim, ("worker", timedelta(seconds=30), 4, NOON)),
        (jobs.held_back, (4, NOON)),
        (jobs.unfinished, ()),
    ],
    ids=["whose turn it is", "who has to wait", "what is unfinished"],
)
def test_work_is_looked_for_among_the_jobs_that_have_not_ended(
    plan: Plan, read: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    """A worker asks several times a second, one of them with the lock of all that write."""
    found = [
        line for line in plan(read, *arguments) if line.startswith(("SEARCH jobs", "SCAN jobs"))
    ]
    assert found
    by_id = "SEARCH jobs USING INDEX sqlite_autoindex_jobs_1 (id=?)"
    assert {*found} - {by_id} == {"SCAN jobs USING INDEX jobs_unfinished"}


def test_what_relay_and_streams_ask_for_again_and_again_reads_no_other_events(plan: Plan) -> None:
    for read, arguments in ((outbox.rows_after, (4711, 10, 1000)), (outbox.backlog, ())):
        told = plan(read, *arguments)
        assert any(line.startswith("SEARCH outbox") for line in told)
        assert not any(line.startswith("SCAN outbox") for line in told)


def test_however_many_jobs_are_shown_a_connection_learns_few_statements(path: Path) -> None:
    """It keeps each of them, about 10 kB."""
    seen = set[str]()
    with closing(file.connect(path, timedelta(seconds=1))) as connection:

        class Noting:
            def execute(self, text: str, values: Any = ()) -> Any:
                seen.add(text)
                return connection.execute(text, values)

        noting: Any = Noting()
        for count in range(101):
            assert work.work(noting, range(count)) == {}
            assert work.failures(noting, range(count)) == {}
    assert len(seen) <= 3 * 9


def test_the_events_of_a_scope_are_found_behind_a_number(plan: Plan) -> None:
    told = plan(outbox.job_events, SCOPE, 4711, 10)
    assert reads(told) == ["INDEX outbox_by_scope (organization=? AND sandbox=? AND number>?)"]
    assert not any(SORTED_ROWS in line for line in told)
