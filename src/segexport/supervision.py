"""One rule for every thread and task that is to run for as long as the service does.

Such a part waits out the trouble that it knows: a store, broker or provider that is away. Any
other error, and an end that nobody asked for, is the end of the service: whoever waits for the
part is told, readiness is over, and the process ends with the reason. A service that lost a part
and went on would answer and do nothing.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final

import structlog

from segexport.errors import PartFailed, SegexportError

log: Final = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the service cannot go on, and in which part that was."""

    part: str
    error: SegexportError


class Supervisor:
    """Starts the parts of a service, and knows the first failure among them."""

    def __init__(self) -> None:
        self._failed = asyncio.Event()
        self._stopping = False
        self.failure: Failure | None = None
        """The first; None as long as the service can go on."""

    def start(self, part: str, running: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a part as a task. `part` is its name for people, such as `relay`.

        Its error of ours is the failure as it is; any other is logged with its traceback and
        becomes a `PartFailed`, as does a return before `stop`.
        """
        task = asyncio.create_task(running, name=part)
        task.add_done_callback(self._note_end)
        return task

    def stop(self) -> None:
        """From now on parts may end: they are told to."""
        self._stopping = True

    async def failed(self) -> None:
        """Return when a part has failed."""
        await self._failed.wait()

    def require_sound(self) -> None:
        """Raise the failure, if there is one."""
        if self.failure is not None:
            raise self.failure.error

    def _note_end(self, task: asyncio.Task[None]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if self._stopping and (error is None or task.cancelled()):
            return
        part = task.get_name()
        if not isinstance(error, SegexportError):
            log.error("a part of the service has failed", part=part, exc_info=error)
            error = PartFailed(part, error)
        self.failure = self.failure or Failure(part, error)
        self._failed.set()
