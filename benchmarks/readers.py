"""Readers of the live stream that come, stay for a while, leave, and come again where they were.

Each reads for a few seconds, then closes its connection in the middle of whatever comes, and
goes on with the id of the last message it had. They belong into a process of their own.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from client import host_and_port, request

STAYS: Final = (1.0, 10.0)
"""Seconds, at least and at most."""


class Readers:
    """So many readers; `visits` and `messages` count what they did, all together."""

    def __init__(self) -> None:
        self.visits = 0
        self.messages = 0
        self._reading: list[asyncio.Task[None]] = []

    def come(self, address: str, count: int) -> None:
        """Begin."""
        chance = random.Random(1)
        self._reading = [
            asyncio.create_task(self._read(address, random.Random(chance.random())))
            for _ in range(count)
        ]

    async def leave(self) -> tuple[int, int]:
        """End; the visits, and the messages that were read. Raises what a reader met."""
        for reading in self._reading:
            reading.cancel()
        for reading in self._reading:
            with suppress(asyncio.CancelledError):
                await reading
        return self.visits, self.messages

    async def _read(self, address: str, chance: random.Random) -> None:
        last: str | None = None
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(chance.uniform(*STAYS)):
                    async for message in self._ids(address, last):
                        last = message
                        self.messages += 1
            self.visits += 1

    async def _ids(self, address: str, last: str | None) -> AsyncIterator[str]:
        """The ids of messages, as they come."""
        reader, writer = await asyncio.open_connection(*host_and_port(address))
        try:
            resuming = {"Last-Event-ID": last} if last else {}
            writer.write(request("GET", "/events/stream", headers=resuming))
            status = await reader.readline()
            if b" 200 " not in status:
                raise RuntimeError(f"the stream was refused: {status.decode()}")
            while line := await reader.readline():
                if line.startswith(b"id: "):
                    yield line[4:].decode().strip()
        finally:
            writer.transport.abort()


@asynccontextmanager
async def readers() -> AsyncIterator[Readers]:
    """None at first."""
    yield Readers()
