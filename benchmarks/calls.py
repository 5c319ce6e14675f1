"""Creating and reading a job over HTTP, against the plainest FastAPI on the plainest SQLite.

Callers, ours and each peer are processes of their own; all sides get the same requests and are
served by the same uvicorn. A create is answered when it is on the disk, on every side. What
ours does besides: it holds the request against the profile store, makes the job's first event
and holds that against its contract, keeps the request's id, notes its segment, and writes a
line of log; and with keys it checks key, token, organization and sandbox. What the peers are,
see `served.py`.

    python benchmarks/calls.py [--folder DIR] [--runs N] [--requests N]
"""

import argparse
import asyncio
import json
import sqlite3
import statistics
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import stores
from apart import Apart, Opening, apart
from client import client, request
from measure import Case, Comparison, Ran, aim, compare, print_header
from segexport.settings import Settings
from segexport.settings.http import HttpSettings
from served import JOBS, NO_LIMITS, bare, fixed, ours

CALLERS: Final = (1, 64, 256)
OURS: Final = "segexport"
WITH_KEYS: Final = "segexport, with keys"
BARE: Final = "bare"
ON_THE_LOOP: Final = "bare, on the loop"
FIXED: Final = "a fixed answer"
READ: Final = 500
"""Jobs that are read in turns."""
TIMES: Final = 2.5
"""The most that a call of one caller should take, in times of the bare one."""


def body(segment: str, namespace: str) -> bytes:
    """A request of about 600 bytes."""
    return json.dumps(
        {
            "fields": "person.name.firstName,person.name.lastName,personalEmail.address,"
            "mobilePhone.number,homeAddress.city,homeAddress.countryCode,loyalty.tier",
            "filter": {
                "segments": [
                    {
                        "segmentId": segment,
                        "segmentNs": namespace,
                        "status": ["realized", "existing"],
                    }
                ],
                "segmentQualificationTime": {
                    "startTime": "2026-01-01T00:00:00Z",
                    "endTime": "2026-02-01T00:00:00Z",
                },
                "fromIngestTimestamp": "2025-10-25T13:22:04-07:00",
                "emptyProfiles": False,
            },
            "additionalFields": {"eventList": {"fields": "eventType,timestamp"}},
            "destination": {"datasetId": "5b7c86968f7b6501e21ba9df", "segmentPerBatch": False},
            "schema": {"name": "_xdm.context.profile"},
            "evaluationInfo": {"segmentation": False},
        }
    ).encode()


@dataclass
class Calls:
    """One server that is called, and the callers."""

    server: Apart
    load: Apart
    address: str
    headers: Mapping[str, str]
    create: bytes
    gets: Sequence[bytes] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    """The share of the time in which the callers' process was at work, run by run."""

    async def connect(self, callers: int) -> None:
        """As many callers."""
        await self.load.call("connect", self.address, callers)

    async def leave(self) -> None:
        """No callers."""
        await self.load.call("leave")

    async def run(self, requests: Sequence[bytes], count: int) -> Ran:
        """So many of these, by the clock of the callers and the processors of the server."""
        before = await self.server.call("usage")
        ran = await self.load.run("send", requests, count)
        after = await self.server.call("usage")
        self.busy.append((ran.processor or 0) / ran.seconds)
        return Ran(ran.items, ran.seconds, after.processor - before.processor, after.peak)

    async def prepare(self) -> None:
        """Jobs to be read."""
        await self.connect(1)
        answers = await self.load.call("ask", [self.create] * READ)
        ids = [json.loads(answer)["id"] for answer in answers]
        self.gets = [request("GET", f"{JOBS}/{job_id}", headers=self.headers) for job_id in ids]
        await self.leave()


async def measure(
    sides: Mapping[str, Calls], name: str, callers: int, count: int, runs: int
) -> Comparison:
    """Creates or gets by so many callers."""

    def case(side: Calls) -> Case:
        requests = [side.create] if name == "create" else side.gets
        return Case(
            partial(side.run, requests, count),
            before=partial(side.connect, callers),
            after=side.leave,
        )

    return await compare(
        f"{name}, {callers} concurrent caller{'s' if callers > 1 else ''}",
        {side: case(calls) for side, calls in sides.items()},
        baseline=BARE,
        runs=runs,
    )


@asynccontextmanager
async def called(
    body: bytes, load: Apart, opening: Opening, *arguments: object
) -> AsyncIterator[Calls]:
    """A server in a process of its own, with jobs to be read."""
    async with apart(opening, *arguments) as server:
        address, headers = await server.call("where")
        calls = Calls(server, load, address, headers, request("POST", JOBS, body, headers))
        await calls.prepare()
        yield calls


async def measure_all(folder: Path, requests: int, runs: int) -> None:
    """Print a comparison for each number of callers."""
    profiles = folder / "profiles"
    sampled = stores.sample(Settings(data=folder, profiles=profiles), 1_000)
    segment = sampled.segments[0]
    asked = body(segment.segment, segment.namespace)

    def place(name: str) -> Settings:
        """A folder with a store of its own."""
        (folder / name).mkdir()
        return Settings(data=folder / name, profiles=profiles, http=HttpSettings(**NO_LIMITS))

    async with AsyncExitStack() as stack:
        load = await stack.enter_async_context(apart(client))
        sides = {
            name: await stack.enter_async_context(called(asked, load, opening, *arguments))
            for name, opening, *arguments in (
                (OURS, ours, place("ours"), False),
                (WITH_KEYS, ours, place("with-keys"), True),
                (BARE, bare, place("bare"), True),
                (ON_THE_LOOP, bare, place("on-the-loop"), False),
                (FIXED, fixed, json.dumps({"id": 1, **json.loads(asked)}).encode()),
            )
        }
        print(f"   a body of {len(asked)} bytes\n")
        for name in ("create", "get"):
            for callers in CALLERS:
                # One caller waits for each answer: a quarter of the calls tells as much.
                count = requests if callers > 1 else requests // 4
                print(comparison := await measure(sides, name, callers, count, runs))
                print(_busy(sides))
                _print_aims(comparison, name, callers)


def _busy(sides: Mapping[str, Calls]) -> str:
    """Whether it was the callers who had no time."""
    shares = [f"{name} {statistics.median(side.busy):.0%}" for name, side in sides.items()]
    for side in sides.values():
        side.busy.clear()
    return f"the callers' process was at work: {', '.join(shares)}"


def _print_aims(comparison: Comparison, name: str, callers: int) -> None:
    time = comparison.time(OURS)
    if name == "get" or callers == 1:
        print(aim(f"{name}, time against the bare one,", time, TIMES))
    elif callers == 64:
        print(aim(f"{name}, time against the bare one,", time, 1.0))
    print()


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder otherwise")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=4_000, help="in one run; fewer alone")
    arguments = parser.parse_args()
    print_header("calls: jobs created and read over HTTP", "fastapi", "uvicorn", "pydantic")
    print(f"   SQLite {sqlite3.sqlite_version}, WAL, synchronous=FULL", end=",")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        asyncio.run(measure_all(Path(folder), arguments.requests, arguments.runs))


if __name__ == "__main__":
    main()
