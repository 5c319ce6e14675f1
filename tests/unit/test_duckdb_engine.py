"""DuckDB's database: another one after a while, and never under a run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from segexport.database import open_database
from segexport.exports.engines import duckdb as duckdb_engine
from segexport.exports.engines.duckdb import DuckDBEngine
from segexport.exports.plan import ExportPlan, plan_export
from segexport.jobs.reading import parse_request
from segexport.profiles.catalogue import TIMESTAMP_ORDERED
from support.people import write_snapshot


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The databases that have been opened, in order."""
    databases: list[Any] = []

    def noted(**options: Any) -> Any:
        databases.append(open_database(**options))
        return databases[-1]

    monkeypatch.setattr(duckdb_engine, "open_database", noted)
    monkeypatch.setattr(duckdb_engine, "RUNS", 3)
    return databases


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[DuckDBEngine]:
    engine = DuckDBEngine(spill=tmp_path / "spill", threads=1, memory_limit="64MB")
    yield engine
    engine.close()


@pytest.fixture
def plan(tmp_path: Path) -> ExportPlan:
    request = parse_request(b'{"destination": {"datasetId": "d"}}')
    return plan_export(request, write_snapshot(tmp_path / "profiles", []), TIMESTAMP_ORDERED)


def test_after_many_runs_there_is_another_database_for_the_old_one_keeps_memory(
    engine: DuckDBEngine, opened: list[Any], plan: ExportPlan
) -> None:
    for _ in range(3):
        engine.begin(plan).close()
    assert len(opened) == 1
    for _ in range(6):
        engine.begin(plan).close()
    assert len(opened) == 3
    for old in opened[:-1]:
        with pytest.raises(duckdb.ConnectionException):
            old.execute("SELECT 1")
    assert opened[-1].execute("SELECT 1").fetchall() == [(1,)]


def test_a_database_stays_as_long_as_a_run_has_not_ended(
    engine: DuckDBEngine, opened: list[Any], plan: ExportPlan, tmp_path: Path
) -> None:
    long = engine.begin(plan)
    for _ in range(10):
        engine.begin(plan).close()
    assert len(opened) == 1
    written = long.run_piece(0, data=[tmp_path / "data"], discards=tmp_path / "discards")
    assert [part.selected for part in written.parts] == [0]
    long.close()
    engine.begin(plan).close()
    assert len(opened) == 2
