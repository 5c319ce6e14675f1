"""The clock of the benchmarks: who is timed, how often, in which order, and the ratios."""

import asyncio
import importlib
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    module = importlib.import_module("measure")
    clock = iter(range(1_000_000))
    monkeypatch.setattr(module, "perf_counter", lambda: float(next(clock)))
    return module


def test_all_sides_take_turns_and_each_turn_begins_with_another(measure: Any) -> None:
    calls: list[str] = []
    cases = {name: lambda name=name: calls.append(name) for name in "abc"}
    measure.compare("order", cases, runs=3, baseline="a", warm_up=0)
    assert "".join(calls) == "abcbcacab"


def test_warm_up_turns_are_run_and_not_counted(measure: Any) -> None:
    calls: list[str] = []
    compared = measure.compare(
        "warm", {"a": lambda: calls.append("a")}, runs=3, baseline="a", warm_up=2
    )
    assert len(calls) == 5
    assert len(compared.sides["a"].seconds) == 3


def test_what_comes_before_and_after_a_run_is_not_timed(measure: Any) -> None:
    calls: list[str] = []

    def note(what: str) -> Any:
        def run() -> None:
            calls.append(what)
            if what != "run":
                measure.perf_counter()  # a second goes by

        return run

    case = measure.Case(note("run"), before=note("before"), after=note("after"))
    compared = measure.compare("outside", {"a": case}, runs=2, baseline="a", warm_up=0)
    assert calls == ["before", "run", "after"] * 2
    assert compared.sides["a"].seconds == [1.0, 1.0]


def test_a_side_that_does_twice_as_much_in_the_same_time_is_twice_as_fast(measure: Any) -> None:
    compared = measure.compare(
        "ratio", {"ours": lambda: 10, "peer": lambda: None}, baseline="peer", items=5
    )
    assert compared.speed("ours") == 2.0
    assert compared.time("ours") == 0.5
    assert compared.speed("peer") == 1.0
    assert compared.sides["ours"].rate == 10.0
    assert "2 x  0.5 x" in str(compared)
    assert "peer (baseline)" in str(compared)


def test_sync_and_async_runs_are_awaited_alike_on_either_way_of_calling(measure: Any) -> None:
    async def ours() -> int:
        await asyncio.sleep(0)
        return 4

    cases = {"ours": ours, "peer": lambda: 2}
    assert measure.compare("sync", cases, baseline="peer").speed("ours") == 2.0
    compared = asyncio.run(measure.compare_async("async", cases, baseline="peer"))
    assert compared.speed("ours") == 2.0


def test_a_baseline_that_is_not_measured_is_refused(measure: Any) -> None:
    with pytest.raises(ValueError, match="none of the cases"):
        measure.compare("nothing", {"a": lambda: None}, baseline="b")


def test_machine_and_versions_are_named(measure: Any, capsys: pytest.CaptureFixture[str]) -> None:
    measure.print_header("title", "orjson")
    printed = capsys.readouterr().out
    assert "== title" in printed
    assert "cores of" in printed
    assert "orjson 3." in printed
