"""The file: opening it, making sure it is a store of this version, explaining what fails."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from segexport.errors import StoreError, StoreTooNew, StoreUnavailable
from segexport.store.migrations import HEAD, REVISIONS
from segexport.store.store import StoreIdentity

APPLICATION_ID: Final = 0x53454758
"""'SEGX' in the file's header tells a store from any other SQLite file."""

_OLDEST_SQLITE: Final = (3, 35, 0)
"""The first with RETURNING."""
LOG_BYTES: Final = 16 * 1024 * 1024
"""The write-ahead log is copied into the file when it grows above this, then cut to it."""
_CREATION_RETRY: Final = 0.01
"""Seconds until the creation of a store is tried again."""
WRITER_CACHE: Final = 16 << 20
"""Bytes of pages that the connection that writes keeps, of all that it has touched."""
READER_CACHE: Final = 4 << 20
"""Bytes of pages that a connection that reads keeps: several pages of a list. It forgets them
all when another connection has committed, so more serves a store that rests."""

_DAMAGED: Final = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}

TROUBLE: Final = (sqlite3.Error, OSError)
"""What a file, its folder or its disk can bring about: `explain` has words for it."""


def is_busy(error: Exception) -> bool:
    """Whether another connection held a lock."""
    return _primary_code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def explain(error: sqlite3.Error | OSError, path: Path) -> StoreError:
    """What SQLite or the system reports, as an error that says what to do about it."""
    code = _primary_code(error)
    if is_busy(error):
        return StoreUnavailable(
            f"the store {path} stayed locked by another process; "
            "find the one that holds it, or try again"
        )
    if code in _DAMAGED:
        return StoreError(
            f"{path} is not a SQLite database, or is damaged ({error}); "
            "name another file, or restore the store from a backup"
        )
    if code == sqlite3.SQLITE_FULL:
        return StoreUnavailable(f"no space is left for the store {path} ({error}); make room")
    if isinstance(error, sqlite3.OperationalError | OSError):
        return StoreUnavailable(
            f"the store {path} cannot be used ({error}); "
            "check that its folder exists, is writable and lies on a local disk"
        )
    return StoreError(f"the store {path} refuses what it was given ({error})")


def connect(
    path: Path,
    patience: timedelta,
    *,
    cache: int = WRITER_CACHE,
    read_only: bool = False,
    opened: Callable[[], None] = lambda: None,
) -> sqlite3.Connection:
    """A connection that waits up to `patience` for locks and commits durably.

    It keeps `cache` bytes of pages. May be used from any one thread at a time. `opened` is called
    when SQLite has opened the file, and not yet its log: what it raises ends that, without a trace
    in either.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro" if read_only else path,
        uri=read_only,
        timeout=patience.total_seconds(),
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        opened()
        _set_up(connection, cache)
    except BaseException:
        connection.close()
        raise
    return connection


def _set_up(connection: sqlite3.Connection, cache: int) -> None:
    # FULL: a commit is on the disk when it returns, also when the power fails.
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute(f"PRAGMA cache_size=-{cache // 1024}")
    # The writer does that at a time of its own, and safely.
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute(f"PRAGMA journal_size_limit={LOG_BYTES}")


def prepare(path: Path, *, patience: timedelta, new_id: Callable[[], UUID]) -> StoreIdentity:
    """Create the store if the file is new, bring it to this version if it is older.

    Raises `StoreTooNew` for a file of a later version, `StoreError` for a file that is
    something else, `StoreUnavailable` if it cannot be opened, read or written.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise StoreError(
            f"this Python comes with SQLite {sqlite3.sqlite_version}; the store needs "
            f"{'.'.join(map(str, _OLDEST_SQLITE))} or newer: use a newer Python"
        )
    if not path.parent.is_dir():
        raise StoreUnavailable(
            f"the store {path} cannot be opened: there is no folder {path.parent}; create it"
        )
    until = time.monotonic() + patience.total_seconds()
    with explained(path), closing(connect(path, patience)) as connection:
        while not _is_in_order(connection, path):
            try:
                _use_write_ahead_log(connection, path)
                if _version(connection, path) != HEAD:
                    _upgrade(connection, path, new_id)
            except sqlite3.OperationalError as error:
                # SQLite does not wait where two that create a store wait for each other.
                if not is_busy(error) or time.monotonic() > until:
                    raise
                time.sleep(_CREATION_RETRY)
        return identity(connection)


def log_size(path: Path) -> int:
    """Bytes of the write-ahead log."""
    try:
        return log_of(path).stat().st_size
    except FileNotFoundError:
        return 0


def log_of(path: Path) -> Path:
    """The write-ahead log: SQLite puts it beside the file itself, and not beside a link to it."""
    real = path.resolve()
    return real.with_name(f"{real.name}-wal")


def log_index_of(path: Path) -> Path:
    """The index of the write-ahead log."""
    real = path.resolve()
    return real.with_name(f"{real.name}-shm")


def identity(connection: sqlite3.Connection) -> StoreIdentity:
    """Which store this is."""
    store_id, generation = connection.execute("SELECT id, generation FROM store").fetchone()
    return StoreIdentity(UUID(bytes=store_id), generation)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Errors of SQLite and of the system leave the block as errors that say what to do."""
    try:
        yield
    except TROUBLE as error:
        raise explain(error, path) from error


def _primary_code(error: Exception) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _version(connection: sqlite3.Connection, path: Path) -> str | None:
    """The file's schema version; None for a file without anything in it."""
    # In this order: another process may create the store, in one transaction, in between.
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if application_id != APPLICATION_ID:
        if application_id or tables:
            raise StoreError(
                f"{path} is a SQLite database, but not a store of segexport; name another file"
            )
        return None
    (version,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    if version not in REVISIONS:
        raise StoreTooNew(
            f"the store {path} has schema version {version}, written by a later segexport; this "
            f"one knows versions up to {HEAD}. Run the later segexport, or name another file"
        )
    return str(version)


def _is_in_order(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file is a store of this version, and in WAL mode.

    A copy may not be, such as one by VACUUM INTO; each commit then waits for all readers.
    """
    return _version(connection, path) == HEAD and _journal_mode(connection) == "wal"


def _journal_mode(connection: sqlite3.Connection, wanted: str = "") -> str:
    (mode,) = connection.execute(f"PRAGMA journal_mode{wanted}").fetchone()
    return str(mode)


def _use_write_ahead_log(connection: sqlite3.Connection, path: Path) -> None:
    # Outside of any transaction: SQLite changes the journal mode nowhere else. It stays
    # with the file.
    if _journal_mode(connection, "=WAL") != "wal":
        raise StoreError(
            f"the store {path} cannot keep a write-ahead log where it lies; move it to a local disk"
        )


def _upgrade(connection: sqlite3.Connection, path: Path, new_id: Callable[[], UUID]) -> None:
    # Here and not above: a store that is up to date must open without these two libraries.
    from sqlalchemy import StaticPool, create_engine  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    from segexport.store.migrations.upgrade import upgrade  # noqa: PLC0415

    # Scripts may rebuild tables that others refer to; the check below makes up for it.
    connection.execute("PRAGMA foreign_keys=OFF")
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    try:
        with engine.begin() as transaction:
            # SQLAlchemy leaves the beginning to the driver, and the driver to us.
            connection.execute("BEGIN IMMEDIATE")
            # Once more, with the lock held: another process may have been faster.
            version = _version(connection, path)
            upgrade(transaction)
            if version is None:
                connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                connection.execute(
                    "INSERT INTO store (singleton, id, generation) VALUES (1, ?, 1)",
                    (new_id().bytes,),
                )
            _require_references(connection, path)
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.Error):
            raise explain(error.orig, path) from error
        raise


def _require_references(connection: sqlite3.Connection, path: Path) -> None:
    broken = connection.execute("PRAGMA foreign_key_check").fetchone()
    if broken is not None:
        raise StoreError(
            f"upgrading the store {path} was given up: a row of {broken[0]!r} would refer to "
            f"nothing in {broken[2]!r}; restore a backup, or keep the version that wrote it"
        )
