"""Commits, counted, and those who wait for the next one."""

import asyncio
from datetime import timedelta


class Changes:
    """A counter of commits, on the event loop."""

    def __init__(self) -> None:
        self.count = 0
        self._next = asyncio.get_running_loop().create_future()

    def note(self) -> None:
        """Something was committed: wake everybody who waits."""
        self.count += 1
        self._next.set_result(None)
        self._next = asyncio.get_running_loop().create_future()

    async def wait(self, seen: int, patience: timedelta) -> int:
        """The count as soon as it differs from `seen`, or when `patience` has run out."""
        if self.count == seen:
            await asyncio.wait([self._next], timeout=patience.total_seconds())
        return self.count
