"""The store's contract, on SQLite."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contract.store_contract import StoreContract
from support.sqlite_database import SqliteDatabase


class TestSqliteStore(StoreContract):
    """All of it, on one file."""

    @pytest.fixture
    async def database(self, tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
        database = SqliteDatabase(tmp_path / "jobs.sqlite")
        yield database
        await database.close()
