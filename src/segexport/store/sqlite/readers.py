"""Reading beside the writer, in threads of its own."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, LifoQueue
from typing import TypeVar

from segexport.errors import StoreError, StoreUnavailable
from segexport.store.sqlite.file import READER_CACHE, TROUBLE
from segexport.store.sqlite.watch import Watch

T = TypeVar("T")


class Readers:
    """A few connections that see what is committed. A read is one statement, so one snapshot."""

    def __init__(
        self,
        watch: Watch,
        explain: Callable[[sqlite3.Error | OSError], StoreError],
        size: int = 4,
    ) -> None:
        self._watch = watch
        self._explain = explain
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="store-reader")
        self._idle = LifoQueue[sqlite3.Connection]()
        self._closed = False

    async def run(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """The result of `read`, which runs in another thread."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, read)

    async def close(self) -> None:
        """Let running reads end, then let go of the file."""
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown)
        while not self._idle.empty():
            self._idle.get_nowait().close()

    def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        try:
            self._watch.require_same()
            connection = self._take()
            try:
                result = read(connection)
            except BaseException:
                connection.close()
                raise
            self._idle.put(connection)
        except TROUBLE as error:
            raise self._explain(error) from error
        return result

    def _take(self) -> sqlite3.Connection:
        # Each thread holds one at a time, so there are never more of them than threads.
        try:
            return self._idle.get_nowait()
        except Empty:
            return self._watch.connect(cache=READER_CACHE)
