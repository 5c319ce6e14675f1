"""`segexport profiles`: make, fill and look at the profile store."""

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from segexport.cli.app import app
from segexport.exports.builder import Engine
from segexport.exports.profiles import ProfileStore, Snapshot
from segexport.exports.sample import build_sample
from segexport.settings import Settings, load_settings

profiles = typer.Typer(
    name="profiles", no_args_is_help=True, help="Make, fill and look at the profile store."
)
app.add_typer(profiles)


class Output(StrEnum):
    """How a report is printed."""

    TEXT = "text"
    JSON = "json"


Store = Annotated[
    Path | None,
    typer.Option(help="The profile store's folder; by default the one in the settings."),
]
Format = Annotated[Output, typer.Option("--format", help="How the report is printed.")]


@profiles.command()
def sample(
    count: Annotated[
        int, typer.Option("--profiles", "-n", min=1, help="How many profiles.")
    ] = 100_000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same profiles.")] = 1,
    store: Store = None,
    output: Format = Output.TEXT,
) -> None:
    """Make a snapshot of made-up profiles the newest of the store."""
    settings = load_settings()
    with _bar() as bar:
        task = bar.add_task("buckets", total=None)
        snapshot = build_sample(
            store or settings.profiles_folder,
            profiles=count,
            seed=seed,
            now=datetime.now(UTC),
            engine=_engine(settings),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    _print(snapshot, output)


@profiles.command()
def show(store: Store = None, output: Format = Output.TEXT) -> None:
    """Show the newest snapshot: its size, segments, namespaces and attributes."""
    _print(ProfileStore(store or load_settings().profiles_folder).latest(), output)


def _engine(settings: Settings) -> Engine:
    return Engine(threads=settings.exports.threads, memory_limit=settings.exports.memory_limit)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _print(snapshot: Snapshot, output: Output) -> None:
    if output is Output.JSON:
        document = {
            "snapshot": snapshot.id,
            "createdAt": snapshot.created_at.isoformat(),
            "buckets": snapshot.buckets,
            "persons": snapshot.persons,
            "fragments": snapshot.fragments,
            "namespaces": snapshot.namespaces,
            "attributes": snapshot.attributes,
            "segments": snapshot.segments,
        }
        typer.echo(orjson.dumps(document))
        return
    console = Console()
    console.print(
        f"snapshot {snapshot.id}: {snapshot.persons:,} persons, {snapshot.fragments:,} fragments, "
        f"{snapshot.buckets} buckets",
        highlight=False,
    )
    console.print(f"namespaces: {', '.join(snapshot.namespaces)}", highlight=False)
    segments = Table("namespace", "segment", "realized", "existing", "exited")
    for one in snapshot.segments:
        counts = (f"{count:,}" for count in (one.realized, one.existing, one.exited))
        segments.add_row(one.namespace, one.segment, *counts)
    console.print(segments)
    attributes = Table("attribute", "type")
    for attribute in snapshot.attributes:
        attributes.add_row(attribute.path, attribute.type)
    console.print(attributes)
