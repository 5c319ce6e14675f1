"""The live stream behind a real server on a free port, and readers of it."""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self

import orjson
import uvicorn
from starlette.requests import Request
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from segexport.commands import Checked, Commands
from segexport.events.announcement import Voice
from segexport.http.connection import Connection
from segexport.http.cursor import Cursor, Cursors
from segexport.http.live import EventStream, StreamLimits
from segexport.http.tail import CAPACITY, Tail
from segexport.jobs.job import Scope
from segexport.jobs.reading import parse_request
from segexport.store.sqlite import SqliteStore
from segexport.supervision import Supervisor
from support.waiting import until

ACME = Scope("acme", "prod")
CURSORS = Cursors(b"k" * 32)
LIMITS = StreamLimits(backlog=10_000, patience=timedelta(seconds=10))
_SMALL = 4096
"""Bytes of a socket's buffers, so that a reader who stops reading is noticed soon."""
_WANTED = parse_request(
    {"destination": {"datasetId": "d"}, "filter": {"segments": [{"segmentId": "gold"}]}}
)


def commands_over(store: SqliteStore) -> Commands:
    """Commands that accept everything; jobs have the ids 1, 2, 3 and so on."""
    ids = itertools.count(1)
    identity = store.identity
    return Commands(
        store=store,
        voice=Voice.of(identity.id, identity.generation, dialect="xdm", form="uri"),
        check=lambda _, request: Checked(request),
        deadline=timedelta(hours=1),
        new_job_id=lambda: next(ids),
    )


async def queue(commands: Commands, jobs: int, scope: Scope = ACME) -> None:
    """Submit so many jobs, of which each says `queued`."""
    await asyncio.gather(*(commands.submit(scope, _WANTED) for _ in range(jobs)))


def at(number: int, generation: int = 1) -> str:
    """The cursor behind an event."""
    return CURSORS.text(Cursor(generation, number))


def opened(text: str) -> Cursor:
    """What a cursor says."""
    cursor = CURSORS.read(text)
    assert cursor is not None, text
    return cursor


@dataclass(frozen=True)
class Told:
    """A message as its reader understands it: the id is the last one that was sent."""

    event: str
    id: str
    text: str

    @property
    def data(self) -> Mapping[str, Any]:
        """The document."""
        found: Mapping[str, Any] = orjson.loads(self.text)
        return found

    @property
    def number(self) -> int:
        """The number in the id."""
        return opened(self.id).number


@dataclass
class Listener:
    """A reader, which follows the rules of the HTML standard."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    headers: Sequence[str] = ()
    last_id: str = ""
    comments: int = 0
    retry: int | None = None

    @classmethod
    async def connect(
        cls, port: int, scope: Scope, last_event_id: str | None, *, lazy: bool
    ) -> Self:
        """Ask for the stream. One that is `lazy` takes nothing in before it reads."""
        plug = socket.socket()
        if lazy:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL)
        plug.setblocking(False)
        await asyncio.get_running_loop().sock_connect(plug, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=plug, limit=_SMALL if lazy else 65536)
        # HTTP/1.0, so that the body comes as it is and ends with the connection.
        head = [f"GET /{scope.organization}/{scope.sandbox} HTTP/1.0"]
        if last_event_id is not None:
            head.append(f"Last-Event-ID: {last_event_id}")
        writer.write("\r\n".join([*head, "", ""]).encode())
        return cls(reader, writer, last_id=last_event_id or "")

    async def next(self) -> Told | None:
        """The next message; None when the stream has ended, or was cut off."""
        event, data = "message", ""
        async for name, value in self._fields():
            match name:
                case "":
                    self.comments += 1
                case "retry":
                    self.retry = int(value)
                case "id":
                    self.last_id = value
                case "event":
                    event = value
                case "data":
                    data = value
                case "dispatch" if data:
                    return Told(event, self.last_id, data)
        return None

    async def take(self, messages: int) -> list[Told]:
        """So many messages, which must come."""
        found = [await asyncio.wait_for(self.next(), 30) for _ in range(messages)]
        assert None not in found
        return [told for told in found if told is not None]

    async def rest(self) -> list[Told]:
        """All messages until the end of the stream."""
        found: list[Told] = []
        while (told := await self.next()) is not None:
            found.append(told)
        return found

    async def close(self) -> None:
        """Go away."""
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()

    async def _fields(self) -> AsyncIterator[tuple[str, str]]:
        try:
            while not self.headers:
                head = await self.reader.readuntil(b"\r\n\r\n")
                self.headers = head.decode().lower().split("\r\n")
            while line := await self.reader.readline():
                name, _, value = line.decode(errors="replace").rstrip("\n").partition(":")
                yield ("dispatch", "") if line == b"\n" else (name, value.removeprefix(" "))
        except (OSError, asyncio.IncompleteReadError):
            return


@dataclass
class Service:
    """A server of nothing but streams: `GET /organization/sandbox`."""

    tail: Tail
    limits: StreamLimits
    following: asyncio.Task[None]
    port: int = 0
    allowed: bool = True
    listeners: list[Listener] = field(default_factory=list)
    server: uvicorn.Server = field(init=False)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        _, organization, sandbox = request.url.path.split("/")
        stream = EventStream(
            self.tail,
            Scope(organization, sandbox),
            last_event_id=request.headers.get("last-event-id"),
            still_allowed=lambda: self.allowed,
            limits=self.limits,
        )
        await stream(scope, receive, send)

    async def connect(
        self, scope: Scope = ACME, last_event_id: str | None = None, *, lazy: bool = False
    ) -> Listener:
        """A reader that has asked for a stream."""
        listener = await Listener.connect(self.port, scope, last_event_id, lazy=lazy)
        self.listeners.append(listener)
        return listener

    async def listen(
        self, scope: Scope = ACME, last_event_id: str | None = None, *, lazy: bool = False
    ) -> Listener:
        """A reader whose stream has begun."""
        listener = await self.connect(scope, last_event_id, lazy=lazy)
        (first,) = await listener.take(1)
        assert first.event == "ready"
        return listener

    async def has_streams(self, streams: int) -> None:
        """Wait until so many connections are open."""

        async def are_open() -> bool:
            return len(self.server.server_state.connections) == streams

        await until(are_open, 20, f"{streams} connections are open")


@asynccontextmanager
async def serving(
    outbox: Any, *, limits: StreamLimits = LIMITS, capacity: int = CAPACITY
) -> AsyncIterator[Service]:
    """A service over an outbox, which has stopped when the block ends."""
    tail = Tail(outbox, CURSORS, capacity=capacity)
    service = Service(tail, limits, Supervisor().start("event streams", tail.run()))
    service.server = uvicorn.Server(
        uvicorn.Config(service, http=Connection, lifespan="off", log_config=None, access_log=False)
    )
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as plug:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SMALL)
        service.port = plug.getsockname()[1]
        running = asyncio.create_task(service.server.serve(sockets=[plug]))

        async def has_started() -> bool:
            return service.server.started

        await until(has_started, 20, "the server listens")
        try:
            yield service
        finally:
            await tail.close()
            service.server.should_exit = True
            await running
            for listener in service.listeners:
                await listener.close()
    await asyncio.wait({service.following})
