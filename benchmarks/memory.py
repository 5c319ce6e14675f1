"""The memory of a service over some minutes of everything at once.

One process is the whole service: the interfaces, a worker, a relay and the embedded broker. It
is asked to create jobs (which it runs), shows them and lists them, while readers of the live
stream come, resume and leave. Its resident memory is read once a second, from outside.

    python benchmarks/memory.py [--folder DIR] [--minutes N] [--readers N]
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, redirect_stderr
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Final

import stores
from apart import Apart, apart
from calls import body
from client import client, request
from measure import aim, print_header
from readers import readers
from segexport.http.interfaces import ADDRESS
from segexport.service import running
from segexport.settings import Settings
from segexport.settings.http import HttpSettings
from segexport.telemetry import configure_logging
from served import JOBS, NO_LIMITS

GROWTH: Final = 1.05
"""The most that the last quarter should have, in times of the second."""
ROUND: Final = 0.5
"""Seconds of a round: a job is created, shown so many times, and a page of jobs is listed."""
GETS: Final = 50
LISTS: Final = 2


class Service:
    """A running service."""

    def __init__(self, address: str) -> None:
        self._address = address

    def where(self) -> tuple[str, int]:
        """The address, and the id of the process."""
        return self._address, os.getpid()


@asynccontextmanager
async def service(settings: Settings) -> AsyncIterator[Service]:
    """All of it, with its log in a file."""
    with (settings.data / "log").open("a") as lines:
        with redirect_stderr(lines):
            configure_logging(style="json", level=settings.log_level)
        async with running(settings, http=True):
            yield Service((settings.data / ADDRESS).read_text())


async def measure(folder: Path, minutes: float, streams: int) -> None:
    """Print what was resident, by quarters, and how it grew."""
    settings = Settings(data=folder, http=HttpSettings(**NO_LIMITS))
    segment = stores.sample(settings, 1_000).segments[0]
    create = request("POST", JOBS, body(segment.segment, segment.namespace))
    async with apart(service, settings) as server, apart(client) as load, apart(readers) as reading:
        address, process = await server.call("where")
        await load.call("connect", address, 4)
        await reading.call("come", address, streams)
        resident: list[int] = []
        watching = asyncio.create_task(_watch(process, resident))
        requests = await _ask(load, create, 60 * minutes)
        watching.cancel()
        visits, events = await reading.call("leave")
        await load.call("leave")
    print(f"{requests:,} requests; {streams} readers: {visits:,} visits, {events:,} messages")
    _print(resident)


async def _ask(load: Apart, create: bytes, seconds: float) -> int:
    """Round after round, until so many seconds are over; how many requests that were."""
    began, asked = perf_counter(), 0
    for turn in count(1):
        (created,) = await load.call("ask", [create])
        get = request("GET", f"{JOBS}/{json.loads(created)['id']}")
        page = request("GET", f"{JOBS}?limit=100")
        asked += 1 + await load.call("send", [get], GETS) + await load.call("send", [page], LISTS)
        if perf_counter() - began > seconds:
            break
        await asyncio.sleep(began + turn * ROUND - perf_counter())
    return asked


async def _watch(process: int, resident: list[int]) -> None:
    while True:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])  # noqa: ASYNC240
        resident.append(pages * resource.getpagesize())
        await asyncio.sleep(1)


def _print(resident: Sequence[int]) -> None:
    quarter = len(resident) // 4
    parts = [resident[turn * quarter : (turn + 1) * quarter] for turn in range(4)]
    medians = [statistics.median(part) for part in parts]
    warm = resident[quarter:]
    slope = statistics.linear_regression(range(len(warm)), warm).slope
    told = ", ".join(f"{size / 1e6:.1f}" for size in medians)
    print(f"resident, in MB, median of each quarter: {told}; at most {max(resident) / 1e6:.1f}")
    print(f"after the first quarter: {60 * slope / 1e6:+.2f} MB a minute")
    print(aim("the last quarter, against the second,", medians[3] / medians[1], GROWTH))


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder otherwise")
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--readers", type=int, default=100)
    arguments = parser.parse_args()
    print_header("memory: a service over some minutes", "fastapi", "uvicorn", "duckdb")
    configure_logging(level="warning")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        asyncio.run(measure(Path(folder), arguments.minutes, arguments.readers))


if __name__ == "__main__":
    main()
