"""Plain copies on DuckDB: what exports and loads are held against."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import duckdb

from segexport.database import open_database
from segexport.settings import Settings
from segexport.sql import file_to_write, parquet

MARKED: Final = "marked"


class Copier:
    """DuckDB's `COPY`, within the limits that the worker has."""

    def __init__(self, database: duckdb.DuckDBPyConnection, target: Path) -> None:
        self._database = database
        self._target = target

    def copy(self, relation: str) -> int:
        """COPY what stands behind FROM; the rows."""
        return self._copy(f"FROM {relation}")

    def mark(self, relation: str, rows: int, file: Path) -> None:
        """Write a copy in which so many rows, scattered over the whole, are marked."""
        self._database.execute(
            f"""COPY (
                SELECT * EXCLUDE place,
                    row_number() OVER (ORDER BY hash(place)) <= {rows} AS {MARKED}
                FROM (SELECT *, row_number() OVER () AS place FROM {relation}) ORDER BY place
            ) TO {file_to_write(file)} (FORMAT parquet)"""
        )

    def copy_marked(self, file: Path) -> int:
        """Scan everything, COPY what is marked; the rows."""
        return self._copy(f"SELECT * EXCLUDE {MARKED} FROM {parquet([file])} WHERE {MARKED}")

    def _copy(self, query: str) -> int:
        copying = f"COPY ({query}) TO {file_to_write(self._target)} (FORMAT parquet)"
        ((rows,),) = self._database.execute(copying).fetchall()
        return int(rows)


@asynccontextmanager
async def copier(settings: Settings, target: Path) -> AsyncIterator[Copier]:
    """Copies to the file `target`, over and over."""
    exports = settings.exports
    with open_database(
        threads=exports.threads,
        memory_limit=exports.memory_limit,
        spill=target.with_suffix(".spill"),
    ) as database:
        yield Copier(database, target)
