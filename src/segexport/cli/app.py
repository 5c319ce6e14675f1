"""The `segexport` command: its groups of commands, and how errors reach the terminal."""

import signal
import sys
from importlib.metadata import version
from typing import Annotated, Final

import structlog
import typer
from rich.console import Console

from segexport import modes
from segexport.cli import streams
from segexport.cli.markup import escape
from segexport.errors import ClientFailed, OutputClosed, PartFailed
from segexport.faults import translated
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
"""The service, or a command, has met an error that nobody foresaw."""
EXIT_INTERRUPTED: Final = 128 + signal.SIGINT
"""What shells make of a process that SIGINT has ended."""
EXIT_OUTPUT_CLOSED: Final = 128 + signal.SIGPIPE
"""Whoever read stdout has gone: what shells make of the signal that ends other tools then."""


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
    """Run the command line; every error is one line with its code, and a status of its own.

    A command whose results can no longer be printed has failed as well, whatever it says itself.
    """
    streams.take_over()
    try:
        try:
            with modes.private():
                app()
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:  # noqa: BLE001  (here it ends: as a line, or a traceback and a line)
        sys.exit(_explain(error))


def _explain(error: Exception) -> int:
    """Say what is wrong; the exit status."""
    explained = translated(error)
    match explained:
        case OutputClosed():
            return EXIT_OUTPUT_CLOSED
        case ClientFailed():
            log.error("the Kafka client library has failed", exc_info=explained.__cause__)
        case None:
            log.error("an error that nobody foresaw", exc_info=error)
    if explained is None:
        _print_error("internal", "a mistake of segexport's; please report the traceback above")
    else:
        _print_error(explained.code, str(explained))
    return EXIT_FAILED if explained is None or isinstance(explained, PartFailed) else EXIT_USAGE


def _print_error(code: str, words: str) -> None:
    shown = f"[bold red]error[/] \\[{code}] {escape(words)}"
    Console(stderr=True, soft_wrap=True).print(shown)
