"""Hostile requests: how long everybody else waits beside each kind of them.

A service that wants keys; one process asks it for `/livez` every five milliseconds, another
sends it one kind of request (`hostile_loads.py`) from as many connections as it is told, again
and again. In each round all kinds come in turns, and idle as one of them. What is printed is the
median of the rounds: of the median wait, of its p99, of the p99 in times of that of idle, and of
the longest turn of the server's event loop, in processor time.

    python benchmarks/hostile.py [--rounds N] [--seconds N] [--connections 1,6,60] [--only TEXT]
"""

import argparse
import asyncio
import statistics
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from apart import Apart, apart
from beside import attack, probe
from hostile_loads import loads
from measure import aim, print_header
from segexport.settings import Settings
from segexport.settings.http import ApplicationSettings, HttpSettings, PinpointSettings
from served import NO_LIMITS
from turn_times import watched

IDLE: Final = "idle"
P99: Final = 50.0
"""Milliseconds in which 99 of 100 answers should be there, whatever else is asked."""
TIMES: Final = 5.0
"""The most that this should be, in times of idle."""
SETTLING: Final = 0.3
"""Seconds between the first bytes of a load and the first question, and after the last."""


@dataclass
class Kind:
    """One kind of request from so many connections, and what was measured beside it."""

    name: str
    connections: int
    sent: bytes
    medians: list[float] = field(default_factory=list)
    p99s: list[float] = field(default_factory=list)
    turns: list[float] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)

    def note(self, waits: Sequence[float], turn: float, answers: Mapping[str, int]) -> None:
        """Keep what one round has shown; seconds become milliseconds."""
        self.medians.append(1000 * statistics.median(waits))
        self.p99s.append(1000 * statistics.quantiles(waits, n=100)[98])
        self.turns.append(1000 * turn)
        self.answers.update(answers)

    def told(self, idle: "Kind") -> str:
        """A line of the table."""
        answered = ", ".join(f"{times} x {status}" for status, times in self.answers.items())
        return (
            f"{self.name:46} {self.connections:4}  {statistics.median(self.medians):7.1f} ms  "
            f"{statistics.median(self.p99s):7.1f} ms  {self.times(idle):5.1f} x  "
            f"{statistics.median(self.turns):6.1f} ms  {answered}"
        )

    def times(self, idle: "Kind") -> float:
        """The p99 in times of that of idle in the same round; the median of the rounds."""
        return statistics.median(
            mine / theirs for mine, theirs in zip(self.p99s, idle.p99s, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Measuring:
    """Who loads and who asks the server at `address`, for so many seconds at a time."""

    address: str
    server: Apart
    load: Apart
    asking: Apart
    seconds: float

    async def beside(self, kind: Kind) -> None:
        """Measure once beside one kind of request."""
        if kind.sent:
            await self.load.call("start", self.address, kind.sent, kind.connections)
        await asyncio.sleep(SETTLING)
        await self.server.call("longest")
        waits = await self.asking.call("ask", self.address, self.seconds)
        turn = await self.server.call("longest")
        kind.note(waits, turn, await self.load.call("stop"))
        await self.asking.call("ask", self.address, SETTLING)


async def measure_all(rounds: int, seconds: float, connections: Sequence[int], only: str) -> None:
    """Serve, measure and print."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        settings = Settings(
            data=Path(folder),
            http=HttpSettings(**NO_LIMITS),
            pinpoint=PinpointSettings(
                applications={"spring": ApplicationSettings(organization="local")}
            ),
        )
        async with AsyncExitStack() as stack:
            load = await stack.enter_async_context(apart(attack))
            asking = await stack.enter_async_context(apart(probe))
            server = await stack.enter_async_context(apart(watched, settings))
            address, headers = await server.call("where")
            idle = Kind(IDLE, 0, b"")
            kinds = [idle] + [
                Kind(name, count, sent)
                for count in connections
                for name, sent in loads(headers).items()
                if only in name
            ]
            measuring = Measuring(address, server, load, asking, seconds)
            for turn in range(rounds):
                for kind in [*kinds[turn:], *kinds[:turn]]:
                    await measuring.beside(kind)
    print(
        f"{'beside':46} {'from':>4}  {'median':>10}  {'p99':>10}  {'idle':>7}  {'turn':>9}  answers"
    )
    for kind in kinds:
        print(kind.told(idle))
    slowest = max(kinds, key=lambda kind: statistics.median(kind.p99s))
    furthest = max(kinds, key=lambda kind: kind.times(idle))
    print(aim(f"p99 of all, in ms, ({slowest.name})", statistics.median(slowest.p99s), P99))
    print(aim(f"p99 of all, in times of idle, ({furthest.name})", furthest.times(idle), TIMES))


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one load in one round")
    parser.add_argument("--connections", default="1,6,60", help="of a load, one after the other")
    parser.add_argument("--only", default="", help="loads whose names hold this")
    arguments = parser.parse_args()
    print_header("hostile: /livez beside hostile requests", "fastapi", "uvicorn", "h11", "pydantic")
    connections = [int(count) for count in arguments.connections.split(",")]
    asyncio.run(measure_all(arguments.rounds, arguments.seconds, connections, arguments.only))


if __name__ == "__main__":
    main()
