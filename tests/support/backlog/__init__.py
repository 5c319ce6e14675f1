"""A store with undelivered events as the version before contract version 2 has left it.

    store.sql       its schema and its rows, as that version has written them
    records.ndjson  the records that its relay would have sent, in order

Jobs 101 to 107 have ended: 101, 103, 104 and 106 say so in URI form, the others in compact
form; 103 speaks the dialect journey-optimizer; 104 has failed, 105, a retry, was cancelled.
Four of them have discards. Of 106 the second discard is parked, of 107 the end, and for each a
replay is asked for. 108 was submitted and has not begun.
"""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import duckdb

from segexport.store.discards import DiscardRow, fingerprint

FOLDER: Final = Path(__file__).parent
PARKED: Final = (106, 107)
WAITING: Final = 108
DISCARDS: Final[Sequence[DiscardRow]] = (
    ("ups", "spring-sale", 1042, "ERROR_INSTANCE_BAD_NAMESPACE"),
    ("crm", "gold", 977, "ERROR_INSTANCE_DUPLICATION"),
    ("ups", "spring-sale", 977, "ERROR_INSTANCE_DUPLICATION"),
)


def records() -> list[dict[str, Any]]:
    """Key, value and headers of each record, as text."""
    lines = (FOLDER / "records.ndjson").read_text().splitlines()
    return [json.loads(line) for line in lines]


def write_store(path: Path) -> None:
    """Write the store file, and its discard file beside it."""
    discards = path.with_name("discards.parquet")
    with duckdb.connect() as database:
        database.execute(
            "CREATE TABLE discards"
            " (segment_namespace VARCHAR, segment VARCHAR, person_id BIGINT, code VARCHAR)"
        )
        database.executemany("INSERT INTO discards VALUES (?, ?, ?, ?)", DISCARDS)
        database.execute(f"COPY discards TO '{discards}' (FORMAT parquet)")
    statements = (
        (FOLDER / "store.sql")
        .read_text()
        .replace("DISCARD-FINGERPRINT", fingerprint(discards))
        .replace("DISCARD-FILE", str(discards))
    )
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(statements)
