"""Each thread and task of the service that meets an error nobody foresaw ends it, and says why."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from segexport import service
from segexport.errors import PartFailed
from segexport.exports import worker
from segexport.http.interfaces import ADDRESS
from segexport.http.server import _Server
from segexport.http.tail import Tail
from segexport.relay.schedule import Schedule
from segexport.settings import Settings
from segexport.store.sqlite import file, outbox
from segexport.store.sqlite.writer import Writer
from support.interfaces import BODY, JOBS, http_settings
from support.waiting import until

Broken = Callable[..., Any]


class Injected:
    """An error that is injected into a part once the service is up."""

    def __init__(self) -> None:
        self.is_due = False

    def at(self, function: Broken) -> Broken:
        """As `function`, until the error is due; if that is to be awaited, awaiting raises."""

        def broken(*arguments: Any, **named: Any) -> Any:
            if self.is_due:
                raise ZeroDivisionError("injected")
            return function(*arguments, **named)

        return broken


@pytest.fixture
def error() -> Injected:
    return Injected()


async def failure_of(
    tmp_path: Path, people: Path, error: Injected, *, listening: bool = False
) -> PartFailed:
    """What the service ends with after the error; jobs are submitted until it does."""
    settings = Settings(data=tmp_path, profiles=people, http=http_settings())
    serving = asyncio.create_task(service.serve(settings, asyncio.Event()))
    told = tmp_path / ADDRESS

    async def is_up() -> bool:
        return told.exists() and bool(told.read_text())

    await until(is_up, 20, "the service listens")
    address = told.read_text()
    async with httpx.AsyncClient(base_url=address, timeout=20) as client:
        stream = client.stream("GET", "/events/stream") if listening else None
        if stream is not None:
            await stream.__aenter__()
        error.is_due = True

        async def has_ended() -> bool:
            if not serving.done():
                with suppress(httpx.TransportError):  # it does not listen any more
                    await client.post(JOBS, json=BODY)
            return serving.done()

        # No caller waits for ever, and no part keeps the others from ending.
        await until(has_ended, 40, "the service has ended")
        if stream is not None:
            await stream.__aexit__(None, None, None)
    failure = serving.exception()
    assert isinstance(failure, PartFailed), failure
    assert "injected" in str(failure)
    return failure


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "BETWEEN_SWEEPS", worker.BETWEEN_SWEEPS / 6_000)


PARTS: list[tuple[str, object, str]] = [
    ("store", file, "log_size"),
    ("store", Writer, "_run_one"),
    ("store", Writer, "_deliver"),
    ("worker", worker.Worker, "_claim"),
    ("worker", worker, "sweep_staging"),
    ("relay", Schedule, "fill"),
    ("HTTP", _Server, "on_tick"),
    ("event streams", Tail, "_take"),
]


@pytest.mark.parametrize("place", PARTS, ids=[f"{one[0]} {one[2]}" for one in PARTS])
async def test_a_part_that_fails_ends_the_service_with_its_reason(
    tmp_path: Path,
    people: Path,
    error: Injected,
    monkeypatch: pytest.MonkeyPatch,
    place: tuple[str, object, str],
) -> None:
    part, owner, name = place
    monkeypatch.setattr(owner, name, error.at(getattr(owner, name)))
    failure = await failure_of(tmp_path, people, error, listening=part == "event streams")
    assert failure.part == part


async def test_a_read_that_fails_is_the_failure_of_whoever_cannot_do_without_it(
    tmp_path: Path, people: Path, error: Injected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "rows_after", error.at(outbox.rows_after))
    assert (await failure_of(tmp_path, people, error)).part == "relay"


async def test_trouble_with_the_disk_is_waited_out(
    tmp_path: Path, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each part of the store that asks the system: nothing ends, and all of it heals."""
    trouble: list[str] = []

    def troubled(name: str, function: Broken) -> Broken:
        def asked(*arguments: Any, **named: Any) -> Any:
            if name in trouble:
                raise PermissionError(13, "Permission denied")
            return function(*arguments, **named)

        return asked

    monkeypatch.setattr(file, "log_size", troubled("log", file.log_size))
    monkeypatch.setattr(sqlite3, "connect", troubled("connect", sqlite3.connect))
    monkeypatch.setattr(Writer, "_begin", troubled("begin", Writer._begin))
    settings = Settings(data=tmp_path, profiles=people, http=http_settings())
    async with service.running(settings, http=True) as parts:
        address = (tmp_path / ADDRESS).read_text()
        async with httpx.AsyncClient(base_url=address, timeout=20) as client:
            for where, status in (("log", 200), ("connect", None), ("begin", 503)):
                trouble.append(where)
                answer = await client.post(JOBS, json=BODY)
                assert answer.status_code == (status or answer.status_code), where
                trouble.clear()
                assert (await client.post(JOBS, json=BODY)).status_code == 200, where
        assert parts.supervisor.failure is None
