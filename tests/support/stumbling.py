"""Clients of aiokafka that stumble over an answer, as the library does over a strange one."""

import asyncio
import functools
import inspect
import struct
from collections.abc import Iterator
from typing import Any, Final

ERRORS: Final = (
    KeyError("answer"),
    TypeError("'NoneType' object is not subscriptable"),
    struct.error("unpack requires a buffer of 4 bytes"),
    AttributeError("'NoneType' object has no attribute 'nodeId'"),
    AssertionError("Invalid state transition"),
    asyncio.CancelledError(),
)
"""What nobody asked for, in turn."""


class Stumbles:
    """Where the clients stumble: in `call`, each time over the next error, then no more.

    `heard` whether the broker has been asked before.
    """

    def __init__(self, call: str, *, heard: bool = False) -> None:
        self.call = call
        self.heard = heard
        self.left: Iterator[BaseException] = iter(ERRORS)
        self.happened = 0

    def class_of(self, client: type[Any]) -> type[Any]:
        """A kind of `client` that does so."""
        kind = client.__name__.removeprefix("AIOKafka").removesuffix("Client").lower()
        role, _, name = self.call.partition(" ")
        if role != kind:
            return client
        return type(f"Stumbling{client.__name__}", (client,), {name: self._of(client, name)})

    def _of(self, client: type[Any], name: str) -> Any:
        original = getattr(client, name)

        @functools.wraps(original)
        def stumble(*given: Any, **named: Any) -> Any:
            if not self.heard:
                self._fall()
            result = original(*given, **named)
            if self.heard:
                self._fall()
            return result

        @functools.wraps(original)
        async def stumble_later(*given: Any, **named: Any) -> Any:
            if not self.heard:
                self._fall()
            result = await original(*given, **named)
            if self.heard:
                self._fall()
            return result

        return stumble_later if inspect.iscoroutinefunction(original) else stumble

    def _fall(self) -> None:
        error = next(self.left, None)
        if error is not None:
            self.happened += 1
            raise error
