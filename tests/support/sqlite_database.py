"""A SQLite file for tests, with a clock that the test moves."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from segexport.store.sqlite import SqliteStore


class SqliteDatabase:
    """Opens stores over one file, all on the same clock, and closes them in the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ahead = timedelta()
        self._stores: list[SqliteStore] = []

    async def open(self, *, patience: timedelta = timedelta(seconds=10)) -> SqliteStore:
        store = await SqliteStore.open(self.path, clock=self._now, patience=patience)
        self._stores.append(store)
        return store

    def advance(self, duration: timedelta) -> None:
        self._ahead += duration

    async def close(self) -> None:
        for store in self._stores:
            await store.close()

    def _now(self) -> datetime:
        return datetime.now(UTC) + self._ahead
