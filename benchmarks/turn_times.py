"""Our server with a look at its event loop: how long one turn of it keeps everybody waiting.

Processor time, which neighbours on the machine disturb less than the clock.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from segexport.settings import Settings
from served import Served, ours


class Watched:
    """A server, and the longest turn of its loop."""

    def __init__(self, served: Served, loop: Any) -> None:
        self._served = served
        self._longest = 0.0
        self._turn = loop._run_once  # noqa: SLF001  (asyncio has no public place for this)
        loop._run_once = self._timed  # noqa: SLF001

    def where(self) -> tuple[str, Mapping[str, str]]:
        """The address and the headers."""
        return self._served.where()

    def longest(self) -> float:
        """Seconds of the longest turn since this was last asked."""
        longest, self._longest = self._longest, 0.0
        return longest

    def _timed(self) -> None:
        began = time.thread_time()
        self._turn()
        self._longest = max(self._longest, time.thread_time() - began)


@asynccontextmanager
async def watched(settings: Settings) -> AsyncIterator[Watched]:
    """The interfaces, which want a key."""
    async with ours(settings, True) as served:
        yield Watched(served, asyncio.get_running_loop())
