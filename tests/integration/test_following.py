"""Whoever waits for a job on a terminal sees how far it is."""

import asyncio
import io
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from segexport.clerk import LocalClerk
from segexport.cli.jobs import _follow
from segexport.cli.present import OutputFormat
from support.people import Person, write_snapshot
from support.stuck import Gate, GatedEngine
from support.waiting import until
from support.workplace import SCOPE, Workplace, request_for

GOLD = ("ups", "gold")
PEOPLE = [Person(number, memberships={GOLD: "realized"}) for number in range(1, 41)]


class Terminal(io.StringIO):
    """What is written to a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Workplace]:
    place = await Workplace.open(tmp_path, pieces_in_flight=1)
    write_snapshot(place.settings.profiles_folder, PEOPLE, buckets=4)
    yield place
    await place.store.close()


async def test_the_bar_tells_state_rows_pace_and_what_is_left(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal, gate = Terminal(), Gate("run_piece", nth=3)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "stderr", terminal)
    worker = place.new_worker(
        change=lambda bench: replace(bench, engine=GatedEngine(bench.engine, gate))
    )
    async with place.working(worker):
        job = await place.submit(request_for(GOLD))
        clerk = LocalClerk(place.commands, SCOPE)
        following = asyncio.create_task(_follow(clerk, job.id, OutputFormat.JSON))

        async def is_told() -> bool:
            said = terminal.getvalue()
            return "PROCESSING, 20 rows, " in said and " rows/s, 0:00:" in said and "50%" in said

        await until(is_told, 20, "half of the pieces are told")
        gate.opened.set()
        assert await following == 0
