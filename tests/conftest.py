"""Fixtures for all tests."""

import logging
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from segexport.store.sqlite import SqliteStore
from segexport.telemetry import OF_STRANGERS, Seldom

pytest_plugins = [
    "support.kafka.fixtures",
    "support.s3",
    "support.spark",
    "support.interfaces",
]


_GZIP = b"\x1f\x8b"


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name what is gzipped without its bytes: the time is in them, and in no name of a test.

    Processes that share the tests collect them at different times, and have to agree on them.
    """
    return argname if isinstance(val, bytes) and val.startswith(_GZIP) else None


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """An empty store in `jobs.sqlite` of the test's folder."""
    opened = await SqliteStore.open(tmp_path / "jobs.sqlite")
    yield opened
    await opened.close()


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A command that a test runs in this process sets the logs up; the next test starts anew."""
    yield
    if not structlog.is_configured():
        return
    structlog.reset_defaults()
    for name, module in list(sys.modules.items()):
        log = getattr(module, "log", None) if name.startswith("segexport") else None
        if hasattr(log, "bind"):
            # A logger keeps the set-up in which it was first used.
            vars(log).pop("bind", None)
    for name in OF_STRANGERS:
        logger = logging.getLogger(name)
        logger.filters = [one for one in logger.filters if not isinstance(one, Seldom)]
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(handler)
