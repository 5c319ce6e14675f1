"""`segexport profiles` on the command line."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from segexport.cli import main
from segexport.profiles.snapshots import ProfileStore
from support.fragments import belongs, fragment, identity_map, write_lines

MEMBERSHIP = {"ups": {"gold": {"lastQualificationTime": "2026-01-01T00:00:00Z"}}}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `segexport` in an empty folder; gives exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGEXPORT_EXPORTS__THREADS", "2")

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["segexport", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return call


def test_load_reports_what_it_read_took_and_refused(run: Any, tmp_path: Path) -> None:
    file = write_lines(
        tmp_path / "f.ndjson", [fragment("p1", segmentMembership=MEMBERSHIP), "bad", fragment("p2")]
    )
    status, printed, _ = run("profiles", "load", file)
    snapshot = ProfileStore(tmp_path / ".segexport" / "profiles").latest()
    assert status == 0
    assert "3 records read" in printed
    assert "2 fragments and 0 events accepted, 1 refused" in printed
    assert "not_json  the record is not JSON" in printed
    assert f"rejects/{snapshot.id}.ndjson" in printed
    assert (
        f"snapshot {snapshot.id}: 2 persons from 2 fragments and 0 events, 1 segments, 1 bucket"
        in printed
    )


def test_load_reports_in_json_for_scripts(run: Any, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "f.ndjson", [fragment("p1"), "bad"])
    rejects = tmp_path / "rejects.ndjson"
    status, printed, _ = run(
        *("profiles", "load", file, "--store", tmp_path / "s", "--rejects", rejects),
        *("--format", "json"),
    )
    report = orjson.loads(printed)
    assert status == 0
    assert report.pop("seconds") > 0
    assert report.pop("snapshot") == ProfileStore(tmp_path / "s").latest().id
    assert report == {
        "read": 2,
        "accepted": 1,
        "refused": {"not_json": 1},
        "rejects": str(rejects),
        "persons": 1,
        "fragments": 1,
        "events": 0,
        "graph": 0,
        "moved": 0,
        "emptyProfiles": 0,
        "buckets": 1,
        "segments": 0,
        "graphIdentities": 0,
    }


def test_load_takes_an_identity_graph_alone_and_show_tells_its_size(
    run: Any, tmp_path: Path
) -> None:
    records = [fragment(None, identityMap=identity_map(one)) for one in ("A:1", "A:2", "A:3")]
    run("profiles", "load", write_lines(tmp_path / "f.ndjson", records))
    one, two = (
        write_lines(tmp_path / f"{number}.ndjson", belongs("p", f"A:{number}")) for number in (1, 2)
    )
    status, printed, _ = run("profiles", "load", "--graph", one, "--graph", two)
    assert status == 0
    assert "2 rows of the identity graph accepted" in printed
    assert "2 persons of the snapshot before have another key now" in " ".join(printed.split())
    assert ": 2 persons from 3 fragments" in printed
    assert "identity graph: 2 identities" in run("profiles", "show")[1]
    assert orjson.loads(run("profiles", "show", "--format", "json")[1])["graphIdentities"] == 2
    _, printed, _ = run("profiles", "load", "--graph", one, "--format", "json")
    report = orjson.loads(printed)
    assert (report["graph"], report["moved"], report["read"]) == (1, 0, 1)


def test_a_contradiction_in_the_graph_is_an_error_and_status_2(run: Any, tmp_path: Path) -> None:
    rows = [*belongs("p", "A:1"), *belongs("q", "A:1")]
    file = write_lines(tmp_path / "graph.ndjson", rows)
    status, _, printed = run("profiles", "load", "--graph", file)
    assert status == 2
    assert "[profiles.graph] an identity belongs to one person" in " ".join(printed.split())


def test_load_adds_to_the_newest_snapshot_unless_it_starts_afresh(run: Any, tmp_path: Path) -> None:
    def persons(*arguments: str | Path) -> int:
        status, printed, _ = run("profiles", "load", *arguments, "--format", "json")
        assert status == 0
        return int(orjson.loads(printed)["persons"])

    one = write_lines(tmp_path / "1.ndjson", [fragment("p1")])
    two = write_lines(tmp_path / "2.ndjson", [fragment("p2")])
    assert [persons(one), persons(two), persons(two, "--fresh"), persons(one, two)] == [1, 2, 1, 2]


def test_load_finds_the_update_time_where_it_is_told_to(run: Any, tmp_path: Path) -> None:
    document = {"personID": "p", "meta": {"seen": "2026-01-01T00:00:00Z"}}
    file = write_lines(tmp_path / "f.ndjson", [document])
    assert run("profiles", "load", file)[0] == 1
    assert run("profiles", "load", file, "--updated-at", "meta.seen")[0] == 0


def test_load_ends_with_status_1_when_everything_is_refused(run: Any, tmp_path: Path) -> None:
    status, printed, _ = run("profiles", "load", write_lines(tmp_path / "f.ndjson", ["bad"]))
    assert status == 1
    assert "nothing was accepted" in printed


def test_load_of_an_empty_file_is_no_failure(run: Any, tmp_path: Path) -> None:
    assert run("profiles", "load", write_lines(tmp_path / "f.ndjson", []))[0] == 0


def test_load_of_a_missing_file_is_one_line_that_names_it_and_status_2(run: Any) -> None:
    status, _, printed = run("profiles", "load", "missing.ndjson")
    assert status == 2
    assert "[profiles.unreadable] missing.ndjson cannot be read" in printed


def test_sample_and_show_tell_the_same_snapshot(run: Any) -> None:
    status, printed, _ = run("profiles", "sample", "--profiles", "5000", "--format", "json")
    sample = orjson.loads(printed)
    assert (status, sample["persons"], sample["segments"]) == (0, 5_000, 200)
    status, printed, _ = run("profiles", "show", "--format", "json")
    shown = orjson.loads(printed)
    assert status == 0
    assert (shown["snapshot"], shown["persons"]) == (sample["snapshot"], 5_000)
    assert len(shown["segments"]) == 200
    assert {"path": "loyalty.points", "type": "BIGINT"} in shown["attributes"]


def test_show_is_readable(run: Any) -> None:
    run("profiles", "sample", "-n", "500")
    _, printed, _ = run("profiles", "show")
    assert "500 persons" in printed
    assert "namespaces: CRMID, ECID, Email, Phone" in printed
    assert any(line.split()[:2] == ["ups", "loyalty-gold"] for line in printed.splitlines())
    assert any(line.split() == ["loyalty.tier", "VARCHAR"] for line in printed.splitlines())


def test_show_without_a_store_says_how_to_make_one(run: Any) -> None:
    status, _, printed = run("profiles", "show", "--store", "nowhere")
    assert status == 2
    assert "segexport profiles load" in " ".join(printed.split())
