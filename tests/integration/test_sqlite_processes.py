"""Several processes on one SQLite store."""

import asyncio
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

from segexport.events.outbox import NumberedRow
from segexport.store.sqlite import SqliteStore
from support import store_process
from support.job_stories import SCOPE, submitted


async def test_two_processes_that_write_at_once_number_rows_in_the_order_they_appear(
    store: SqliteStore, tmp_path: Path
) -> None:
    """A reader that only follows numbers, as the relay does, sees each row once and no gap."""
    callers, lives = 8, 12
    writers = [
        await store_process.start(tmp_path / "jobs.sqlite", callers=callers, lives=lives)
        for _ in range(2)
    ]
    outputs = [store_process.begin(writer) for writer in writers]
    seen: list[NumberedRow] = []
    change, ended = 0, False
    while not ended:
        ended = all(output.done() for output in outputs)
        change = await store.wait_for_change(change, timedelta(milliseconds=100))
        while page := await store.rows_after(len(seen), limit=50, max_bytes=1 << 20):
            seen += page
    assert [writer.returncode for writer in writers] == [0, 0]

    # Numbers are dense, and what was read while others wrote is what is there in the end.
    assert [numbered.number for numbered in seen] == list(range(1, len(seen) + 1))
    jobs = [job for job in await store.jobs(SCOPE, limit=1000) if job.is_terminal]
    assert len(jobs) == 2 * callers * lives
    for job in jobs:
        of_job = [numbered.row.sequence for numbered in seen if numbered.row.job_id == job.id]
        assert of_job == list(range(1, job.events + 1))
    # The two did write at the same time: their jobs alternate.
    acknowledged = [
        {int(line.split()[0]) for line in (await output)[0].split(b"\n") if line}
        for output in outputs
    ]
    sides = [numbered.row.job_id in acknowledged[0] for numbered in seen]
    assert sum(one != other for one, other in pairwise(sides)) > 4


async def test_what_another_process_commits_is_noticed_while_it_runs(
    store: SqliteStore, tmp_path: Path
) -> None:
    writer = await store_process.start(tmp_path / "jobs.sqlite", callers=1, lives=1)
    output = store_process.begin(writer)
    change = 0
    async with asyncio.timeout(60):
        while not any(job.is_terminal for job in await store.jobs(SCOPE)):
            change = await store.wait_for_change(change, timedelta(seconds=60))
    await output


async def test_a_process_is_not_starved_by_another_that_never_stops_writing(
    store: SqliteStore, tmp_path: Path
) -> None:
    writer = await store_process.start(tmp_path / "jobs.sqlite", callers=32, lives=1000)
    output = store_process.begin(writer)
    change = await store.wait_for_change(0, timedelta(seconds=60))
    for _ in range(20):
        change = await asyncio.wait_for(store.wait_for_change(change, timedelta(seconds=60)), 30)
        async with asyncio.timeout(5):
            await submitted(store)
    assert writer.returncode is None, "the other wrote all the time"
    writer.kill()
    await output
