"""Fixtures for all tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from segexport.store.sqlite import SqliteStore

pytest_plugins = [
    "support.kafka.fixtures",
    "support.s3",
    "support.spark",
    "support.interfaces",
]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """An empty store in `jobs.sqlite` of the test's folder."""
    opened = await SqliteStore.open(tmp_path / "jobs.sqlite")
    yield opened
    await opened.close()
