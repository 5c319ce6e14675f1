"""`segexport profiles`: make, fill and look at the profile store."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from segexport.cli.app import app
from segexport.cli.present import OutputFormat, out, print_json
from segexport.exports import builder
from segexport.exports.builder import Engine
from segexport.exports.profiles import ProfileStore, Snapshot
from segexport.exports.sample import build_sample
from segexport.settings import Settings, load_settings

profiles = typer.Typer(
    name="profiles", no_args_is_help=True, help="Make, fill and look at the profile store."
)
app.add_typer(profiles)


Store = Annotated[
    Path | None,
    typer.Option(help="The profile store's folder; by default the one in the settings."),
]
Format = Annotated[OutputFormat, typer.Option("--format", help="For people, or for scripts.")]


@profiles.command()
def sample(
    count: Annotated[
        int, typer.Option("--profiles", "-n", min=1, help="How many profiles.")
    ] = 100_000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same profiles.")] = 1,
    store: Store = None,
    output: Format = OutputFormat.TEXT,
) -> None:
    """Make a snapshot of made-up profiles the newest of the store."""
    settings = load_settings()
    with _progress() as progress:
        snapshot = build_sample(
            store or settings.profiles_folder,
            profiles=count,
            seed=seed,
            now=datetime.now(UTC),
            engine=_engine(settings),
            progress=progress,
        )
    _print(snapshot, output)


@profiles.command()
def show(store: Store = None, output: Format = OutputFormat.TEXT) -> None:
    """Show the newest snapshot: its size, segments, namespaces and attributes."""
    _print(ProfileStore(store or load_settings().profiles_folder).latest(), output)


def _engine(settings: Settings) -> Engine:
    return Engine(threads=settings.exports.threads, memory_limit=settings.exports.memory_limit)


@contextmanager
def _progress() -> Iterator[builder.Progress]:
    """A bar for each step on a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(
        *columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        tasks: dict[str, TaskID] = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bar.add_task(step)
            bar.update(tasks[step], completed=done, total=total)

        yield show


def _print(snapshot: Snapshot, output: OutputFormat) -> None:
    if output is OutputFormat.JSON:
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
        print_json(document)
        return
    out.print(
        f"snapshot {snapshot.id}: {snapshot.persons:,} persons, "
        f"{snapshot.fragments:,} fragments, {snapshot.buckets} buckets"
    )
    out.print(f"namespaces: {escape(', '.join(snapshot.namespaces))}")
    segments = Table("namespace", "segment", "realized", "existing", "exited")
    for one in snapshot.segments:
        counts = (f"{count:,}" for count in (one.realized, one.existing, one.exited))
        segments.add_row(escape(one.namespace), escape(one.segment), *counts)
    out.print(segments)
    attributes = Table("attribute", "type")
    for attribute in snapshot.attributes:
        attributes.add_row(escape(attribute.path), escape(attribute.type))
    out.print(attributes)
