"""Threads that can be made to let go of what they wait for.

A request to an object store takes as long as the network likes, and a cancelled job must
not wait for it. Whoever starts a thread gives it an event to be told by; whatever waits in
that thread for something that runs elsewhere waits through `outcome`. The event travels in
the thread's context, because between the two lie engines, datasets and publication, none
of which would do anything with it but pass it on.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Final, TypeVar

from segexport.errors import ExportCancelled

T = TypeVar("T")

GRACE: Final = 0.2
"""Seconds that a request may take on after its thread was told. One that is nearly done
ends, so that what it made is there to be swept; all others are broken off."""
_BETWEEN_LOOKS: Final = 0.02

_told: ContextVar[threading.Event | None] = ContextVar("told", default=None)


def interruptible(call: Callable[[], T], told: threading.Event) -> Callable[[], T]:
    """`call`, made to let go of what it waits for once `told` is set."""

    def told_by_event() -> T:
        _told.set(told)
        return call()

    return partial(copy_context().run, told_by_event)


def outcome(running: Future[T]) -> T:
    """Wait for what runs elsewhere. Raises what it raises, and `ExportCancelled` when told."""
    told = _told.get()
    if told is not None:
        while not told.is_set() and not wait({running}, _BETWEEN_LOOKS).done:
            pass
        if told.is_set() and not wait({running}, GRACE).done:
            running.cancel()
            raise ExportCancelled("told to let go of a request to the object store")
    return running.result()
