"""Waiting for something to become true, with a deadline."""

import asyncio
import time
from collections.abc import Awaitable, Callable

_PAUSE = 0.05


def wait_until(holds: Callable[[], bool], patience: float, what: str) -> None:
    """Ask again and again for `patience` seconds; fail with `what` was expected."""
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, f"after {patience:g} s still not so: {what}"
        time.sleep(_PAUSE)


async def until(holds: Callable[[], Awaitable[bool]], patience: float, what: str) -> None:
    """As `wait_until`, for what has to be awaited."""
    deadline = time.monotonic() + patience
    while not await holds():
        assert time.monotonic() < deadline, f"after {patience:g} s still not so: {what}"
        await asyncio.sleep(_PAUSE)
