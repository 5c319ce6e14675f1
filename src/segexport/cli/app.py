"""The `segexport` command: its groups of commands, and how errors reach the terminal."""

import sys

import typer
from rich.console import Console
from rich.markup import escape

from segexport.errors import SegexportError
from segexport.telemetry import configure_logging

app = typer.Typer(
    name="segexport",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

EXIT_USAGE = 2
"""Something could not be read or done as asked."""


@app.callback()
def quiet() -> None:
    """Run audience export jobs and follow them on Kafka."""
    configure_logging(style="console", level="warning")


def main() -> None:
    """Run the command line; an error that segexport can explain is one line and status 2."""
    try:
        app()
    except SegexportError as error:
        Console(stderr=True).print(f"[bold red]error[/] \\[{error.code}] {escape(str(error))}")
        sys.exit(EXIT_USAGE)
