"""docs/http.md and the README take clients of the two interfaces by the hand: so it works.

All that they show is run as it stands there, in order, against `segexport serve`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from segexport.exports.dataset import Datasets
from segexport.http.experience_platform_api import CANCELLING, ENDED
from segexport.jobs.job import Scope
from support.command_line import Segexport
from support.must_run import missing
from support.waiting import wait_until

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "http.md").read_text()
README = (ROOT / "README.md").read_text()
SHOWN = "http://127.0.0.1:8080"
"""Where the pages say that the service listens; here it is a free port."""
DATASET = "5b7c86968f7b6501e21ba9df"


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def part(text: str, title: str) -> str:
    """A section of a page, with those below it."""
    level, _, _ = title.partition(" ")
    rest = text.split(f"\n{title}\n")[1]
    return re.split(rf"\n#{{2,{len(level)}}} ", rest)[0]


@pytest.fixture
def walk(tmp_path: Path) -> Segexport:
    """An empty folder, where `segexport` and `python3` are those of the tests."""
    if shutil.which("curl") is None:
        missing("curl is not installed, which the guide's examples are written for")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, command in (("segexport", "-m segexport"), ("python3", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
        program.chmod(0o755)
    folder = tmp_path / "walk"
    folder.mkdir()
    return Segexport(folder, PATH=f"{programs}:{os.environ['PATH']}")


def run(walk: Segexport, *scripts: str) -> list[str]:
    """What each of some scripts prints; what one of them sets, the next ones know."""
    mark = "-- the next --"
    whole = f"\necho '{mark}'\n".join(scripts)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", whole],
        capture_output=True,
        text=True,
        timeout=90,
        cwd=walk.folder,
        env=walk.environment,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout.split(f"{mark}\n")


def here(walk: Segexport, snippet: str) -> str:
    """A snippet for the address of this test's service."""
    assert SHOWN in snippet
    return snippet.replace(SHOWN, walk.address)


def set_up(walk: Segexport) -> None:
    """What the guide does before the service starts."""
    section = part(GUIDE, "### Before")
    (settings,) = blocks("toml", section)
    (walk.folder / "segexport.toml").write_text(settings)
    preparing, serve = blocks("sh", section)
    assert serve == "segexport serve\n"
    run(walk, preparing)


def run_python(walk: Segexport, snippets: list[str]) -> list[list[str]]:
    """The lines that each of some snippets prints; what one sets, the next ones know."""
    file = walk.folder / "snippets.py"
    mark = "-- the next snippet --"
    file.write_text(f"\nprint('{mark}')\n".join(snippets))
    (printed,) = run(walk, f"python3 {file.name}")
    return [lines.splitlines() for lines in printed.split(f"{mark}\n")]


def rows(walk: Segexport, dataset: str) -> list[int]:
    """The rows of each batch of a dataset."""
    datasets = Datasets(walk.folder / ".segexport" / "datasets")
    found = datasets.dataset(Scope("acme", "prod"), dataset).batches()
    return [batch.manifest.counts.realized for batch in found]


def test_the_guide_leads_from_an_empty_folder_to_exports_by_curl_and_boto3(
    walk: Segexport,
) -> None:
    set_up(walk)
    with walk.serving():
        address = walk.address

        create, follow, show = blocks("sh", part(GUIDE, "### Without keys"))
        created, ended, shown = run(walk, here(walk, create), here(walk, follow), show)
        assert json.loads(created)["status"] == "NEW"
        assert '"SUCCEEDED"' in ended
        assert rows(walk, DATASET) == [1]
        assert str(json.loads(created)["id"]) in shown

        making, listing, another, cancelling = blocks("sh", part(GUIDE, "### With keys"))
        run(walk, making)
        anonymous = f"curl -s {address}/data/core/ups/export/jobs"
        wait_until(lambda: "403010" in run(walk, anonymous)[0], 10, "the door is closed")
        calls = [here(walk, call) for call in (listing, another, cancelling)]
        page, job, cancelled = map(json.loads, run(walk, *calls))
        assert [one["destination"]["datasetId"] for one in page["records"]] == [DATASET]
        assert job["destination"]["datasetId"] == "everybody"
        assert job["requestId"] == "nightly-2026-03-01"
        # As it happens, the job is being published by then.
        assert cancelled.get("message") in {CANCELLING, ENDED} or "409" in cancelled["errors"]

        first, *others = blocks("python", part(GUIDE, "### With boto3"))
        snippets = [here(walk, first), *others, "print(len(jobs), jobs[0]['Id'] == job['Id'])"]
        done, endpoint, _, caught, paged = run_python(walk, snippets)
        assert done == ["COMPLETED 1"]
        assert endpoint == ["EMAIL ines@example.com"]
        assert len(caught) == 2
        assert "s3://elsewhere/" in caught[1]
        assert paged == ["3 True"]


def test_both_interfaces_are_described_where_the_guide_says(walk: Segexport) -> None:
    addresses = ("/data/core/ups/openapi.json", "/v1/openapi.json")
    with walk.serving():
        for address in addresses:
            assert f"`{address}`" in GUIDE
            (answer,) = run(walk, f"curl -s {walk.address}{address}")
            assert json.loads(answer)["openapi"].startswith("3.")


def test_the_example_of_the_live_stream_begins_as_the_guide_shows(walk: Segexport) -> None:
    (example,) = blocks("sh", part(GUIDE, "## Live stream"))
    (promised,) = blocks("text", part(GUIDE, "## Live stream"))
    known = "ACCESS_TOKEN=any; API_KEY=any\n"
    with walk.serving():
        patient = here(walk, example).replace("curl", "curl -s --max-time 3").rstrip()
        (printed,) = run(walk, f"{known}{patient} || true")
    assert names(printed) == names(promised)[:4]


def names(stream: str) -> list[str]:
    """The fields of a stream's messages, and what its events are called."""
    lines = [line for line in stream.splitlines() if line]
    return [line if line.startswith("event") else line.partition(":")[0] for line in lines]


def test_the_readme_points_clients_here(walk: Segexport) -> None:
    section = part(README, "### Point your client here")
    (settings,) = blocks("toml", section)
    (walk.folder / "segexport.toml").write_text(settings)
    run(walk, "segexport profiles sample --profiles 1000")
    (call,), (snippet,) = blocks("sh", section), blocks("python", section)
    with walk.serving():
        (answer,) = run(walk, here(walk, call))
        assert json.loads(answer)["status"] == "NEW"
        told = "print(job['JobStatus'], job['Definition']['S3UrlPrefix'])"
        assert run_python(walk, [here(walk, snippet), told])[1] == ["CREATED s3://exports/march/"]
