"""`segexport settings`: what is in effect, secrets hidden."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import orjson
import typer

from segexport.cli.app import app
from segexport.cli.markup import escape
from segexport.cli.present import OutputFormat, out, print_json
from segexport.settings import load_settings


@app.command()
def settings(
    output: Annotated[
        OutputFormat, typer.Option("--format", help="For people, or for scripts.")
    ] = OutputFormat.TEXT,
) -> None:
    """Show the settings in effect, from environment, file and defaults. Secrets are hidden.

    A wrong or unknown setting is named, with exit status 2.

    For example:

        SEGEXPORT_KAFKA__TOPIC=exports segexport settings
    """
    effective = load_settings().model_dump(mode="json")
    if output is OutputFormat.JSON:
        print_json(effective)
        return
    for name, value in _flat(effective):
        shown = "[dim]not set[/]" if value is None else escape(orjson.dumps(value).decode())
        out.print(f"{escape(name)} = {shown}")


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
