"""How every benchmark of this project measures: side by side, interleaved, medians.

A number alone says little on a shared machine. So each benchmark runs what is ours next to
a peer or a physical limit, in turns: a slow minute of the machine then hits all sides alike,
and the ratio survives it.

    comparison = await compare("sum", {"ours": ours, "peer": peer}, baseline="peer", items=1000)
    print(comparison)
    comparison.speed("ours")  # 0.8: does 0.8 times as much per second as the peer

Sides whose memory matters run in processes of their own (`apart.py`).
"""

import gc
import inspect
import os
import platform
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

Run = Callable[[], Any]
"""What is timed, sync or async. If it returns an int, that is how many items it has done; if
it returns what it `Ran`, that counts instead of the clock here."""


@dataclass(frozen=True, slots=True)
class Case:
    """A run with what has to be done before and after each time, outside of the clock."""

    run: Run
    before: Run | None = None
    after: Run | None = None


@dataclass(frozen=True, slots=True)
class Ran:
    """What one run took: seconds for so many items.

    `processor` is seconds of all threads of its process, where it had that to itself. `peak` is
    the most memory that a process of its own had resident, in bytes.
    """

    items: int
    seconds: float
    processor: float | None = None
    peak: int | None = None

    @property
    def per_item(self) -> float:
        """Seconds of an item; a run that finds nothing to do is one item."""
        return self.seconds / max(1, self.items)


@dataclass(frozen=True, slots=True)
class Side:
    """What was measured of one side, run by run."""

    name: str
    runs: Sequence[Ran]

    @property
    def median(self) -> float:
        """Median seconds of a run."""
        return statistics.median(ran.seconds for ran in self.runs)

    @property
    def per_item(self) -> float:
        """Median seconds of an item."""
        return statistics.median(ran.per_item for ran in self.runs)

    @property
    def rate(self) -> float:
        """Items a second, at the median."""
        return 1 / self.per_item

    @property
    def spread(self) -> float:
        """How far the slowest and the fastest run lie apart, as a share of the median."""
        seconds = [ran.seconds for ran in self.runs]
        return (max(seconds) - min(seconds)) / self.median

    @property
    def processor(self) -> float | None:
        """Median processor seconds of a run, of all threads."""
        seconds = [ran.processor for ran in self.runs if ran.processor is not None]
        return statistics.median(seconds) if seconds else None

    @property
    def peak(self) -> int | None:
        """The highest peak of resident memory of all runs, in bytes."""
        return max((ran.peak for ran in self.runs if ran.peak is not None), default=None)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The sides of one measurement; `str()` is the table that people read."""

    name: str
    baseline: str
    sides: Mapping[str, Side]

    def speed(self, side: str) -> float:
        """Items a second of this side over those of the baseline: 0.5 is half as fast."""
        return self.sides[side].rate / self.sides[self.baseline].rate

    def time(self, side: str) -> float:
        """Seconds an item of this side over those of the baseline: 2.0 takes twice as long."""
        return 1 / self.speed(side)

    def __str__(self) -> str:
        runs = len(self.sides[self.baseline].runs)
        clocked = any(side.processor is not None for side in self.sides.values())
        peaks = any(side.peak is not None for side in self.sides.values())
        head = ["", "median", "per item", "items/s", "speed", "time", "spread"]
        rows = [head + ["processor"] * clocked + ["peak"] * peaks]
        for name, side in self.sides.items():
            row = [name + (" (baseline)" if name == self.baseline else "")]
            row += [_seconds(side.median), _seconds(side.per_item), f"{side.rate:,.0f}"]
            row += [f"{self.speed(name):.3g} x", f"{self.time(name):.3g} x", f"{side.spread:.0%}"]
            row += [self._processor(name)] * clocked + [_bytes(side.peak)] * peaks
            rows.append(row)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if place == 0 else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join([f"{self.name}: {runs} interleaved runs", *lines])

    def _processor(self, side: str) -> str:
        """Neighbours on the machine disturb the processor's time less than the clock's."""
        ours, theirs = self.sides[side].processor, self.sides[self.baseline].processor
        if ours is None or not theirs:
            return "-"
        return f"{_seconds(ours)}, {ours / theirs:.3g} x"


async def compare(
    name: str,
    cases: Mapping[str, Run | Case],
    *,
    runs: int = 7,
    baseline: str,
    items: int = 1,
    warm_up: int = 1,
) -> Comparison:
    """Time all cases in turns, and print nothing.

    `items` is what one run does where a run does not say so itself. `warm_up` turns are not
    counted.
    """
    if baseline not in cases:
        raise ValueError(f"the baseline {baseline!r} is none of the cases {list(cases)}")
    ran: dict[str, list[Ran]] = {side: [] for side in cases}
    for turn, side in _turns(list(cases), warm_up + runs):
        case = cases[side]
        once = await _timed(case if isinstance(case, Case) else Case(case), items)
        if turn >= warm_up:
            ran[side].append(once)
    return Comparison(name, baseline, {side: Side(side, ran[side]) for side in cases})


def aim(what: str, measured: float, at_most: float) -> str:
    """A line that says whether an aim was met: information, and no more."""
    verdict = "met" if measured <= at_most else "missed"
    return f"aim: {what} at most {at_most:g}: {measured:.2f}, {verdict}"


def machine() -> str:
    """One line that names what the numbers were taken on."""
    model = platform.machine()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{os.cpu_count()} cores of {model}, {_bytes(memory)} memory, {platform.system()}"


def versions(*packages: str) -> str:
    """One line with the versions of Python and of these installed packages."""
    named = [f"Python {platform.python_version()}"]
    return ", ".join(named + [f"{package} {version(package)}" for package in packages])


def print_header(title: str, *packages: str) -> None:
    """Print what stands above every benchmark: its title, the machine, the versions."""
    print(f"\n== {title}\n   {machine()}\n   {versions(*packages)}\n")


def items_of(answer: Any, otherwise: int) -> int:
    """How many items a run says that it has done."""
    said = isinstance(answer, int) and not isinstance(answer, bool)
    return answer if said else otherwise


def _turns(sides: Sequence[str], count: int) -> Iterator[tuple[int, str]]:
    """Every side once a turn; each turn another one begins, so that none always follows
    the same neighbour's garbage and warmth."""
    for turn in range(count):
        shift = turn % len(sides)
        for side in [*sides[shift:], *sides[:shift]]:
            yield turn, side


async def _timed(case: Case, items: int) -> Ran:
    if case.before:
        await _called(case.before)
    gc.collect()
    began = perf_counter()
    answer = await _called(case.run)
    seconds = perf_counter() - began
    if case.after:
        await _called(case.after)
    return answer if isinstance(answer, Ran) else Ran(items_of(answer, items), seconds)


async def _called(run: Run) -> Any:
    answer = run()
    return await answer if inspect.isawaitable(answer) else answer


def _seconds(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def _bytes(size: int | None) -> str:
    if size is None:
        return "-"
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
