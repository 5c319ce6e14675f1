"""A process of its own that writes lives of jobs into a SQLite store, until told or killed.

    python -m support.store_process FILE CALLERS LIVES

It prints `open` once it has opened the store, and begins when it is sent a line. Each caller
takes jobs through their lives, one after the other: every second one fails, the others
succeed. What the store has acknowledged is printed, `<job id> <state>` a line, so that
whoever kills the process knows what must be there. `start` and `begin` do it for a test.
"""

import asyncio
import sys
from pathlib import Path

from segexport.commands import random_job_id
from segexport.store.sqlite import SqliteStore
from support.job_stories import WAY_TO_FAILURE, WAY_TO_SUCCESS, advanced, submitted


async def start(path: Path, *, callers: int, lives: int) -> asyncio.subprocess.Process:
    """A process that has the store open, and begins to write when `begin` is called."""
    # -O, as somebody will run it: nothing may depend on assertions.
    writer = await asyncio.create_subprocess_exec(
        *(sys.executable, "-O", "-m", "support.store_process", path, str(callers), str(lives)),
        cwd=Path(__file__).parents[1],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert writer.stdout is not None
    assert await writer.stdout.readline() == b"open\n"
    return writer


def begin(writer: asyncio.subprocess.Process) -> asyncio.Task[tuple[bytes, bytes]]:
    """Let it write; the task is done when it has ended."""
    return asyncio.create_task(writer.communicate(b"\n"))


async def _live(store: SqliteStore, lives: int) -> None:
    for turn in range(lives):
        job_id = random_job_id()
        job = await submitted(store, job_id=job_id, request_id=str(job_id))
        for step in WAY_TO_FAILURE if turn % 2 else WAY_TO_SUCCESS:
            job = await advanced(store, job, step)
            sys.stdout.write(f"{job.id} {job.state}\n")
        sys.stdout.flush()


async def _main(file: str, callers: str, lives: str) -> None:
    store = await SqliteStore.open(Path(file))
    sys.stdout.write("open\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    await asyncio.gather(*(_live(store, int(lives)) for _ in range(int(callers))))
    await store.close()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
