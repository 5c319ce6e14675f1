"""Servers to measure, each in a process of its own (`apart.py`): ours, and its peers.

All of HTTP is served by segexport's own server: uvicorn with the same settings for every side.

- `ours`: the HTTP interfaces over a store. Neither a worker nor a relay runs: what they do is
  measured elsewhere, and would take its share of the machine from requests.
- `bare`: the plainest FastAPI that keeps what it is sent: one connection to SQLite (WAL,
  synchronous=FULL), one INSERT and so one flush a request, one SELECT to read it.
- `fixed`: a loop that answers whatever comes with the same bytes and reads nothing of it: as
  fast as callers can be here.
"""

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, redirect_stderr
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException
from starlette.types import ASGIApp

from apart import peak
from segexport.http.app import Door, create_app
from segexport.http.health import Health
from segexport.http.interfaces import settled
from segexport.http.keys import KeyFile, MasterKey
from segexport.http.server import listening
from segexport.http.tail import Tail
from segexport.profiles.snapshots import ProfileStore
from segexport.relay.relay import RelayHealth
from segexport.service import commands_of, open_store
from segexport.settings import Settings
from segexport.supervision import Supervisor
from segexport.telemetry import configure_logging

JOBS = "/data/core/ups/export/jobs"
NO_LIMITS: Mapping[str, Any] = {"port": 0, "rate": 1e9, "burst": 10**9}
"""Settings of the interfaces: a free port, and a rate that nobody reaches."""

_NOBODY = RelayHealth(
    leads=True, error=None, error_code=None, delivered=0, waiting=0, parked=0, transactions=0
)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used so far: seconds of its processors; at most, bytes resident."""

    processor: float
    peak: int


@dataclass(frozen=True, slots=True)
class Served:
    """A server at `address`, and the headers with which it may be asked."""

    address: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def where(self) -> tuple[str, Mapping[str, str]]:
        """The address and the headers."""
        return self.address, self.headers

    def usage(self) -> Usage:
        """That of this process, all threads."""
        return Usage(time.process_time(), peak())


@asynccontextmanager
async def ours(settings: Settings, key: bool) -> AsyncIterator[Served]:
    """The interfaces; with `key` only whoever has a token may ask, else all on this machine.

    The log is written as a service writes it, to a file.
    """
    with (settings.data / "log").open("a") as lines:
        with redirect_stderr(lines):
            configure_logging(style="json", level=settings.log_level)
        issued = _new_key(settings) if key else None
        async with open_store(settings) as store:
            door = Door.of(settings)
            tail = Tail(store, door.cursors)
            supervisor = Supervisor()
            health = Health(supervisor, store, ProfileStore(settings.profiles_folder), _relay)
            app = create_app(settings, commands_of(settings, store), door, tail, health)
            following = supervisor.start("event streams", tail.run())
            with settled():
                async with listening(app, settings.http) as address:
                    yield Served(address, _shown(door, issued, settings) if issued else {})
                    supervisor.stop()
                    await tail.close()
            await following
            supervisor.require_sound()


@asynccontextmanager
async def bare(settings: Settings, threads: bool) -> AsyncIterator[Served]:
    """FastAPI and SQLite; the endpoints run on the event loop, or with `threads` beside it."""
    configure_logging(level="warning")
    app = _in_threads(settings.data) if threads else _on_the_loop(settings.data)
    async with listening(app, settings.http) as address:
        yield Served(address)


@asynccontextmanager
async def fixed(body: bytes) -> AsyncIterator[Served]:
    """The same answer to everything that arrives."""
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    server = await asyncio.get_running_loop().create_server(
        lambda: _Answering(answer), "127.0.0.1", 0
    )
    async with server:
        yield Served(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")


class _Answering(asyncio.Protocol):
    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:  # noqa: ARG002  (asyncio's signature)
        self._transport.write(self._answer)


def _opened(folder: Path) -> sqlite3.Connection:
    database = sqlite3.connect(
        folder / "bare.sqlite", isolation_level=None, check_same_thread=False
    )
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, document TEXT NOT NULL)")
    return database


def _inserted(database: sqlite3.Connection, document: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(document)
    stored = database.execute("INSERT INTO jobs (document) VALUES (?)", (text,))
    return {"id": stored.lastrowid, **document}


def _selected(database: sqlite3.Connection, job_id: int) -> dict[str, Any]:
    found = database.execute("SELECT document FROM jobs WHERE id = ?", (job_id,)).fetchone()
    if found is None:
        raise HTTPException(404)
    return {"id": job_id, **json.loads(found[0])}


def _on_the_loop(folder: Path) -> ASGIApp:
    """Nothing waits for a lock, and nothing else happens while the disk is waited for."""
    app, database = FastAPI(), _opened(folder)

    @app.post(JOBS)
    async def create(document: dict[str, Any]) -> dict[str, Any]:
        return _inserted(database, document)

    @app.get(JOBS + "/{job_id}")
    async def get(job_id: int) -> dict[str, Any]:
        return _selected(database, job_id)

    return app


def _in_threads(folder: Path) -> ASGIApp:
    """FastAPI's threads, and a lock around the connection."""
    app, database, lock = FastAPI(), _opened(folder), threading.Lock()

    @app.post(JOBS)
    def create(document: dict[str, Any]) -> dict[str, Any]:
        with lock:
            return _inserted(database, document)

    @app.get(JOBS + "/{job_id}")
    def get(job_id: int) -> dict[str, Any]:
        with lock:
            return _selected(database, job_id)

    return app


async def _relay() -> RelayHealth:
    return _NOBODY


def _new_key(settings: Settings) -> Any:
    return (
        KeyFile(settings.keys_file)
        .create(
            MasterKey.of(settings),
            "benchmark",
            organization=settings.organization,
            sandboxes=(),
            now=datetime.now(UTC),
        )
        .key
    )


def _shown(door: Door, key: Any, settings: Settings) -> Mapping[str, str]:
    token, _ = door.tokens.issue(key, datetime.now(UTC))
    return {
        "Authorization": f"Bearer {token}",
        "x-api-key": key.client_id,
        "x-gw-ims-org-id": settings.organization,
        "x-sandbox-name": settings.sandbox,
    }
