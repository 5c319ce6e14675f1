"""`segexport segments` and `segexport policies` on the command line."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from segexport.cli import main
from support.people import Person, write_snapshot

PEOPLE = [Person(number, [{"loyalty.points": number * 100}]) for number in range(1, 8)]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `segexport` where the profile store has seven people; gives status and output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGEXPORT_EXPORTS__THREADS", "2")
    write_snapshot(tmp_path / ".segexport" / "profiles", PEOPLE)

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["segexport", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return call


def json_of(run: Any, *arguments: str) -> list[Any]:
    status, printed, problem = run(*arguments, "--format", "json")
    assert status == 0, problem
    return [orjson.loads(line) for line in printed.splitlines()]


def test_a_segment_is_defined_listed_shown_and_evaluated(run: Any) -> None:
    status, printed, _ = run("segments", "define", "rich", "--where", "loyalty.points > 500")
    assert (status, printed) == (
        0,
        "segment ups:rich, version 1, merged by timestampOrdered-none-mp:1\n",
    )
    run("segments", "define", "rich", "--where", "loyalty.points > 300")
    _, printed, _ = run("segments", "show", "rich")
    assert printed.splitlines() == [
        "ups:rich, version 1, merged by timestampOrdered-none-mp:1",
        "  loyalty.points > 500",
        "ups:rich, version 2, merged by timestampOrdered-none-mp:1",
        "  loyalty.points > 300",
    ]
    _, printed, _ = run("segments", "list")
    assert printed.split()[-6:] == ["ups", "rich", "2", "loyalty.points", ">", "300"]
    status, printed, _ = run("segments", "evaluate")
    assert status == 0
    assert printed.split()[-5:] == ["ups", "rich", "4", "0", "0"]


def test_scripts_get_the_same_in_json(run: Any) -> None:
    (defined,) = json_of(
        *(run, "segments", "define", "rich", "--where", "loyalty.points > 500"),
        *("--namespace", "own", "--merge-policy", "none-none-mp:1"),
    )
    assert defined == {
        "segmentNs": "own",
        "segmentId": "rich",
        "version": 1,
        "predicate": "loyalty.points > 500",
        "mergePolicy": {"id": "none-none-mp", "version": 1},
    }
    assert json_of(run, "segments", "list") == [defined]
    assert json_of(run, "segments", "show", "rich", "--namespace", "own") == [defined]
    (evaluated,) = json_of(run, "segments", "evaluate", "rich", "--namespace", "own")
    assert evaluated["snapshot"].startswith("00000002-")
    assert evaluated["segments"] == [
        {"namespace": "own", "segment": "rich", "realized": 2, "existing": 0, "exited": 0}
    ]


def test_only_the_named_segments_are_evaluated(run: Any) -> None:
    for segment in ("one", "two"):
        run("segments", "define", segment, "--where", "TRUE")
    (evaluated,) = json_of(run, "segments", "evaluate", "two")
    assert [each["segment"] for each in evaluated["segments"]] == ["two"]
    (shown,) = json_of(run, "profiles", "show")
    assert [each["segment"] for each in shown["segments"]] == ["two"]


def test_policies_are_defined_and_listed_beside_those_that_are_built_in(run: Any) -> None:
    define = ("policies", "define", "crm:first", "--merging", "dataSetPrecedence")
    status, printed, _ = run(*define, "--dataset", "crm", "--dataset", "web")
    assert (status, printed) == (0, "merge policy crm:first, version 1\n")
    listed = json_of(run, "policies", "list")
    assert [each["id"] for each in listed] == [
        "timestampOrdered-none-mp",
        "none-none-mp",
        "crm:first",
    ]
    assert listed[-1]["datasets"] == ["crm", "web"]
    _, printed, _ = run("policies", "list")
    assert printed.splitlines()[-1].split() == [
        "crm:first",
        "dataSetPrecedence",
        "1",
        "crm,",
        "web",
    ]
    for words in ("crm:first", "crm:first:1"):
        (segment,) = json_of(
            *(run, "segments", "define", "s", "--where", "TRUE", "--merge-policy", words)
        )
        assert segment["mergePolicy"] == {"id": "crm:first", "version": 1}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("segments", "define", "s", "--where", "loyalty.point > 1"), "mean 'loyalty.points'"),
        (("segments", "define", "s", "--where", "TRUE", "--merge-policy", "x:2"), "policy 'x'"),
        (("segments", "show", "s"), "no segment 's' is defined"),
        (("segments", "evaluate", "s"), "no segment 's' is defined"),
        (("segments", "evaluate"), "no segment is defined"),
        (("policies", "define", "p", "--merging", "dataSetPrecedence"), "needs datasets"),
        (("policies", "define", "p", "--merging", "newest"), "newest"),
    ],
)
def test_what_cannot_be_done_is_said_with_status_2(
    run: Any, arguments: tuple[str, ...], words: str
) -> None:
    status, _, printed = run(*arguments)
    assert status == 2
    assert words in " ".join(printed.split())


def test_nothing_defined_is_said(run: Any) -> None:
    assert run("segments", "list")[:2] == (0, "no segments are defined\n")
    assert json_of(run, "segments", "list") == []
