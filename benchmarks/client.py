"""The load: concurrent callers on connections of their own, each waiting for its answer.

Nothing but asyncio and as little HTTP as it takes, so that the callers have time to spare
where a server has none. It belongs into a process of its own (`apart.py`).

    async with apart(client) as load:
        await load.call("connect", "http://127.0.0.1:8080", 64)
        ran = await load.run("send", [request("GET", "/livez")], 10_000)
"""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Final
from urllib.parse import urlsplit

_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_NO_HEADERS: Final[Mapping[str, str]] = {}


def request(
    method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = _NO_HEADERS
) -> bytes:
    """A request as it goes out."""
    told = {"Host": "127.0.0.1", "Accept": "*/*"}
    if body:
        told |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    told |= headers
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def host_and_port(address: str) -> tuple[str, int]:
    """Where `http://host:port` is."""
    where = urlsplit(address)
    assert where.hostname
    assert where.port
    return where.hostname, where.port


class Client:
    """So many connections to one server."""

    def __init__(self) -> None:
        self._callers: Sequence[_Caller] = ()
        self._waits: list[float] = []

    async def connect(self, address: str, callers: int) -> None:
        """Open the connections, which stay open between requests."""
        loop, where = asyncio.get_running_loop(), host_and_port(address)
        connected = [await loop.create_connection(_Caller, *where) for _ in range(callers)]
        self._callers = [caller for _, caller in connected]

    async def send(self, requests: Sequence[bytes], count: int) -> int:
        """Send `count` requests, those given in turns, and have all answers.

        Raises RuntimeError for an answer that is none of 2xx.
        """
        taken = itertools.islice(itertools.cycle(requests), count)
        self._waits = []
        await asyncio.gather(*(caller.send(taken, self._waits) for caller in self._callers))
        return count

    async def ask(self, requests: Sequence[bytes]) -> Sequence[bytes]:
        """Send these one after the other; the bodies of their answers."""
        bodies = []
        for wanted in requests:
            await self._callers[0].send(iter([wanted]), [])
            bodies.append(self._callers[0].answer)
        return bodies

    def waits(self) -> Sequence[float]:
        """How long callers waited for each answer of the last `send`, in seconds."""
        return self._waits

    def leave(self) -> None:
        """Close the connections."""
        for caller in self._callers:
            caller.close()
        self._callers = ()


class _Caller(asyncio.Protocol):
    """One connection; sends the next request when the last one is answered."""

    def __init__(self) -> None:
        self.answer = b""
        self._requests: Iterator[bytes] = iter(())
        self._waits: list[float] = []
        self._received = bytearray()
        self._size: int | None = None
        self._began = 0.0
        self._done: asyncio.Future[None]
        self._transport: asyncio.Transport

    def send(self, requests: Iterator[bytes], waits: list[float]) -> "asyncio.Future[None]":
        self._requests, self._waits = requests, waits
        self._done = asyncio.get_running_loop().create_future()
        self._next()
        return self._done

    def close(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        if self._size is None:
            end = received.find(_END)
            if end < 0:
                return
            length = _LENGTH.search(received, 0, end)
            self._size = end + len(_END) + (int(length[1]) if length else 0)
        if len(received) >= self._size:
            self._answered()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(RuntimeError(f"a connection was lost: {exc}"))

    def _answered(self) -> None:
        self._waits.append(perf_counter() - self._began)
        if self._received[9:10] != b"2":
            self._done.set_exception(RuntimeError(self._received.decode(errors="replace")))
            return
        self.answer = bytes(self._received.partition(_END)[2])
        self._received.clear()
        self._size = None
        self._next()

    def _next(self) -> None:
        wanted = next(self._requests, None)
        if wanted is None:
            self._done.set_result(None)
            return
        self._began = perf_counter()
        self._transport.write(wanted)


@asynccontextmanager
async def client() -> AsyncIterator[Client]:
    """Without connections at first."""
    load = Client()
    try:
        yield load
    finally:
        load.leave()
