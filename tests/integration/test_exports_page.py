"""What docs/exports.md shows is run as it stands there."""

import json
import re
from pathlib import Path

import duckdb
import pytest

from segexport.jobs.request import parse_request
from support.people import Person, write_snapshot
from support.workplace import Workplace, request_for

PAGE = Path(__file__).parents[2] / "docs" / "exports.md"
GOLD = ("ups", "gold")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_request_on_the_page_has_every_word() -> None:
    (shown,) = blocks("json")
    assert parse_request(shown).document() == json.loads(shown)


async def test_the_code_on_the_page_reads_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / ".segexport"
    data.mkdir()
    place = await Workplace.open(data)
    people = [Person(number, memberships={GOLD: "realized"}) for number in range(1, 8)]
    write_snapshot(place.settings.profiles_folder, people)
    async with place.working():
        await place.ended(await place.submit(request_for(GOLD)))
    await place.store.close()
    (place.settings.datasets_folder / "acme").rename(place.settings.datasets_folder / "local")
    monkeypatch.chdir(tmp_path)
    (python,) = blocks("python")
    exec(compile(python, str(PAGE), "exec"), {})
    (sql,) = blocks("sql")
    with duckdb.connect() as database:
        assert database.execute(sql).fetchall() == [(7,)]
