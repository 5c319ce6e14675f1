"""Pages of a list of jobs: whether they cost more where there are a million than a thousand.

Pages of a hundred, asked of two services whose stores hold so many jobs: the first page, one in
the middle, one of those that have failed, and one of a segment (as Pinpoint lists it). Every
page is full; how the stores are made, see `many_jobs.py`. They are kept in `benchmarks/.stores`,
4.3 GB, and made anew, in a minute, when the store's schema changes.

    python benchmarks/pages.py [--folder DIR] [--runs N] [--requests N]
"""

import argparse
import asyncio
import json
import statistics
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from apart import Apart, apart
from client import client, request
from many_jobs import RARE, middle, store_of
from measure import Case, aim, compare, print_header
from segexport.settings import Settings
from segexport.settings.http import ApplicationSettings, HttpSettings, PinpointSettings
from served import JOBS, NO_LIMITS, ours

SIZES: Final = (1_000, 1_000_000)
CALLERS: Final = (1, 16)
LIMIT: Final = 100
APPLICATION: Final = "spring"
RATIO: Final = 1.2
"""The most that a page should take among a million jobs, in times of one among a thousand."""
P99: Final = 50.0
"""Milliseconds in which 99 of 100 pages should be there."""


@dataclass
class Store:
    """A service, and how long callers have waited for its pages, in seconds."""

    address: str
    pages: Mapping[str, bytes]
    load: Apart
    waits: list[float] = field(default_factory=list)

    async def connect(self, callers: int) -> None:
        """As many callers."""
        await self.load.call("connect", self.address, callers)

    async def list(self, page: str, count: int) -> int:
        """This page so many times."""
        await self.load.run("send", [self.pages[page]], count)
        return count

    async def leave(self) -> None:
        """No callers."""
        self.waits += await self.load.call("waits")
        await self.load.call("leave")

    async def require_full(self) -> None:
        """See that every page has as many jobs as it may."""
        await self.connect(1)
        for name, wanted in self.pages.items():
            (answer,) = await self.load.call("ask", [wanted])
            document = json.loads(answer)
            found = len(document.get("records") or document["Item"])
            if found != LIMIT:
                raise RuntimeError(f"{name} has {found} jobs")
        await self.load.call("leave")


def pages(folder: Path) -> Mapping[str, bytes]:
    """The requests."""
    created_ms, job_id = middle(folder)
    segment = f"/v1/apps/{APPLICATION}/segments/{RARE}/jobs/export?page-size={LIMIT}"
    return {
        "the first page": request("GET", f"{JOBS}?limit={LIMIT}"),
        "in the middle": request("GET", f"{JOBS}?limit={LIMIT}&offset={created_ms}_{job_id}"),
        "failed": request("GET", f"{JOBS}?limit={LIMIT}&status=FAILED"),
        "of a segment": request("GET", segment),
    }


async def measure(stores: Sequence[Store], page: str, callers: int, count: int, runs: int) -> None:
    """Print what a page takes with so many callers."""
    few, many = (f"{size:,} jobs" for size in SIZES)
    await compare(
        page,
        {
            name: Case(
                partial(store.list, page, count),
                before=partial(store.connect, callers),
                after=store.leave,
            )
            for name, store in zip((few, many), stores, strict=True)
        },
        baseline=few,
        runs=runs,
    )
    medians, p99s = [], []
    for store in stores:
        medians.append(1000 * statistics.median(store.waits))
        p99s.append(1000 * statistics.quantiles(store.waits, n=100)[98])
        store.waits.clear()
    ratio = medians[1] / medians[0]
    print(
        f"{page}, {callers} caller{'s' if callers > 1 else ''}:\n"
        f"  {few:>14}  median {medians[0]:6.1f} ms  p99 {p99s[0]:6.1f} ms\n"
        f"  {many:>14}  median {medians[1]:6.1f} ms  p99 {p99s[1]:6.1f} ms, {ratio:.2f} x\n"
        f"  {aim('the ratio of medians', ratio, RATIO)}\n"
        f"  {aim('p99, in ms,', p99s[1], P99)}"
    )


async def measure_all(folder: Path, requests: int, runs: int) -> None:
    """Make the stores where they are not there, and measure."""
    pinpoint = PinpointSettings(
        applications={APPLICATION: ApplicationSettings(organization="local")}
    )
    async with AsyncExitStack() as stack:
        load = await stack.enter_async_context(apart(client))
        stores = []
        for size in SIZES:
            place = await asyncio.to_thread(store_of, folder, size)
            settings = Settings(data=place, http=HttpSettings(**NO_LIMITS), pinpoint=pinpoint)
            server = await stack.enter_async_context(apart(ours, settings, False))
            address, _ = await server.call("where")
            stores.append(Store(address, pages(place), load))
            await stores[-1].require_full()
        for page in stores[0].pages:
            for callers in CALLERS:
                await measure(stores, page, callers, requests, runs)


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    kept = Path(__file__).parent / ".stores"
    parser.add_argument("--folder", type=Path, default=kept, help="where the stores are kept")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=100, help="in one run")
    arguments = parser.parse_args()
    print_header("pages: lists of jobs, long and short", "fastapi", "uvicorn", "pydantic")
    asyncio.run(measure_all(arguments.folder, arguments.requests, arguments.runs))


if __name__ == "__main__":
    main()
