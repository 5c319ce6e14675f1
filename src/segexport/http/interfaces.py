"""All interfaces over one store, from the keys to the address that they listen on."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final

from segexport.commands import Commands
from segexport.http.app import Door, create_app
from segexport.http.health import Health
from segexport.http.server import listening
from segexport.http.tail import Tail
from segexport.relay.relay import RelayHealth
from segexport.settings import Settings
from segexport.store.store import Outbox

ADDRESS: Final = "http-address"
"""The file, in the data folder, that says where a running service listens."""


@asynccontextmanager
async def interfaces(
    settings: Settings,
    outbox: Outbox,
    commands: Commands,
    *,
    relay: Callable[[], Awaitable[RelayHealth]],
    is_relaying: Callable[[], bool],
) -> AsyncIterator[str]:
    """Serve during the block; gives the address, which is also in the file `ADDRESS`.

    Raises as `Door.of` and `listening` do.
    """
    door = Door.of(settings)
    tail = Tail(outbox, door.cursors)
    app = create_app(settings, commands, door, tail, Health(relay, is_relaying))
    following = asyncio.create_task(tail.run())
    told = settings.data / ADDRESS
    try:
        with settled():
            async with listening(app, settings.http) as address:
                told.write_text(address)
                try:
                    yield address
                finally:
                    # The server waits for open answers, and streams have no end of their own.
                    await tail.close()
    finally:
        with suppress(OSError):
            told.unlink()
        await tail.close()
        await following


@contextmanager
def settled() -> Iterator[None]:
    """Keep what is there by now out of garbage collections, until the end of the block.

    It stays as long as the process, and to look through all of it takes tens of milliseconds, in
    which no request is answered.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
