"""Several things at once until the first of them is over."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def race(runner: Coroutine[Any, Any, T], *others: Coroutine[Any, Any, object]) -> T | None:
    """Run all until one ends, cancel the rest and wait for their end.

    The result of `runner`, or None if another was first. Whatever a task raised that ended
    by itself is raised, the runner's error before the others'.
    """
    tasks: list[asyncio.Task[Any]] = [asyncio.ensure_future(each) for each in (runner, *others)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled() and (error := task.exception()):
            raise error
    return None if tasks[0].cancelled() else tasks[0].result()
