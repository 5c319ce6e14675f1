"""Two clients of one server, each in a process of its own (`apart.py`): one loads, one waits.

`attack` keeps so many connections busy with the same bytes, as fast as the server takes them,
until it is told to stop. `probe` meanwhile asks for `/livez` on a connection of its own.
"""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from time import perf_counter
from typing import Final

from client import host_and_port, request

EVERY: Final = 0.005
"""Seconds between two questions of the probe."""
PATIENCE: Final = 60.0
"""Seconds that an answer may take."""

_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Attack:
    """Connections that send the same bytes over and over."""

    def __init__(self) -> None:
        self._running: Sequence[asyncio.Task[None]] = ()
        self._answers = Counter[str]()

    async def start(self, address: str, sent: bytes, connections: int) -> None:
        """Begin with so many connections."""
        self._answers.clear()
        self._running = [asyncio.create_task(self._send(address, sent)) for _ in range(connections)]

    async def stop(self) -> Mapping[str, int]:
        """End; how often which status was answered, `cut` where the connection was ended."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        return dict(self._answers)

    async def _send(self, address: str, sent: bytes) -> None:
        """One connection after the other, each for one round of what is sent."""
        while True:
            reader, writer = await asyncio.open_connection(*host_and_port(address))
            try:
                writer.write(sent)
                with suppress(ConnectionError):
                    await writer.drain()
                self._answers[await _status(reader)] += 1
            finally:
                writer.transport.abort()


class Probe:
    """Asks whether the server lives."""

    async def ask(self, address: str, seconds: float) -> Sequence[float]:
        """How long each answer took, in seconds; a question is due every `EVERY` seconds.

        One that could not be asked when it was due, because another still waited, counts as
        answered with that: otherwise one long wait would hide all those behind it.
        """
        reader, writer = await asyncio.open_connection(*host_and_port(address))
        asked, waits = request("GET", "/livez"), []
        began = due = perf_counter()
        while due < began + seconds:
            await asyncio.sleep(max(0.0, due - perf_counter()))
            writer.write(asked)
            async with asyncio.timeout(PATIENCE):
                await _answer(reader)
            answered = perf_counter()
            while due < min(answered, began + seconds):
                waits.append(answered - due)
                due += EVERY
        writer.close()
        return waits


@asynccontextmanager
async def attack() -> AsyncIterator[Attack]:
    """Without connections at first."""
    load = Attack()
    try:
        yield load
    finally:
        await load.stop()


@asynccontextmanager
async def probe() -> AsyncIterator[Probe]:
    """Nothing is asked at first."""
    yield Probe()


async def _status(reader: asyncio.StreamReader) -> str:
    """The status of the first answer, when all of it is there."""
    try:
        async with asyncio.timeout(PATIENCE):
            return (await _answer(reader))[9:12].decode()
    except (ConnectionError, asyncio.IncompleteReadError):
        return "cut"


async def _answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(_END)
    length = _LENGTH.search(head)
    if length:
        await reader.readexactly(int(length[1]))
    return head
