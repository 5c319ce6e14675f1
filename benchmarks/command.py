"""The command line of the benchmarks that make a profile store to measure on."""

import argparse
import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path

from measure import print_header
from segexport.telemetry import configure_logging


def run(
    title: str,
    measure: Callable[[Path, int, int], Coroutine[None, None, None]],
    description: str | None,
    *packages: str,
    profiles: int = 1_000_000,
    runs: int = 5,
) -> None:
    """Call `measure` with a folder to work in, the number of profiles, and that of runs.

    `packages` are those whose versions are printed.
    """
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--profiles", type=int, default=profiles)
    parser.add_argument("--runs", type=int, default=runs)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder otherwise")
    arguments = parser.parse_args()
    print_header(title, *packages)
    configure_logging(level="warning")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        asyncio.run(measure(Path(folder), arguments.profiles, arguments.runs))
