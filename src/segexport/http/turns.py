"""Work that clients can ask for at will, done a little in each turn of the event loop.

Whatever the loop does for one client, all others wait for, and so do leases. So what grows with
what a client sends is put into one line for the whole loop, and each turn takes no more from it
than its share: a hundred clients that send as much as they can make each other wait, and not the
turns longer.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Final, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

SHARE: Final = 0.001
"""Seconds of a turn; what is begun is finished, so one piece of work may take longer."""
LARGE: Final = 4 * 1024
"""Bytes of a request, or its body, from which on it is begun and ended in a turn of its own."""

_Given = ParamSpec("_Given")
_Made = TypeVar("_Made")


class Turns:
    """The line of one event loop: first come, first served."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting = deque[tuple[Callable[[], None], bool]]()
        self._is_due = False

    def call(self, function: Callable[[], None], *, alone: bool = False) -> None:
        """Have a function called in a later turn; `alone`, if it makes work beyond its own."""
        self._waiting.append((function, alone))
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._work)

    async def run(
        self, function: Callable[_Given, _Made], *args: _Given.args, **kwargs: _Given.kwargs
    ) -> _Made:
        """What a function returns, or raises, when its turn has come."""
        made: asyncio.Future[_Made] = self._loop.create_future()

        def make() -> None:
            if made.cancelled():
                return
            try:
                made.set_result(function(*args, **kwargs))
            except Exception as error:  # noqa: BLE001  (it is raised where it is waited for)
                made.set_exception(error)

        self.call(make)
        return await made

    async def alone(self) -> None:
        """Wait for a turn in which nobody else from the line begins what makes work."""
        begun = asyncio.Event()
        self.call(begun.set, alone=True)
        await begun.wait()

    def _work(self) -> None:
        end = perf_counter() + SHARE
        try:
            while self._waiting:
                function, is_alone = self._waiting.popleft()
                function()
                if is_alone or perf_counter() >= end:
                    break
        finally:
            self._is_due = bool(self._waiting)
            if self._is_due:
                self._loop.call_soon(self._work)


_OF_LOOPS: Final = WeakKeyDictionary[asyncio.AbstractEventLoop, Turns]()


def turns() -> Turns:
    """The line of the loop that runs."""
    loop = asyncio.get_running_loop()
    if loop not in _OF_LOOPS:
        _OF_LOOPS[loop] = Turns(loop)
    return _OF_LOOPS[loop]
