"""The clock of the benchmarks: who is timed, how often, in which order, and the ratios."""

import asyncio
import gc
import importlib
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _little_garbage() -> Iterator[None]:
    """Garbage is collected before each run; what other tests have left need not be searched."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    module = importlib.import_module("measure")
    clock = iter(range(1_000_000))
    monkeypatch.setattr(module, "perf_counter", lambda: float(next(clock)))
    return module


@pytest.fixture
def apart(measure: Any) -> Any:  # noqa: ARG001  (which makes the benchmarks importable)
    return importlib.import_module("apart").apart


async def test_all_sides_take_turns_and_each_turn_begins_with_another(measure: Any) -> None:
    calls: list[str] = []
    cases = {name: lambda name=name: calls.append(name) for name in "abc"}
    await measure.compare("order", cases, runs=3, baseline="a", warm_up=0)
    assert "".join(calls) == "abcbcacab"


async def test_warm_up_turns_are_run_and_not_counted(measure: Any) -> None:
    calls: list[str] = []
    compared = await measure.compare(
        "warm", {"a": lambda: calls.append("a")}, runs=3, baseline="a", warm_up=2
    )
    assert len(calls) == 5
    assert len(compared.sides["a"].runs) == 3


async def test_what_comes_before_and_after_a_run_is_not_timed(measure: Any) -> None:
    calls: list[str] = []

    def note(what: str) -> Any:
        def run() -> None:
            calls.append(what)
            if what != "run":
                measure.perf_counter()  # a second goes by

        return run

    case = measure.Case(note("run"), before=note("before"), after=note("after"))
    compared = await measure.compare("outside", {"a": case}, runs=2, baseline="a", warm_up=0)
    assert calls == ["before", "run", "after"] * 2
    assert [ran.seconds for ran in compared.sides["a"].runs] == [1.0, 1.0]


async def test_a_side_that_does_twice_as_much_in_the_same_time_is_twice_as_fast(
    measure: Any,
) -> None:
    compared = await measure.compare(
        "ratio", {"ours": lambda: 10, "peer": lambda: None}, baseline="peer", items=5
    )
    assert compared.speed("ours") == 2.0
    assert compared.time("ours") == 0.5
    assert compared.speed("peer") == 1.0
    assert compared.sides["ours"].rate == 10.0
    assert "2 x  0.5 x" in str(compared)
    assert "peer (baseline)" in str(compared)


async def test_sync_and_async_runs_are_called_alike(measure: Any) -> None:
    async def ours() -> int:
        await asyncio.sleep(0)
        return 4

    cases = {"ours": ours, "peer": lambda: 2}
    assert (await measure.compare("both", cases, baseline="peer")).speed("ours") == 2.0


async def test_a_run_that_knows_what_it_took_is_believed(measure: Any) -> None:
    ran = [measure.Ran(10, seconds, 2 * seconds, peak) for seconds, peak in ((4.0, 5), (8.0, 3))]
    cases = {"ours": iter(ran).__next__, "peer": lambda: 10}
    compared = await measure.compare("known", cases, runs=2, warm_up=0, baseline="peer")
    assert compared.time("ours") == 6.0
    assert compared.sides["ours"].processor == 12.0
    assert compared.sides["ours"].peak == 5
    assert compared.sides["peer"].peak is None


async def test_a_run_that_finds_nothing_to_do_is_one_item(measure: Any) -> None:
    cases = {"ours": lambda: measure.Ran(0, 3.0), "peer": lambda: measure.Ran(0, 2.0)}
    assert (await measure.compare("nothing", cases, baseline="peer")).time("ours") == 1.5


def test_an_aim_is_met_up_to_its_bound(measure: Any) -> None:
    assert measure.aim("time", 1.5, 1.5) == "aim: time at most 1.5: 1.50, met"
    assert measure.aim("time", 1.51, 1.5) == "aim: time at most 1.5: 1.51, missed"


async def test_a_side_apart_tells_what_it_took_and_has_a_peak_of_its_own(
    measure: Any, apart: Any
) -> None:
    here = bytearray(300 * 10**6)
    here[:] = b"x" * len(here)
    async with apart(nullcontext, "banana") as side:
        ran = await side.run("count", "a")
        assert await side.call("upper") == "BANANA"
    assert isinstance(ran, measure.Ran)
    assert ran.items == 3
    assert 0 < ran.peak < len(here)


async def test_a_side_apart_that_fails_says_which_call(
    apart: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    async with apart(nullcontext, "banana") as side:
        with pytest.raises(RuntimeError, match="index has failed"):
            await side.run("index", "z")
        with pytest.raises(RuntimeError, match="upper has failed"):
            await side.call("upper")
    assert "substring not found" in capfd.readouterr().err


async def test_a_baseline_that_is_not_measured_is_refused(measure: Any) -> None:
    with pytest.raises(ValueError, match="none of the cases"):
        await measure.compare("nothing", {"a": lambda: None}, baseline="b")


def test_machine_and_versions_are_named(measure: Any, capsys: pytest.CaptureFixture[str]) -> None:
    measure.print_header("title", "orjson")
    printed = capsys.readouterr().out
    assert "== title" in printed
    assert "cores of" in printed
    assert "orjson 3." in printed
