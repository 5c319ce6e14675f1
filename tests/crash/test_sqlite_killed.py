"""A process that is killed while it writes leaves a store in which everything fits together."""

import asyncio
import random
import sqlite3
import sys
from pathlib import Path

import pytest

from segexport.jobs.lifecycle import STATES, JobState, Milestone
from segexport.store.sqlite import SqliteStore
from support import store_process
from support.job_stories import SCOPE, submitted

pytestmark = pytest.mark.crash

TESTS = Path(store_process.__file__).parents[1]
EVENTS_BY_THEN = {
    state: 1
    + (state in {JobState.PROCESSING, JobState.COMPLETING, JobState.COMPLETED})
    + (facts.announces is Milestone.FINISHED)
    for state, facts in STATES.items()
}
"""How many events a job of `store_process` has told in each state."""


@pytest.mark.parametrize("turn", range(5))
async def test_every_job_has_just_the_rows_of_its_state(tmp_path: Path, turn: int) -> None:
    path = tmp_path / "jobs.sqlite"
    writer = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "support.store_process", path, "16", "100000"),
        cwd=TESTS,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert writer.stdin is not None
    assert writer.stdout is not None
    assert await writer.stdout.readline() == b"open\n"
    writer.stdin.write(b"\n")
    first = await writer.stdout.readline()
    rest = asyncio.create_task(writer.stdout.read())
    await asyncio.sleep(random.Random(turn).uniform(0, 0.4))
    writer.kill()
    lines = (first + await rest).decode().splitlines(keepends=True)
    await writer.wait()

    store = await SqliteStore.open(path)
    jobs = {job.id: job for job in await store.jobs(SCOPE, limit=1_000_000)}
    sequences: dict[int, list[int]] = {job_id: [] for job_id in jobs}
    for numbered in await store.rows_after(0, limit=1_000_000, max_bytes=1 << 30):
        sequences[numbered.row.job_id].append(numbered.row.sequence)
    for job in jobs.values():
        assert job.events == EVENTS_BY_THEN[job.state]
        assert sequences[job.id] == list(range(1, job.events + 1))

    # What was acknowledged is there, or has moved on from there.
    order: list[JobState] = [
        state
        for state in JobState
        if state not in {JobState.PENDING_JOB, JobState.CANCELLING, JobState.CANCELLED}
    ]
    for line in lines:
        if line.endswith("\n"):
            job_id, state = line.split()
            assert order.index(jobs[int(job_id)].state) >= order.index(JobState(state))

    await submitted(store)
    await store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()
