"""`segexport segments`: define segments, look at them, evaluate them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from segexport.cli.app import app
from segexport.cli.markup import escape
from segexport.cli.present import OutputFormat, out, print_json, print_table
from segexport.cli.profiles import Format, Store, progress_bars, resources_of, table_of
from segexport.errors import UnknownSegment
from segexport.profiles.catalogue import (
    TIMESTAMP_ORDERED,
    SegmentDefinition,
    open_catalogue,
    segment_document,
)
from segexport.profiles.definitions import define_segment
from segexport.profiles.evaluation import evaluate
from segexport.profiles.snapshots import SegmentSize, Snapshot
from segexport.settings import load_settings

segments = typer.Typer(
    name="segments",
    no_args_is_help=True,
    help="Define segments, look at them, evaluate them.",
)
app.add_typer(segments)

Segment = Annotated[str, typer.Argument(help="The segment's id.")]
Namespace = Annotated[str, typer.Option(help="The segment's namespace.")]


@segments.command()
def define(
    segment: Segment,
    where: Annotated[
        str, typer.Option(help="Who is in it: a predicate over attributes of the merged profile.")
    ],
    namespace: Namespace = "ups",
    merge_policy: Annotated[
        str,
        typer.Option(
            help="The merge policy by which profiles are merged, ID or ID:VERSION.",
            metavar="ID[:VERSION]",
        ),
    ] = TIMESTAMP_ORDERED.id,
    store: Store = None,
    output: Format = OutputFormat.TEXT,
) -> None:
    """Define a segment, or its next version. The same again changes nothing.

    Nobody is in it before it is evaluated.

    Comparisons, IN, BETWEEN, LIKE, IS NULL, AND, OR, NOT:

        segexport segments define loyalty-gold --where "loyalty.tier = 'gold' AND loyalty.points >= 500"

    An array that contains a value:

        segexport segments define vip --where "contains(tags, 'vip')" --merge-policy crm-first:1
    """  # noqa: E501  (an example that can be copied stands on one line)
    policy, version = _policy(merge_policy)
    definition = define_segment(
        store or load_settings().profiles_folder,
        segment,
        where,
        namespace=namespace,
        policy=policy,
        policy_version=version,
    )
    if output is OutputFormat.JSON:
        print_json(segment_document(definition))
    else:
        out.print(f"segment {_title(definition)}, merged by {_merged_by(definition)}")


@segments.command("list")
def list_segments(store: Store = None, output: Format = OutputFormat.TEXT) -> None:
    """List the segments that are defined, in their newest versions.

    `segexport segments show` has the older ones.

    For scripts, one a line:

        segexport segments list --format json
    """
    newest = open_catalogue(store or load_settings().profiles_folder).newest_segments
    if output is OutputFormat.JSON:
        for definition in newest:
            print_json(segment_document(definition))
        return
    if not newest:
        out.print("no segments are defined")
        return
    table = table_of("namespace", "segment")
    table.add_column("version", justify="right")
    table.add_column("where", overflow="fold")
    for one in newest:
        table.add_row(
            escape(one.namespace), escape(one.segment), str(one.version), escape(one.predicate)
        )
    print_table(table)


@segments.command()
def show(
    segment: Segment,
    namespace: Namespace = "ups",
    store: Store = None,
    output: Format = OutputFormat.TEXT,
) -> None:
    """Show all versions of a segment, oldest first.

    The newest is the one that is evaluated.

    For example:

        segexport segments show loyalty-gold
    """
    catalogue = open_catalogue(store or load_settings().profiles_folder)
    newest = catalogue.definition(namespace, segment)
    versions = [
        each
        for each in catalogue.segments
        if (each.namespace, each.segment) == (newest.namespace, newest.segment)
    ]
    for definition in versions:
        if output is OutputFormat.JSON:
            print_json(segment_document(definition))
        else:
            out.print(f"{_title(definition)}, merged by {_merged_by(definition)}")
            out.print(f"  {escape(definition.predicate)}")


@segments.command("evaluate")
def evaluate_now(
    segment: Annotated[
        list[str] | None,
        typer.Argument(help="The segments to evaluate. None: all that are defined."),
    ] = None,
    namespace: Namespace = "ups",
    store: Store = None,
    output: Format = OutputFormat.TEXT,
) -> None:
    """Evaluate segments now, into the next snapshot.

    A job does so by itself where its request says evaluationInfo.segmentation.

    All, of every namespace:

        segexport segments evaluate

    Two of them:

        segexport segments evaluate loyalty-gold vip
    """
    settings = load_settings()
    folder = store or settings.profiles_folder
    catalogue = open_catalogue(folder)
    definitions = (
        [catalogue.definition(namespace, each) for each in dict.fromkeys(segment)]
        if segment
        else catalogue.newest_segments
    )
    if not definitions:
        raise UnknownSegment("no segment is defined; begin with `segexport segments define`")
    with progress_bars() as progress:
        snapshot = evaluate(
            folder,
            definitions,
            now=datetime.now(UTC),
            resources=resources_of(settings),
            progress=progress,
        )
    sizes = _sizes(snapshot, definitions)
    if output is OutputFormat.JSON:
        print_json({"snapshot": snapshot.id, "segments": sizes})
        return
    out.print(f"snapshot [bold]{snapshot.id}[/]")
    table = table_of("namespace", "segment", "realized", "existing", "exited")
    for one in sizes:
        counts = (f"{count:,}" for count in (one.realized, one.existing, one.exited))
        table.add_row(escape(one.namespace), escape(one.segment), *counts)
    print_table(table)


def _policy(words: str) -> tuple[str, int | None]:
    """A merge policy's id and version. An id may hold colons; a version is a number."""
    policy, colon, version = words.rpartition(":")
    if colon and version.isascii() and version.isdigit():
        return policy, int(version)
    return words, None


def _sizes(snapshot: Snapshot, definitions: Sequence[SegmentDefinition]) -> Sequence[SegmentSize]:
    names = {(each.namespace, each.segment) for each in definitions}
    return [one for one in snapshot.segments if (one.namespace, one.segment) in names]


def _title(definition: SegmentDefinition) -> str:
    name = escape(f"{definition.namespace}:{definition.segment}")
    return f"[bold]{name}[/], version {definition.version}"


def _merged_by(definition: SegmentDefinition) -> str:
    return escape(f"{definition.policy}:{definition.policy_version}")
