"""`segexport profiles`: fill the profile store, make a sample one, look at it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
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
from segexport.cli.markup import escape
from segexport.cli.present import OutputFormat, out, print_json, print_table
from segexport.jobs.values import moment
from segexport.profiles import builder
from segexport.profiles.builder import Resources
from segexport.profiles.fragments import UPDATE_TIMES
from segexport.profiles.loading import DATASET, LoadReport
from segexport.profiles.loading import load as load_files
from segexport.profiles.refusals import EXPLANATIONS
from segexport.profiles.sample import build_sample
from segexport.profiles.snapshots import ProfileStore, Snapshot
from segexport.settings import Settings, load_settings

EXIT_NOTHING_LOADED: Final = 1
"""Every record was refused."""

profiles = typer.Typer(
    name="profiles",
    no_args_is_help=True,
    help="Fill the profile store, make a sample one, look at it.",
)
app.add_typer(profiles)

Store = Annotated[
    Path | None,
    typer.Option(help="The profile store's folder; by default the one in the settings."),
]
Format = Annotated[OutputFormat, typer.Option("--format", help="For people, or for scripts.")]


@profiles.command()
def load(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Files of profile fragments: NDJSON, JSON or Parquet."),
    ] = None,
    events: Annotated[
        list[Path] | None,
        typer.Option(help="A file of events, in the same formats; may be repeated."),
    ] = None,
    graph: Annotated[
        list[Path] | None,
        typer.Option(
            help="A file of the identity graph, in the same formats: objects or rows with "
            "namespace, id and person; may be repeated."
        ),
    ] = None,
    store: Store = None,
    dataset: Annotated[
        str, typer.Option(help="Where the fragments come from: merge policies may prefer it.")
    ] = DATASET,
    ingested_at: Annotated[
        str | None,
        typer.Option(help="When the records count as ingested, in RFC 3339; by default now."),
    ] = None,
    updated_at: Annotated[
        list[str] | None,
        typer.Option(
            help="The dotted path of a fragment's update time; may be repeated, the first that "
            f"is there counts. By default: {', '.join(UPDATE_TIMES)}."
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start from nothing, not from the newest snapshot.")
    ] = False,
    rejects: Annotated[
        Path | None,
        typer.Option(help="The file for what is refused; by default one in the store."),
    ] = None,
    output: Format = OutputFormat.TEXT,
) -> None:
    """Add fragments, events and the identity graph to the newest snapshot, as the next one.

    A bad record is refused, counted and written to the rejects file; the load goes on. The
    exit status is 1 if all records are refused, 2 if a file cannot be read.

        segexport profiles load monday.ndjson tuesday.ndjson

    Profiles of one source, and what was seen of them on the web:

        segexport profiles load crm.parquet --dataset crm --events visits.ndjson.gz

    Which identities are one person's, for what is loaded and for what is there already:

        segexport profiles load --graph identities.parquet
    """
    if not files and not events and not graph:
        raise typer.BadParameter("name a file of fragments, or one of --events or --graph")
    now = datetime.now(UTC)
    settings = load_settings()
    start = time.monotonic()
    with progress_bars() as progress:
        report = load_files(
            store or settings.profiles_folder,
            files or [],
            events=events or [],
            graph=graph or [],
            now=now,
            dataset=dataset,
            ingested_at=_moment(ingested_at) if ingested_at else None,
            resources=resources_of(settings),
            fresh=fresh,
            update_times=updated_at or UPDATE_TIMES,
            rejects=rejects,
            progress=progress,
        )
    seconds = time.monotonic() - start
    if output is OutputFormat.JSON:
        print_json({**_report_document(report), "seconds": round(seconds, 3)})
    else:
        _print_report(report, seconds)
    if report.read and not report.accepted:
        raise typer.Exit(EXIT_NOTHING_LOADED)


@profiles.command()
def sample(
    count: Annotated[
        int, typer.Option("--profiles", "-n", min=1, help="How many profiles.")
    ] = 100_000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same profiles.")] = 1,
    store: Store = None,
    output: Format = OutputFormat.TEXT,
) -> None:
    """Make a snapshot of made-up profiles the newest of the store.

    It holds these profiles only, whatever the store held before.

    The same number and seed give the same profiles:

        segexport profiles sample --profiles 100000 --seed 1
    """
    settings = load_settings()
    with progress_bars() as progress:
        snapshot = build_sample(
            store or settings.profiles_folder,
            profiles=count,
            seed=seed,
            now=datetime.now(UTC),
            resources=resources_of(settings),
            progress=progress,
        )
    if output is OutputFormat.JSON:
        print_json(_size(snapshot))
    else:
        _print_size(snapshot)


@profiles.command()
def show(store: Store = None, output: Format = OutputFormat.TEXT) -> None:
    """Show the newest snapshot: its size, segments, namespaces and attributes.

    Older snapshots stay until somebody deletes their folders.

    For scripts:

        segexport profiles show --format json
    """
    snapshot = ProfileStore(store or load_settings().profiles_folder).latest()
    if output is OutputFormat.JSON:
        details = {
            "createdAt": snapshot.created_at.isoformat(),
            "namespaces": snapshot.namespaces,
            "datasets": snapshot.datasets,
            "attributes": snapshot.attributes,
            "eventAttributes": snapshot.event_attributes,
            "segments": snapshot.segments,
        }
        print_json({**_size(snapshot), **details})
        return
    _print_size(snapshot)
    out.print(f"namespaces: {escape(', '.join(snapshot.namespaces)) or 'none'}")
    out.print(f"datasets: {escape(', '.join(snapshot.datasets)) or 'none'}")
    out.print(f"identity graph: {snapshot.graph_rows:,} identities")
    segments = table_of("namespace", "segment", "realized", "existing", "exited")
    for one in snapshot.segments:
        counts = (f"{count:,}" for count in (one.realized, one.existing, one.exited))
        segments.add_row(escape(one.namespace), escape(one.segment), *counts)
    print_table(segments)
    attributes = table_of("attribute", "type")
    for attribute in snapshot.attributes:
        attributes.add_row(escape(attribute.path), escape(attribute.type))
    print_table(attributes)


def resources_of(settings: Settings) -> Resources:
    """What DuckDB may use, as exports do."""
    return Resources(threads=settings.exports.threads, memory_limit=settings.exports.memory_limit)


@contextmanager
def progress_bars() -> Iterator[builder.Progress]:
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


def _moment(text: str) -> datetime:
    try:
        return moment(text)
    except ValueError as error:
        raise typer.BadParameter(f"--ingested-at: {error}") from error


def _report_document(report: LoadReport) -> dict[str, Any]:
    return {
        "read": report.read,
        "accepted": report.accepted,
        "fragments": report.fragments,
        "events": report.events,
        "graph": report.graph_rows,
        "moved": report.moved,
        "refused": report.refused,
        "rejects": str(report.rejects) if report.rejects else None,
        **(_size(report.snapshot) if report.snapshot else {"snapshot": None}),
    }


def _print_report(report: LoadReport, seconds: float) -> None:
    refused = report.read - report.accepted
    out.print(
        f"{report.read:,} records read in {seconds:.1f} s: {report.fragments:,} fragments and "
        f"{report.events:,} events accepted, {refused:,} refused"
    )
    if report.graph_rows:
        out.print(
            f"{report.graph_rows:,} rows of the identity graph accepted: {report.moved:,} persons "
            "of the snapshot before have another key now"
        )
    for reason, count in report.refused.items():
        out.print(f"  {count:>9,}  [yellow]{reason}[/]  {escape(EXPLANATIONS[reason])}")
    if report.rejects:
        out.print(f"refused records are in {escape(str(report.rejects))}")
    if report.snapshot:
        _print_size(report.snapshot)
    else:
        out.print("nothing was accepted: the newest snapshot stays as it was")


def _size(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "snapshot": snapshot.id,
        "persons": snapshot.persons,
        "fragments": snapshot.fragments,
        "events": snapshot.events,
        "emptyProfiles": snapshot.empty,
        "buckets": snapshot.buckets,
        "segments": len(snapshot.segments),
        "graphIdentities": snapshot.graph_rows,
    }


def _print_size(snapshot: Snapshot) -> None:
    buckets = "bucket" if snapshot.buckets == 1 else "buckets"
    out.print(
        f"snapshot [bold]{snapshot.id}[/]: {snapshot.persons:,} persons from "
        f"{snapshot.fragments:,} fragments and {snapshot.events:,} events, "
        f"{len(snapshot.segments):,} segments, "
        f"{snapshot.buckets} {buckets}"
    )


def table_of(*columns: str) -> Table:
    """An empty table; from the third column on there are numbers."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number > 1 else "left", overflow="fold")
    return table
