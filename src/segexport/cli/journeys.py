"""`segexport journeys`: say who is in a journey already."""

from pathlib import Path
from typing import Annotated

import typer

from segexport.cli.app import app
from segexport.cli.markup import escape
from segexport.cli.present import OutputFormat, print_json, print_table
from segexport.cli.profiles import Format, resources_of, table_of
from segexport.exports.instances import Instances, LiveTable
from segexport.jobs.job import Scope
from segexport.settings import Settings, load_settings

journeys = typer.Typer(
    name="journeys",
    no_args_is_help=True,
    help="Say who is in a journey already: such profiles become discards of its exports.",
)
app.add_typer(journeys)

Version = Annotated[str, typer.Argument(help="The journey version's id.")]
Files = Annotated[
    list[Path],
    typer.Argument(help="Keys: Parquet with a column `key`, or text with a key a line."),
]
Namespace = Annotated[str, typer.Option(help="The identity namespace of the keys, as Email.")]


@journeys.command()
def add(
    version: Version, files: Files, namespace: Namespace, output: Format = OutputFormat.TEXT
) -> None:
    """Add keys that have entered a journey version.

    Jobs that begin from then on discard profiles with such a key as duplicates.

    For example:

        segexport journeys add spring-v3 entered.txt --namespace Email
    """
    settings = load_settings()
    table = _instances(settings).add(version, namespace, files, resources_of(settings))
    _show([table], output)


@journeys.command()
def remove(
    version: Version, files: Files, namespace: Namespace, output: Format = OutputFormat.TEXT
) -> None:
    """Remove keys that have left a journey version.

    Keys that are not there do no harm.

    For example:

        segexport journeys remove spring-v3 left.parquet --namespace Email
    """
    settings = load_settings()
    table = _instances(settings).remove(version, namespace, files, resources_of(settings))
    _show([table], output)


@journeys.command("list")
def list_(output: Format = OutputFormat.TEXT) -> None:
    """List the journey versions of the sandbox that have live instances, and how many.

    Those of the organization and the sandbox in the settings.

    For example:

        segexport journeys list --format json
    """
    _show(list(_instances(load_settings()).tables()), output)


def _show(tables: list[LiveTable], output: OutputFormat) -> None:
    if output is OutputFormat.JSON:
        print_json(
            [
                {"versionId": each.version, "namespace": each.namespace, "keys": each.keys}
                for each in tables
            ]
        )
        return
    shown = table_of("journey version", "namespace", "keys")
    for each in tables:
        shown.add_row(escape(each.version), escape(each.namespace), f"{each.keys:,}")
    print_table(shown)


def _instances(settings: Settings) -> Instances:
    scope = Scope(settings.organization, settings.sandbox)
    return Instances(settings.journeys_folder, scope)
