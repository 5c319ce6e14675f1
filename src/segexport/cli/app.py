"""The `segexport` command: its groups of commands, and how errors reach the terminal."""

import sys
from importlib.metadata import version
from typing import Annotated, Final

import structlog
import typer
from rich.console import Console
from rich.markup import escape

from segexport.errors import ClientFailed, PartFailed, SegexportError
from segexport.telemetry import configure_logging

app = typer.Typer(
    name="segexport",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

log: Final = structlog.stdlib.get_logger(__name__)

EXIT_USAGE = 2
"""Something could not be read or done as asked."""
EXIT_FAILED = 3
"""The service has met an error that nobody foresaw: to be started again."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"segexport {version('segexport')}")
        raise typer.Exit


@app.callback()
def prepare(
    show_version: Annotated[  # noqa: ARG001  (its callback does the work)
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Run audience export jobs and follow them on Kafka."""
    configure_logging(style="console", level="warning")


def main() -> None:
    """Run the command line; an error that segexport can explain is one line and status 2, or 3."""
    try:
        app()
    except SegexportError as error:
        if isinstance(error, ClientFailed):
            log.exception("the Kafka client library has failed", exc_info=error.__cause__)
        words = f"[bold red]error[/] \\[{error.code}] {escape(str(error))}"
        Console(stderr=True, soft_wrap=True).print(words)
        sys.exit(EXIT_FAILED if isinstance(error, PartFailed) else EXIT_USAGE)
