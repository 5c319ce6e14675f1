"""Threads that can be made to let go of what they wait for.

A request to an object store takes as long as the network likes, and a cancelled job must
not wait for it. Whoever starts a thread gives it an event to be told by; whatever waits in
that thread for something that runs elsewhere waits through `outcome`. The event travels in
the thread's context, because between the two lie engines, datasets and publication, none
of which would do anything with it but pass it on. So does the time that whoever has somebody
waiting for an answer gives it with `within`.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
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
_until: ContextVar[float | None] = ContextVar("until", default=None)


def interruptible(call: Callable[[], T], told: threading.Event) -> Callable[[], T]:
    """`call`, made to let go of what it waits for once `told` is set."""

    def told_by_event() -> T:
        _told.set(told)
        return call()

    return partial(copy_context().run, told_by_event)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Have `outcome` wait no longer than this inside the block, all requests together."""
    token = _until.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _until.reset(token)


def outcome(running: Future[T]) -> T:
    """Wait for what runs elsewhere.

    Raises what it raises, `ExportCancelled` when told, and TimeoutError when the time is over.
    """
    told, until = _told.get(), _until.get()
    if until is not None and not wait({running}, max(0.0, until - time.monotonic())).done:
        running.cancel()
        raise TimeoutError("no answer in time")
    if told is not None:
        while not told.is_set() and not wait({running}, _BETWEEN_LOOKS).done:
            pass
        if told.is_set() and not wait({running}, GRACE).done:
            running.cancel()
            raise ExportCancelled("told to let go of a request to the object store")
    return running.result()
