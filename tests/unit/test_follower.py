"""Whatever happens between two steps of a follower, it takes each event once and in order."""

import asyncio
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

from hypothesis import example, given
from hypothesis import strategies as st

from segexport.events.outbox import NumberedRow, OutboxRow
from segexport.http.cursor import Cursor, Cursors
from segexport.http.follower import Follower
from segexport.http.tail import Tail
from segexport.jobs.job import Scope
from segexport.store.store import Outbox
from support.streams import CURSORS, at, opened

HERE, THERE = Scope("here", "prod"), Scope("there", "prod")
FRAME = 70
"""About as many bytes as a frame has here."""


class Rows:
    """An outbox in memory. `meanwhile` is called in each reading, between looking and answering."""

    identity = SimpleNamespace(generation=1)

    def __init__(self) -> None:
        self.rows: list[NumberedRow] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def commit(self, scope: Scope) -> None:
        number = len(self.rows) + 1
        row = OutboxRow(
            job_id=number,
            scope=scope,
            sequence=1,
            event_id=UUID(int=number),
            type="queued",
            occurred_at=datetime(2026, 3, 1, tzinfo=UTC),
            value=b"{}",
        )
        self.rows.append(NumberedRow(number, row))

    async def backlog(self) -> Any:
        last = len(self.rows)
        self.meanwhile()
        return SimpleNamespace(last=last)

    async def rows_after(self, number: int, *, limit: int, max_bytes: int) -> Sequence[NumberedRow]:
        del max_bytes
        found = self.rows[number : number + limit]
        self.meanwhile()
        return found

    async def job_events(self, scope: Scope, *, after: int, limit: int) -> Sequence[NumberedRow]:
        found = [each for each in self.rows[after:] if each.row.scope == scope][: min(limit, 2)]
        self.meanwhile()
        return found


STEPS = st.lists(st.sampled_from(["commit", "elsewhere", "read", "take"]), max_size=40)


@given(
    before=st.lists(st.sampled_from([HERE, THERE]), max_size=6),
    steps=STEPS,
    meanwhile=STEPS,
    capacity=st.sampled_from([1, 3 * FRAME, 1000 * FRAME]),
    cursor=st.none() | st.integers(0, 6),
)
# The first event is committed, read and forgotten while the store says that there is none.
@example(
    before=[THERE],
    steps=["take"],
    meanwhile=["take", "take", "commit", "read"],
    capacity=1,
    cursor=0,
)
def test_nothing_is_lost_or_told_twice_however_the_ring_and_the_store_are_read(
    before: Sequence[Scope],
    steps: Sequence[str],
    meanwhile: Sequence[str],
    capacity: int,
    cursor: int | None,
) -> None:
    """While the store is being read, others commit, and the tail goes on and forgets."""

    begun = len(before) if cursor is None else min(cursor, len(before))
    asked = None if cursor is None else at(begun)

    async def run() -> tuple[bytes, Rows]:
        rows = Rows()
        for scope in before:
            rows.commit(scope)
        tail = Tail(cast("Outbox", rows), CURSORS, capacity=capacity)
        with tail.listening(HERE) as channel:
            tail._begin(len(rows.rows))
            follower = Follower(tail, channel, HERE, asked)
            left = iter(meanwhile)

            def two_steps() -> None:
                take_step(next(left, ""), rows, tail)
                take_step(next(left, ""), rows, tail)

            rows.meanwhile = two_steps
            told = await follower.take()
            for name in steps:
                take_step(name, rows, tail)
                assert tail.ring.size <= capacity
                if name == "take":
                    told += await follower.take()
            rows.meanwhile = lambda: None
            take_step("read", rows, tail)
            while data := await follower.take():
                told += data
        return told, rows

    told, rows = asyncio.run(run())
    seen = re.findall(rb"id: (\w+)\nevent: queued", told)
    assert [opened(each.decode()).number for each in seen] == [
        each.number for each in rows.rows[begun:] if each.row.scope == HERE
    ]


def test_a_busy_organization_takes_nothing_from_a_quiet_one() -> None:
    async def run() -> tuple[bytes, int]:
        rows = Rows()
        tail = Tail(cast("Outbox", rows), CURSORS, capacity=10 * FRAME)
        with tail.listening(HERE) as here, tail.listening(THERE):
            tail._begin(0)
            rows.commit(HERE)
            for _ in range(50):
                rows.commit(THERE)
            tail._take(rows.rows)
            follower = Follower(tail, here, HERE, at(0))
            await follower.take()
            rows.rows.clear()  # so that it can only come from the ring
            return await follower.take(), tail.ring.size

    told, size = asyncio.run(run())
    assert told.startswith(f"id: {at(1)}\n".encode())
    assert 5 * FRAME < size <= 10 * FRAME


def take_step(name: str, rows: Rows, tail: Tail) -> None:
    """What others do."""
    if name == "commit":
        rows.commit(HERE)
    elif name == "elsewhere":
        rows.commit(THERE)
    elif name == "read" and (fresh := rows.rows[tail.position or 0 :]):
        tail._take(fresh)


def test_cursors_are_read_as_they_are_written_and_nothing_else_is_one() -> None:
    cursors = Cursors(b"s" * 32)
    text = cursors.text(Cursor(3, 41))
    assert cursors.read(text) == Cursor(3, 41)
    assert Cursors(b"t" * 32).read(text) is None
    for other in ("", "3-41", text[:-1], text + "0", text.upper(), text + "\n", "0" * 32):
        assert cursors.read(other) is None


def test_cursors_do_not_tell_how_much_has_happened_between_them() -> None:
    texts = [CURSORS.text(Cursor(1, number)) for number in range(1000)]
    assert len(set(texts)) == 1000
    assert sorted(texts) != texts
    assert len({text[:8] for text in texts}) > 990
