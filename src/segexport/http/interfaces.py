"""All interfaces over one store, from the keys to the address that they listen on."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Final

from segexport.commands import Commands
from segexport.exports.disk import withdraw
from segexport.http.app import Door, create_app
from segexport.http.health import Health
from segexport.http.server import listening
from segexport.http.tail import Tail
from segexport.profiles.snapshots import ProfileStore
from segexport.relay.relay import RelayHealth
from segexport.settings import Settings
from segexport.store.store import Outbox
from segexport.supervision import Supervisor

ADDRESS: Final = "http-address"
"""The file, in the data folder, that says where a running service listens."""


@asynccontextmanager
async def interfaces(
    settings: Settings,
    outbox: Outbox,
    commands: Commands,
    *,
    supervisor: Supervisor,
    relay: Callable[[], Awaitable[RelayHealth]],
) -> AsyncIterator[str]:
    """Serve during the block; gives the address, which is also in the file `ADDRESS`.

    Raises as `Door.of` and `listening` do.
    """
    door = Door.of(settings)
    tail = Tail(outbox, door.cursors)
    health = Health(
        supervisor,
        outbox,
        ProfileStore(settings.profiles_folder),
        relay,
        keys_are_as_on_disk=door.ring.is_as_on_disk,
    )
    app = create_app(settings, commands, door, tail, health)
    following = supervisor.start("event streams", tail.run())
    told = settings.data / ADDRESS
    try:
        with settled():
            async with listening(app, settings.http, partial(supervisor.start, "HTTP")) as address:
                told.write_text(address)
                try:
                    yield address
                finally:
                    withdraw(told, address)
                    # The server waits for open answers, and streams have no end of their own.
                    await tail.close()
    finally:
        await tail.close()
        await asyncio.wait({following})


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
