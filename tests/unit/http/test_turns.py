"""Work that is shared out among the turns of an event loop."""

import asyncio
import time

import pytest

from segexport.http import turns as module
from segexport.http.turns import Turns, turns


async def turn_of(done: asyncio.Event) -> int:
    """In how many turns from now something has happened."""
    passed = 0
    while not done.is_set():
        await asyncio.sleep(0)
        passed += 1
    return passed


async def test_what_waits_is_done_in_its_order() -> None:
    done: list[int] = []
    line = Turns(asyncio.get_running_loop())
    for number in range(10):
        line.call(lambda number=number: done.append(number))  # type: ignore[misc]
    await line.run(lambda: None)
    assert done == list(range(10))


async def test_a_turn_takes_no_more_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def work() -> None:
        nonlocal now
        now += module.SHARE / 2

    monkeypatch.setattr(module, "perf_counter", lambda: now)
    line, done = Turns(asyncio.get_running_loop()), asyncio.Event()
    for _ in range(40):
        line.call(work)
    line.call(done.set)
    assert await turn_of(done) >= 20


async def test_what_makes_more_work_has_its_turn_alone() -> None:
    line, done = turns(), asyncio.Event()
    waiting = [asyncio.create_task(line.alone()) for _ in range(20)]
    await asyncio.sleep(0)
    line.call(done.set)
    assert await turn_of(done) >= 20
    await asyncio.gather(*waiting)


async def test_an_error_is_raised_where_it_is_waited_for_and_stops_nothing_else() -> None:
    line = turns()

    def fail() -> None:
        raise LookupError("here")

    failing = asyncio.create_task(line.run(fail))
    assert await line.run(lambda: 7) == 7
    with pytest.raises(LookupError, match="here"):
        await failing


async def test_who_has_gone_is_not_worked_for() -> None:
    done: list[float] = []
    line = turns()
    gone = asyncio.create_task(line.run(lambda: done.append(time.monotonic())))
    await asyncio.sleep(0)
    gone.cancel()
    await line.run(lambda: None)
    assert not done
