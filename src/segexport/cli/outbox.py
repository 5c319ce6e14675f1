"""`segexport outbox`: how delivery stands, and what only a person can decide about it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer
from rich.table import Table

from segexport.cli.app import app
from segexport.cli.markup import escape
from segexport.cli.present import OutputFormat, out, print_json, print_table
from segexport.errors import SettingsError
from segexport.relay.resume import set_position
from segexport.relay.transactional import TransactionalPublisher
from segexport.service import open_store, process_name
from segexport.settings import Settings, load_settings
from segexport.store.sqlite import SqliteStore

outbox = typer.Typer(no_args_is_help=True, help="See and steer the delivery of events.")
app.add_typer(outbox, name="outbox")

Act = Callable[[Settings, SqliteStore], Awaitable[None]]


@outbox.command()
def show(
    output: Annotated[
        OutputFormat, typer.Option("--format", help="For people, or for scripts.")
    ] = OutputFormat.TEXT,
) -> None:
    """Show how many events wait, and the records that the broker refused (parked).

    Reads the job store; the service need not run.

    For example:

        segexport outbox show
    """

    async def act(_: Settings, store: SqliteStore) -> None:
        backlog, parked = await store.backlog(), await store.parked()
        if output is OutputFormat.JSON:
            print_json(
                {
                    "store": str(store.identity.id),
                    "generation": store.identity.generation,
                    "last": backlog.last,
                    "delivered": backlog.delivered,
                    "parked": [
                        {"number": one.number, "job": one.job_id, "reason": one.reason}
                        for one in parked
                    ],
                }
            )
            return
        out.print(f"store {store.identity.id}, generation {store.identity.generation}")
        waiting = backlog.last - backlog.delivered
        out.print(f"{backlog.last} events, {waiting} of them wait, {len(parked)} parked")
        if parked:
            table = Table("number", "job", "parked at", "reason", box=None)
            for one in parked:
                moment = f"{one.parked_at:%Y-%m-%d %H:%M:%S}"
                table.add_row(str(one.number), str(one.job_id), moment, escape(one.reason))
            print_table(table)

    _run(act)


@outbox.command()
def replay(job_id: Annotated[int, typer.Argument(help="The job of a parked event.")]) -> None:
    """Have a parked event, and those of its job that wait behind it, sent again.

    Mend first what made the broker refuse it. The relay acts on it as soon as it runs; without
    this, it tries by itself within ten minutes.

    For example:

        segexport outbox replay 4711
    """

    async def act(_: Settings, store: SqliteStore) -> None:
        asked = await store.request_replay(job_id)
        out.print(f"the relay will send what is parked of job {asked.job_id} again")

    _run(act)


@outbox.command()
def new_generation() -> None:
    """Begin another life of the store: the first thing to do after restoring a backup.

    Delivery then stops until `set-position` says where it goes on.

    For example:

        segexport outbox new-generation
    """

    async def act(_: Settings, store: SqliteStore) -> None:
        identity = await store.raise_generation()
        out.print(f"store {identity.id} is now in generation {identity.generation}")

    _run(act)


@outbox.command("set-position")
def say_position(
    number: Annotated[
        int, typer.Argument(help="The last event that counts as delivered; 0: none does.")
    ],
) -> None:
    """Say behind which event delivery goes on. The service must be stopped.

    Events behind it that the topic has already come again, with the ids they had.

    For example:

        segexport outbox set-position 1200
    """

    async def act(settings: Settings, store: SqliteStore) -> None:
        if settings.kafka.bootstrap_servers is None:
            raise SettingsError(
                "kafka.bootstrap_servers is not set, and the embedded broker keeps no position"
            )
        publisher = TransactionalPublisher(settings.kafka)
        await set_position(store, publisher, owner=process_name(), number=number)
        out.print(f"delivery goes on behind event {number}")

    _run(act)


def _run(act: Act) -> None:
    settings = load_settings()

    async def over_store() -> None:
        async with open_store(settings) as store:
            await act(settings, store)

    asyncio.run(over_store())
