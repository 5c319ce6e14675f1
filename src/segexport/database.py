"""DuckDB in memory, as every part of segexport opens it."""

from pathlib import Path
from typing import Any

import duckdb

from segexport.sql import file_name


def open_database(
    *, threads: int | None = None, memory_limit: str | None = None, spill: Path | None = None
) -> duckdb.DuckDBPyConnection:
    """An empty database that asks the network for nothing and prints nothing.

    `memory_limit` is in DuckDB's notation; what does not fit goes to the folder `spill`.
    What is not given is DuckDB's own default. Raises `FileNameUnusable`.
    """
    config: dict[str, Any] = {
        # What we use is built in.
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if threads is not None:
        config["threads"] = threads
    if memory_limit is not None:
        config["memory_limit"] = memory_limit
    if spill is not None:
        config["temp_directory"] = file_name(spill)
    connection = duckdb.connect(":memory:", config=config)
    # A query of more than two seconds would otherwise draw a bar on stdout, even into a pipe.
    connection.execute("SET enable_progress_bar = false")
    return connection
