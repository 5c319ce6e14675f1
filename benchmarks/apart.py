"""One side of a comparison in a process of its own, whose peak of memory is nobody else's.

    async with apart(copier, settings) as side:
        ran = await side.run("copy", relation)

The process enters `copier(settings)`, an async context manager, and keeps it open; calls name
a method of what it gave, sync or async. Arguments and answers are pickled. Where a call fails,
the process prints why and ends. Peaks of memory are the kernel's (Linux).
"""

import asyncio
import gc
import inspect
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, TypeAlias

from measure import Ran, items_of

Opening: TypeAlias = Callable[..., AbstractAsyncContextManager[Any]]
"""Importable by name: the process begins with an interpreter of its own."""

_SPAWN: Final = get_context("spawn")
_STATUS: Final = Path("/proc/self/status")
_CLEAR_REFS: Final = Path("/proc/self/clear_refs")
_RESET_PEAK: Final = "5"


class Apart:
    """What was opened in the other process; one call at a time."""

    def __init__(self, pipe: "Connection[Any, Any]") -> None:
        self._pipe = pipe

    async def call(self, method: str, *arguments: Any) -> Any:
        """The answer of a method."""
        answer, _ = await self._ask(method, arguments)
        return answer

    async def run(self, method: str, *arguments: Any) -> Ran:
        """What a method took, for as many items as it answers, or for one."""
        _, ran = await self._ask(method, arguments)
        return ran

    async def _ask(self, method: str, arguments: tuple[Any, ...]) -> tuple[Any, Ran]:
        try:
            self._pipe.send((method, arguments))
            answer, ran = await asyncio.to_thread(self._pipe.recv)
        except (EOFError, ConnectionError):
            raise RuntimeError(f"{method} has failed; its process has printed why") from None
        return answer, ran


@asynccontextmanager
async def apart(opening: Opening, *arguments: Any) -> AsyncIterator[Apart]:
    """A process with `opening(*arguments)` open in it, for as long as the block lasts."""
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_serve, args=(theirs, opening, arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Apart(ours)
    finally:
        ours.close()  # which the process takes for its end
        await asyncio.to_thread(process.join)


def _serve(pipe: "Connection[Any, Any]", opening: Opening, arguments: tuple[Any, ...]) -> None:
    asyncio.run(_answer(pipe, opening, arguments))


async def _answer(
    pipe: "Connection[Any, Any]", opening: Opening, arguments: tuple[Any, ...]
) -> None:
    async with opening(*arguments) as opened:
        while (call := await asyncio.to_thread(_next_call, pipe)) is not None:
            method, given = call
            pipe.send(await _timed(getattr(opened, method), given))


def _next_call(pipe: "Connection[Any, Any]") -> tuple[str, tuple[Any, ...]] | None:
    with suppress(EOFError):
        method, arguments = pipe.recv()
        return method, arguments
    return None


async def _timed(method: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, Ran]:
    gc.collect()
    with suppress(OSError):  # where it is not allowed, peaks are those since the beginning
        _CLEAR_REFS.write_text(_RESET_PEAK)
    processor, began = time.process_time(), time.perf_counter()
    answer = method(*arguments)
    if inspect.isawaitable(answer):
        answer = await answer
    seconds, processor = time.perf_counter() - began, time.process_time() - processor
    return answer, Ran(items_of(answer, 1), seconds, processor, peak())


def peak() -> int:
    """The most memory that this process has had resident, in bytes."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"{_STATUS} has no VmHWM")
