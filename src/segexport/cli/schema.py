"""`segexport schema`: the bundled schemas, to read and to give to other tools."""

import json
import sys
from typing import Annotated

import typer

from segexport.cli.app import app
from segexport.cli.present import OutputFormat, out, print_json
from segexport.events.compact_schema import compact_schema, find_compact
from segexport.events.schema import find, schemas
from segexport.events.vocabulary import Form

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

    Each by its name and its `$id`; `print` takes either.

    For example:

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
    form: Annotated[Form, typer.Option(help="The form of the keys that it describes.")] = Form.URI,
) -> None:
    """Print a schema as JSON.

    In compact form, it stands alone and refers to no other.

    For example:

        segexport schema print segment-export-job

        segexport schema print emitted --form compact

        segexport schema print urn:segexport:schema:emitted
    """
    wanted = find_compact(name) or find(name)
    if wanted is None:
        raise typer.BadParameter(f"there is no schema {name!r}; 'segexport schema list' shows all")
    compact = form is Form.COMPACT or find_compact(name) is not None
    document = compact_schema(wanted) if compact else schemas()[wanted]
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
