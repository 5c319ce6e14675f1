"""What `segexport submit` makes of its options, and what `status` says of a failed job."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from segexport.cli import main
from segexport.profiles.definitions import define_segment
from support.people import Person, write_snapshot

GOLD, BLUE = ("ups", "gold"), ("ups", "blue")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `segexport … --format json`; gives the status and the document."""
    monkeypatch.chdir(tmp_path)
    store = tmp_path / ".segexport" / "profiles"
    write_snapshot(store, [Person(1, memberships={GOLD: "realized", BLUE: "exited"})])
    define_segment(store, "gold", "loyalty.points > 1")
    define_segment(store, "blue", "loyalty.points > 2")

    def call(*arguments: str) -> tuple[int, Any]:
        monkeypatch.setattr("sys.argv", ["segexport", *arguments, "--format", "json"])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr().out
        return int(ended.value.code or 0), orjson.loads(printed) if printed else None

    return call


def test_options_say_the_same_as_a_request(run: Any) -> None:
    status, job = run(
        "submit",
        *("--dataset", "both", "--segment", "gold", "--segment", "blue", "--status", "exited"),
        *("--segment-per-batch", "--evaluate", "--file-format", "ndjson.gz"),
        *("--merge-policy", "none-none-mp", "--deadline", "90"),
    )
    assert status == 0
    request = job["request"]
    assert request["destination"] == {
        "datasetId": "both",
        "segmentPerBatch": True,
        "format": "ndjson.gz",
    }
    assert [segment["status"] for segment in request["filter"]["segments"]] == [["exited"]] * 2
    assert request["evaluationInfo"] == {"segmentation": True}
    assert request["mergePolicy"] == {"id": "none-none-mp", "version": 1}
    created, deadline = (datetime.fromisoformat(job[name]) for name in ("createdAt", "deadline"))
    assert deadline - created == timedelta(seconds=90)


def test_the_journey_is_named_in_options(run: Any) -> None:
    status, job = run(
        *("submit", "--dataset", "spring", "--segment", "gold", "--journey-version", "v3"),
        *("--namespace", "Email", "--journey-id", "j-7", "--journey-name", "Grüße im Mai"),
    )
    assert status == 0
    assert job["request"]["journey"] == {
        "versionId": "v3",
        "namespace": "Email",
        "testMode": False,
        "id": "j-7",
        "name": "Grüße im Mai",
    }


@pytest.mark.parametrize(
    "options",
    [
        ["--journey-id", "j-7"],
        ["--journey-name", "Spring sale"],
        ["--journey-id", "j-7", "--namespace", "Email"],
        ["--journey-name", "Spring sale", "--journey-version", "v3"],
        ["--test-mode"],
        ["--test-mode", "--namespace", "Email"],
        ["--journey-name", "", "--journey-version", "v3", "--namespace", "Email"],
    ],
)
def test_a_journey_without_its_version_or_its_namespace_is_refused(
    run: Any, options: list[str]
) -> None:
    assert run("submit", "--dataset", "d", *options)[0] == 2
    assert run("list") == (0, None)


def test_without_options_a_job_has_the_defaults_and_its_policy_is_decided(run: Any) -> None:
    _, job = run("submit", "--dataset", "all")
    assert job["request"]["destination"]["segmentPerBatch"] is False
    assert job["request"]["mergePolicy"] == {"id": "timestampOrdered-none-mp", "version": 1}
    _, status = run("status", str(job["id"]))
    assert (status["rows"], status["errors"]) == (0, [])
    assert "rowsPerSecond" not in status


@pytest.mark.parametrize(
    "option",
    [
        ["--evaluate"],
        ["--segment-namespace", "ups"],
        ["--file-format", "parquet"],
        ["--merge-policy", "none-none-mp"],
        ["--test-mode"],
        ["--journey-id", "spring"],
        ["--journey-name", "Spring sale"],
    ],
)
def test_a_request_file_and_options_are_not_both_taken(
    run: Any, tmp_path: Path, option: list[str]
) -> None:
    file = tmp_path / "request.json"
    file.write_text('{"destination": {"datasetId": "d"}}')
    assert run("submit", str(file), *option)[0] == 2
    assert run("submit", str(file))[0] == 0


def test_a_bad_option_does_not_hide_what_is_not_there(
    run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--dataset", "../etc", "--segment", "nope", "--fields", "no.such")
    monkeypatch.setattr("sys.argv", ["segexport", "submit", *options])
    with pytest.raises(SystemExit):
        main()
    told = capsys.readouterr().err
    for path in ("destination.datasetId: must", "segmentId: no segment 'nope'", "fields: the"):
        assert path in told
    assert run("list") == (0, None)


@pytest.mark.parametrize("option", [["--status", "exited"], ["--segment-namespace", "AAM"]])
def test_what_is_said_of_segments_is_not_lost_where_none_is_named(
    run: Any, option: list[str]
) -> None:
    assert run("submit", "--dataset", "d", *option)[0] == 2
    assert run("submit", "--dataset", "d")[0] == 0
