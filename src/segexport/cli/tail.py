"""`segexport tail`: the events topic, live, as any consumer receives it."""

import asyncio
import sys
from contextlib import suppress
from typing import Annotated, Final

import typer

from segexport.cli.app import app
from segexport.cli.lines import event_line
from segexport.cli.present import OutputFormat, out
from segexport.consume.consumer import EventReader, Start
from segexport.consume.received import Received
from segexport.errors import BrokerUnreachable
from segexport.events.contract import Contract, Verdict
from segexport.race import race
from segexport.service import kafka_of
from segexport.settings import KafkaSettings, Settings, load_settings

LOOK_EVERY: Final = 1.0
"""Seconds between two looks whether the embedded broker is still the same."""

EXIT_NOT_VALID = 1
"""At least one of the records shown is not valid."""


@app.command()
def tail(
    job: Annotated[int | None, typer.Option(help="Only the events of this job.")] = None,
    start: Annotated[
        Start, typer.Option("--from", help="Where to begin: at the oldest event kept, or now.")
    ] = Start.NOW,
    once: Annotated[
        bool, typer.Option("--once", help="Stop at what is the end now. Implies --from beginning.")
    ] = False,
    contract: Annotated[
        Contract, typer.Option(help="What the events are held against.")
    ] = Contract.EMITTED,
    output: Annotated[
        OutputFormat, typer.Option("--format", help="One line an event, or its bytes as JSON.")
    ] = OutputFormat.TEXT,
) -> None:
    """Follow the events on Kafka as they arrive, and say of each whether it is valid.

    Reads committed records only, from the configured Kafka or from the embedded broker of a
    running service, as long as that broker lives. Exit status 1 if a record shown was not valid.

        segexport tail --from beginning --job 4711

        segexport tail --once --format json | jq .
    """
    if once:
        start = Start.BEGINNING
    settings = load_settings()
    kafka = kafka_of(settings)
    valid: bool | None = True
    with suppress(KeyboardInterrupt):
        following = _follow(kafka, start, contract, output, job=job, once=once)
        valid = asyncio.run(race(following, _replaced(settings, kafka)))
    if not valid:
        raise typer.Exit(EXIT_NOT_VALID)


async def _follow(
    kafka: KafkaSettings,
    start: Start,
    contract: Contract,
    output: OutputFormat,
    *,
    job: int | None,
    once: bool,
) -> bool:
    valid = True
    async with EventReader(kafka, start=start, contract=contract) as reader:
        records = reader.so_far() if once else reader.follow()
        async for received in records:
            if job is None or received.key == str(job):
                _show(received, output)
                valid = valid and received.judgement.verdict is Verdict.VALID
    return valid


async def _replaced(settings: Settings, kafka: KafkaSettings) -> None:
    """Raise `BrokerUnreachable` once the embedded broker that is read is not the service's."""
    address = kafka.bootstrap_servers
    while not kafka.is_embedded or kafka_of(settings).bootstrap_servers == address:  # noqa: ASYNC110  (a file of another process)
        await asyncio.sleep(LOOK_EVERY)
    raise BrokerUnreachable(
        "the embedded broker has ended, and the service has started another one, which is sent "
        "all events again: run the command again to follow that one"
    )


def _show(received: Received, output: OutputFormat) -> None:
    if output is OutputFormat.TEXT:
        out.print(event_line(received))
        return
    sys.stdout.buffer.write((received.value or b"null") + b"\n")
    sys.stdout.buffer.flush()
