"""Whom the commands about jobs ask: the store here, or a service elsewhere."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from segexport.clerk import Clerk, LocalClerk
from segexport.jobs.job import Scope
from segexport.service import open_commands
from segexport.settings import Settings


@asynccontextmanager
async def open_clerk(settings: Settings) -> AsyncIterator[Clerk]:
    """The clerk of the settings, for as long as the block lasts.

    Raises `StoreError` if the store here cannot be opened, `SettingsError` if there is no way
    to talk to the service.
    """
    scope = Scope(settings.organization, settings.sandbox)
    url = settings.client.url
    if url is None:
        async with open_commands(settings) as commands:
            yield LocalClerk(commands, scope)
    else:
        # Here and not above: whoever asks the store here need not wait for httpx.
        from segexport.client import Connection, RemoteClerk  # noqa: PLC0415

        async with Connection(url, settings.client, scope) as connection:
            yield RemoteClerk(connection)
