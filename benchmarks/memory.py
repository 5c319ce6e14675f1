"""The memory of a service over some minutes of everything at once.

One process is the whole service: the interfaces, a worker, a relay and the embedded broker. It
is asked to create jobs (which it runs), shows them and lists them, while readers of the live
stream come, resume and leave. Its memory is read once a second, from outside.

    python benchmarks/memory.py [--folder DIR] [--minutes N] [--readers N] [--warm JOBS]

Caches fill at first, and that is growth as well: those of SQLite with the pages of the store, that
of the live stream with its latest events. With `--warm` so many jobs are run before anything is
measured, as fast as they can be; 6 000 fill all of them. Whether it is flat over an hour:

    python benchmarks/memory.py --minutes 60 --readers 50 --warm 6000
"""

import argparse
import asyncio
import json
import os
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
from resident import Inside, Sample, medians, quarters, slopes, told
from segexport.http.interfaces import ADDRESS
from segexport.http.tail import CAPACITY
from segexport.service import running
from segexport.settings import Settings
from segexport.settings.http import HttpSettings
from segexport.store.sqlite.file import READER_CACHE, WRITER_CACHE
from segexport.telemetry import configure_logging
from served import JOBS, NO_LIMITS

GROWTH: Final = 1.05
"""The most that the last quarter should have, in times of the second."""
ROUND: Final = 0.5
"""Seconds of a round: a job is created, shown so many times, and a page of jobs is listed."""
GETS: Final = 50
LISTS: Final = 2
INTERVAL: Final = 1.0
"""Seconds between two looks at the process."""
UNFINISHED: Final = ("NEW", "PROCESSING")
WARMING: Final = 4
"""Jobs that are created together while caches are filled, and then waited for."""


class Service:
    """A running service."""

    def __init__(self, address: str) -> None:
        self._address = address

    def where(self) -> tuple[str, int]:
        """The address, and the id of the process."""
        return self._address, os.getpid()

    def inside(self) -> Inside:
        """What only the process itself can tell."""
        return Inside.now()


@asynccontextmanager
async def service(settings: Settings) -> AsyncIterator[Service]:
    """All of it, with its log in a file."""
    with (settings.data / "log").open("a") as lines:
        with redirect_stderr(lines):
            configure_logging(style="json", level=settings.log_level)
        async with running(settings, http=True):
            yield Service((settings.data / ADDRESS).read_text())


async def measure(folder: Path, minutes: float, streams: int, warm: int) -> None:
    """Print what was in memory, by quarters, and how it grew."""
    settings = Settings(data=folder, http=HttpSettings(**NO_LIMITS))
    segment = stores.sample(settings, 1_000).segments[0]
    create = request("POST", JOBS, body(segment.segment, segment.namespace))
    async with apart(service, settings) as server, apart(client) as load, apart(readers) as reading:
        address, process = await server.call("where")
        await reading.call("come", address, streams)
        await load.call("connect", address, 1)
        await _warm(load, create, warm)
        await load.call("leave")
        await load.call("connect", address, 4)
        samples: list[Sample] = []
        inside: list[Inside] = []
        watching = asyncio.create_task(_watch(process, samples))
        requests = 0
        for _ in range(4):
            requests += await _ask(load, create, 15 * minutes)
            inside.append(await server.call("inside"))
        watching.cancel()
        visits, events = await reading.call("leave")
        await load.call("leave")
    print(f"{requests:,} requests; {streams} readers: {visits:,} visits, {events:,} messages")
    _print(samples, inside)


async def _warm(load: Apart, create: bytes, jobs: int) -> None:
    """Have so many jobs run, a few at a time."""
    for _ in range(0, jobs, WARMING):
        created = await load.call("ask", [create] * WARMING)
        waiting = [request("GET", f"{JOBS}/{json.loads(each)['id']}") for each in created]
        while waiting:
            found = await load.call("ask", waiting)
            waiting = [
                asked
                for asked, answer in zip(waiting, found, strict=True)
                if json.loads(answer)["status"] in UNFINISHED
            ]


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


async def _watch(process: int, samples: list[Sample]) -> None:
    while True:
        samples.append(await asyncio.to_thread(Sample.of, process))
        await asyncio.sleep(INTERVAL)


def _print(samples: Sequence[Sample], inside: Sequence[Inside]) -> None:
    resident = quarters(samples, lambda sample: sample.resident)
    anonymous = quarters(samples, lambda sample: sample.anonymous)
    most = max(sample.resident for sample in samples)
    print(f"resident, in MB, median of each quarter: {told(medians(resident))}; at most", end=" ")
    print(told([most]))
    print(f"   growth, in MB a minute: {told(slopes(resident, INTERVAL), '+.2f')}")
    print(f"of these from no file: {told(medians(anonymous))}")
    print(f"   growth, in MB a minute: {told(slopes(anonymous, INTERVAL), '+.2f')}")
    pages = WRITER_CACHE + 5 * READER_CACHE  # four that read, one that watches the file
    print("at the end of each quarter")
    print(f"   SQLite: {told([each.sqlite or 0 for each in inside])}", end="")
    print(f"; pages of at most {told([pages], '.0f')}, and statements")
    print(f"   free in the heap: {told([each.free or 0 for each in inside])}")
    print(f"   beside: the latest events, {told([CAPACITY], '.0f')} with time")
    first, last = samples[0], samples[-1]
    print(f"threads: {first.threads}, then {last.threads}; files: {first.files}, then {last.files}")
    halves = medians(resident)
    print(aim("resident, the last quarter against the second,", halves[3] / halves[1], GROWTH))


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder otherwise")
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--readers", type=int, default=100)
    parser.add_argument("--warm", type=int, default=0, help="jobs that are run before it begins")
    arguments = parser.parse_args()
    print_header("memory: a service over some minutes", "fastapi", "uvicorn", "duckdb")
    configure_logging(level="warning")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        asyncio.run(measure(Path(folder), arguments.minutes, arguments.readers, arguments.warm))


if __name__ == "__main__":
    main()
