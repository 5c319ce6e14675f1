"""Takes persons out of the discard files of finished jobs.

A discard file keeps its rows, their order and their number: events and counts go on to
agree with it. What goes is the person's id, in whose place the row's own place stands.
"""

from collections.abc import Collection
from pathlib import Path

import duckdb

from segexport.database import open_database
from segexport.errors import DiscardFileUnusable
from segexport.exports.publishing import fixed
from segexport.jobs.publication import DiscardFile
from segexport.sql import file_to_write, parquet
from segexport.store.discards import require_no_link


def rows_of(file: DiscardFile, persons: Collection[int]) -> int:
    """How many rows name one of these persons. Raises `DiscardFileUnusable`."""
    require_no_link(Path(file.path))
    with open_database() as database:
        try:
            ((rows,),) = database.execute(
                f"SELECT count(*) FROM {parquet([Path(file.path)])} WHERE {_one_of(persons)}"
            ).fetchall()
        except duckdb.Error as error:
            raise _unreadable(file, error) from error
    return int(rows)


def redacted(file: DiscardFile, persons: Collection[int]) -> DiscardFile:
    """A copy of the file without these persons, on disk beside it.

    Raises `DiscardFileUnusable` if it cannot be read, `DatasetError` if it cannot be copied.
    """
    path = Path(file.path)
    job, _, revision = path.stem.partition(".")
    copy = path.with_name(f"{job}.{int(revision or 0) + 1}.parquet")
    with open_database(threads=1) as database:  # one thread keeps the order
        try:
            database.execute(
                f"""COPY (
                    SELECT segment_namespace, segment,
                           CASE WHEN {_one_of(persons)} THEN file_row_number + 1
                                ELSE person_id END AS person_id, code
                    FROM {parquet([path], numbered=True)}
                ) TO {file_to_write(copy)} (FORMAT parquet)"""
            )
        except duckdb.Error as error:
            raise _unreadable(file, error) from error
    return fixed(copy, rows=file.rows, final=copy)


def sweep(job_id: int, file: DiscardFile) -> None:
    """Delete every discard file of the job but this one: what it took the place of."""
    path = Path(file.path)
    for other in (path.with_name(f"{job_id}.parquet"), *path.parent.glob(f"{job_id}.*.parquet")):
        if other != path:
            other.unlink(missing_ok=True)


def _one_of(persons: Collection[int]) -> str:
    return f"person_id IN ({', '.join(map(str, sorted(persons)))})"


def _unreadable(file: DiscardFile, error: duckdb.Error) -> DiscardFileUnusable:
    said = str(error).partition("\n")[0]
    return DiscardFileUnusable(
        f"persons cannot be erased from the discard file {file.path} ({said}); bring the file "
        "back, and make sure that its folder can be written"
    )
