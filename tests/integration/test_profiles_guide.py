"""What docs/profiles.md says about loading is so."""

import re
from pathlib import Path

import orjson
import pytest

from segexport.jobs.values import MAX_NAME
from segexport.profiles.attributes import MAX_NAMES
from segexport.profiles.builder import FRAGMENTS_PER_BUCKET
from segexport.profiles.fragments import RESERVED, STATUSES, UPDATE_TIMES
from segexport.profiles.graph import MAX_PERSON
from segexport.profiles.loading import load
from segexport.profiles.refusals import EXPLANATIONS
from segexport.profiles.rules import MAX_ID, MAX_RECORD
from support.fragments import NOW, RESOURCES, contents, snapshot_of

PAGE = (Path(__file__).parents[2] / "docs" / "profiles.md").read_text()


def test_the_example_loads_and_makes_the_person_that_the_page_describes(tmp_path: Path) -> None:
    example = re.search(r"<!-- example:begin -->\n```json\n(.*?)```", PAGE, re.DOTALL)
    assert example is not None
    file = tmp_path / "example.json"
    file.write_text(example[1])
    report = load(tmp_path / "profiles", [file], now=NOW, resources=RESOURCES)
    assert (report.accepted, report.refused) == (2, {})
    snapshot = snapshot_of(report)
    held = contents(snapshot)
    ((_, key, identities, test_profile, _),) = held.persons
    assert key == "CRMID:C-1001"
    assert sorted(identities) == ["CRMID", "ECID", "Email"]
    assert test_profile is False
    assert {row[2]: row[3] for row in held.memberships} == {
        "loyalty-gold": "realized",
        "newsletter": "exited",
    }
    columns = [attribute.path for attribute in snapshot.attributes]
    tier, points = columns.index("loyalty.tier"), columns.index("loyalty.points")
    by_rank = sorted(row[1:2] + row[3:] for row in held.fragments)
    assert [(row[1 + tier], row[1 + points]) for row in by_rank] == [
        ("silver", 180),
        ("gold", None),
    ]


def test_the_graph_of_the_page_gives_the_person_of_the_page_its_key(tmp_path: Path) -> None:
    files = []
    for name in ("example", "graph"):
        found = re.search(rf"<!-- {name}:begin -->\n```json\n(.*?)```", PAGE, re.DOTALL)
        assert found is not None
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(found[1])
    report = load(tmp_path / "profiles", files[:1], graph=files[1:], now=NOW, resources=RESOURCES)
    assert (report.accepted, report.graph_rows) == (5, 3)
    assert [key for _, key, *_ in contents(snapshot_of(report)).persons] == ["ines-costa"]


def test_the_page_lists_every_reason_in_the_order_of_the_rules() -> None:
    section = PAGE.split("## What is refused")[1].split("## Snapshots")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(EXPLANATIONS)


@pytest.mark.parametrize("path", UPDATE_TIMES)
def test_the_page_names_where_update_times_are_looked_for(path: str) -> None:
    assert f"`{path}`" in PAGE


def test_the_page_states_the_limits_of_the_code() -> None:
    assert (MAX_ID, MAX_NAME, MAX_NAMES, MAX_RECORD) == (256, 128, 256, 16 * 2**20)
    assert f"1 to {MAX_PERSON} characters" in PAGE
    assert round(FRAGMENTS_PER_BUCKET, -3) == 131_000
    assert all(f"`{name}`" in PAGE for name in (*RESERVED, *STATUSES))


def test_a_reject_has_the_members_that_the_page_promises(tmp_path: Path) -> None:
    file = tmp_path / "bad.ndjson"
    file.write_text("bad\n")
    report = load(tmp_path / "profiles", [file], now=NOW, resources=RESOURCES)
    assert report.rejects is not None
    assert report.rejects.parent == tmp_path / "profiles" / "rejects"
    assert list(orjson.loads(report.rejects.read_bytes())) == [
        *("source", "record", "reason", "explanation", "raw")
    ]
