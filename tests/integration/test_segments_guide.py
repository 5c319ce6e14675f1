"""What docs/segments.md says is so."""

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest

from segexport.cli import main
from segexport.jobs.reading import parse_request
from segexport.profiles.catalogue import BUILT_IN, Merging, open_catalogue
from segexport.profiles.predicate import MAX_DEPTH, MAX_LENGTH
from segexport.profiles.snapshots import Attribute, ProfileStore
from segexport.sql import parquet
from support.people import Person, write_snapshot

PAGE = (Path(__file__).parents[2] / "docs" / "segments.md").read_text()
TYPES = {bool: "BOOLEAN", int: "BIGINT", float: "DOUBLE", str: "VARCHAR", list: "VARCHAR[]"}


def between(marker: str) -> str:
    return PAGE.split(f"<!-- {marker}:begin -->")[1].split(f"<!-- {marker}:end -->")[0]


def block(marker: str) -> Any:
    return orjson.loads(between(marker).replace("```json", "").replace("```", ""))


def leaves(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


PROFILE = dict(leaves(block("profile")))
ATTRIBUTES = [Attribute(path, TYPES[type(value)]) for path, value in PROFILE.items()]
EXAMPLES = [
    example.replace("\\|", "|")
    for example in re.findall(r"^\|.*\| `([^`]+)` \|$", between("predicates"), re.MULTILINE)
]
COMMANDS = [
    shlex.split(line)
    for shell in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in shell.splitlines()
]


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with the page's profile and one of whom nothing is known."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ".segexport" / "profiles"
    write_snapshot(folder, [Person(1, [PROFILE]), Person(2)], attributes=ATTRIBUTES)
    return folder


def run(*arguments: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [*arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)


def test_the_page_has_an_example_of_every_part() -> None:
    rows = [line for line in between("predicates").splitlines() if line.startswith("|")]
    assert len(EXAMPLES) == len(rows) - 2 > 15


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_true_of_the_page_s_profile(profiles: Path, example: str) -> None:
    assert run("segexport", "segments", "define", "example", "--where", example) == 0
    assert run("segexport", "segments", "evaluate") == 0
    snapshot = ProfileStore(profiles).latest()
    files = [snapshot.memberships_file(bucket) for bucket in range(snapshot.buckets)]
    with duckdb.connect() as database:
        rows = database.execute(f"SELECT person_id FROM {parquet(files)} ORDER BY 1").fetchall()
    assert (1,) in rows


def test_the_commands_of_the_page_do_what_it_says(profiles: Path) -> None:
    assert len(COMMANDS) == 7
    for command in COMMANDS:
        assert run(*command) == 0, command
    catalogue = open_catalogue(profiles)
    assert [one.segment for one in catalogue.segments] == ["loyalty-gold", "vip"]
    assert catalogue.definition("ups", "vip").policy == "crm-first"
    (size,) = ProfileStore(profiles).latest().segments
    assert (size.segment, size.realized) == ("loyalty-gold", 1)


def test_the_request_of_the_page_asks_for_segmentation() -> None:
    assert parse_request(block("request")).evaluation_info.segmentation


def test_the_unknown_is_not_in_the_segment_as_the_page_says(profiles: Path) -> None:
    for segment, predicate in [
        ("other", "loyalty.tier <> 'gold'"),
        ("missing", "loyalty.tier <> 'gold' OR loyalty.tier IS NULL"),
    ]:
        run("segexport", "segments", "define", segment, "--where", predicate)
    run("segexport", "segments", "evaluate")
    sizes = {one.segment: one.realized for one in ProfileStore(profiles).latest().segments}
    assert sizes == {"missing": 1, "other": 0}


def test_the_page_states_the_limits_and_names_of_the_code() -> None:
    assert f"{MAX_LENGTH:,} characters, and {MAX_DEPTH} parts" in PAGE
    for name in (*(each.id for each in BUILT_IN), *Merging):
        assert f"`{name}`" in PAGE
    for function in (
        "lower(x)",
        "upper(x)",
        "length(x)",
        "coalesce(x, y, …)",
        "contains(array, x)",
    ):
        assert f"`{function}`" in PAGE
