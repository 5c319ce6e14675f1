"""How every benchmark of this project measures: side by side, interleaved, medians.

A number alone says little on a shared machine. So each benchmark runs what is ours next to
a peer or a physical limit, in one process and in turns: a slow minute of the machine then
hits all sides alike, and the ratio survives it.

    comparison = compare("sum", {"ours": ours, "peer": peer}, baseline="peer", items=1000)
    print(comparison)
    comparison.speed("ours")  # 0.8: does 0.8 times as much per second as the peer
"""

import asyncio
import gc
import inspect
import os
import platform
import statistics
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

Run = Callable[[], Any]
"""What is timed, sync or async. If it returns an int, that is how many items it has done."""

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True)
class Case:
    """A run with what has to be done before and after each time, outside of the clock."""

    run: Run
    before: Run | None = None
    after: Run | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """What was measured of one side: one entry a run. `peaks` are bytes above the start."""

    name: str
    seconds: Sequence[float] = field(default_factory=list)
    items: Sequence[int] = field(default_factory=list)
    peaks: Sequence[int] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median seconds of a run."""
        return statistics.median(self.seconds)

    @property
    def per_item(self) -> float:
        """Median seconds of an item."""
        return statistics.median(s / n for s, n in zip(self.seconds, self.items, strict=True))

    @property
    def rate(self) -> float:
        """Items a second, at the median."""
        return 1 / self.per_item

    @property
    def spread(self) -> float:
        """How far the slowest and the fastest run lie apart, as a share of the median."""
        return (max(self.seconds) - min(self.seconds)) / self.median

    @property
    def peak(self) -> int | None:
        """Median of the peak of resident memory above that at the start, in bytes."""
        return int(statistics.median(self.peaks)) if self.peaks else None


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
        runs = len(self.sides[self.baseline].seconds)
        memory = any(side.peaks for side in self.sides.values())
        head = ["", "median", "per item", "items/s", "speed", "time", "spread"]
        rows = [head + ["peak"] * memory]
        for name, side in self.sides.items():
            row = [name + (" (baseline)" if name == self.baseline else "")]
            row += [_seconds(side.median), _seconds(side.per_item), f"{side.rate:,.0f}"]
            row += [f"{self.speed(name):.3g} x", f"{self.time(name):.3g} x", f"{side.spread:.0%}"]
            rows.append(row + [_bytes(side.peak)] * memory)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if place == 0 else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join([f"{self.name}: {runs} interleaved runs", *lines])


def compare(
    name: str,
    cases: Mapping[str, Run | Case],
    *,
    runs: int = 7,
    baseline: str,
    items: int = 1,
    warm_up: int = 1,
    memory: bool = False,
) -> Comparison:
    """Time all cases in turns, and print nothing.

    `items` is what one run does where a run does not say so itself by returning an int.
    `warm_up` turns are not counted. With `memory`, the peak of resident memory during each
    run is taken (Linux). Async cases all run on one event loop; see `compare_async` for
    cases that need the loop they were made on.
    """
    with asyncio.Runner() as runner:

        def call(run: Run) -> Any:
            done = run()
            return runner.run(_awaited(done)) if inspect.isawaitable(done) else done

        measuring = _Measuring(name, cases, baseline, items, memory=memory)
        for turn, case in measuring.turns(warm_up + runs):
            for step in measuring.steps(case, counted=turn >= warm_up):
                measuring.answer = call(step)
    return measuring.comparison()


async def compare_async(
    name: str,
    cases: Mapping[str, Run | Case],
    *,
    runs: int = 7,
    baseline: str,
    items: int = 1,
    warm_up: int = 1,
    memory: bool = False,
) -> Comparison:
    """`compare` on the running event loop, for cases that hold connections of that loop."""
    measuring = _Measuring(name, cases, baseline, items, memory=memory)
    for turn, case in measuring.turns(warm_up + runs):
        for step in measuring.steps(case, counted=turn >= warm_up):
            done = step()
            measuring.answer = await done if inspect.isawaitable(done) else done
    return measuring.comparison()


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


class _Measuring:
    """The interleaving and the clock, apart from how a step is called."""

    def __init__(
        self, name: str, cases: Mapping[str, Run | Case], baseline: str, items: int, *, memory: bool
    ) -> None:
        if baseline not in cases:
            raise ValueError(f"the baseline {baseline!r} is none of the cases {list(cases)}")
        self.answer: Any = None
        self._name = name
        self._baseline = baseline
        self._items = items
        self._memory = memory
        self._cases = {
            side: case if isinstance(case, Case) else Case(case) for side, case in cases.items()
        }
        self._seconds: dict[str, list[float]] = {side: [] for side in cases}
        self._done: dict[str, list[int]] = {side: [] for side in cases}
        self._peaks: dict[str, list[int]] = {side: [] for side in cases}

    def turns(self, count: int) -> Iterator[tuple[int, str]]:
        """Every side once a turn; each turn another one begins, so that none always follows
        the same neighbour's garbage and warmth."""
        sides = list(self._cases)
        for turn in range(count):
            shift = turn % len(sides)
            for side in sides[shift:] + sides[:shift]:
                yield turn, side

    def steps(self, side: str, *, counted: bool) -> Iterator[Run]:
        """What the caller has to call now, one after the other; only the run is timed."""
        case = self._cases[side]
        if case.before:
            yield case.before
        gc.collect()
        resident = _resetpeak_memory() if self._memory else None
        began = perf_counter()
        yield case.run
        seconds = perf_counter() - began
        done = self.answer
        if counted:
            self._seconds[side].append(seconds)
            said = isinstance(done, int) and not isinstance(done, bool)
            self._done[side].append(done if said else self._items)
            if resident is not None:
                self._peaks[side].append(max(0, peak_memory() - resident))
        if case.after:
            yield case.after

    def comparison(self) -> Comparison:
        return Comparison(
            self._name,
            self._baseline,
            {
                side: Side(side, self._seconds[side], self._done[side], self._peaks[side])
                for side in self._cases
            },
        )


async def _awaited(done: Awaitable[Any]) -> Any:
    return await done


def _resetpeak_memory() -> int | None:
    """Set the kernel's high-water mark of this process back; bytes resident now."""
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return None
    return _status("VmRSS")


def peak_memory() -> int:
    """The most memory that this process has ever had resident, in bytes."""
    return _status("VmHWM")


def _status(key: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise ValueError(f"{_STATUS} has no {key}")


def _seconds(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def _bytes(size: int | None) -> str:
    if size is None:
        return "-"
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
