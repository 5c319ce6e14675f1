"""`segexport schema`: the bundled schemas, to read and to give to other tools."""

import json
import sys
from typing import Annotated

import typer

from segexport.cli.app import app
from segexport.cli.present import OutputFormat, out, print_json
from segexport.events.schema import find, schemas

schema = typer.Typer(
    name="schema", no_args_is_help=True, help="The schemas that events are held against."
)
app.add_typer(schema)


@schema.command("list")
def list_schemas(
    output: Annotated[
        OutputFormat, typer.Option("--format", help="For people, or for scripts.")
    ] = OutputFormat.TEXT,
) -> None:
    """List the bundled schemas: XDM's field groups and classes, and segexport's own.

    segexport schema list
    """
    if output is OutputFormat.JSON:
        for name, document in schemas().items():
            print_json({"name": name, "id": document["$id"], "title": document["title"]})
        return
    width = max(map(len, schemas()))
    for name, document in schemas().items():
        out.print(f"[bold]{name:<{width}}[/]  {document['title']}")
        out.print(f"{'':<{width}}  {document['$id']}", style="dim")


@schema.command("print")
def print_schema(
    name: Annotated[str, typer.Argument(help="The schema's name or its id.")],
) -> None:
    """Print a schema as JSON.

    segexport schema print segment-export-job

    segexport schema print urn:segexport:schema:emitted > emitted.schema.json
    """
    document = find(name)
    if document is None:
        raise typer.BadParameter(f"there is no schema {name!r}; 'segexport schema list' shows all")
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
