"""Logs: readable on a terminal, JSON otherwise."""

import logging
import sys
import time
from collections.abc import Callable
from typing import Final, Literal

import structlog

from segexport.printable import printable

_OF_LINES: Final = {"exception", "stack"}
_traceback: Final = structlog.dev.RichTracebackFormatter(show_locals=False)
"""Without the values of variables, which structlog's own choice shows: some are secrets."""


def _printable(
    logger: object,  # noqa: ARG001  (structlog's signature)
    method: str,  # noqa: ARG001  (as above)
    line: structlog.typing.EventDict,
) -> structlog.typing.EventDict:
    """Values of others move nothing on a terminal; JSON is free of such letters by itself."""
    return {
        name: printable(value) if isinstance(value, str) and name not in _OF_LINES else value
        for name, value in line.items()
    }


class Seldom(logging.Filter):
    """Passes a warning once in `pause` seconds, with how many of its kind were held back.

    For what any stranger can bring about as often as he likes. Errors always pass.
    """

    def __init__(self, pause: float = 60.0, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._pause = pause
        self._clock = clock
        self._next: dict[str, float] = {}
        self._held: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record passes. Its message before the arguments are put in is its kind."""
        if record.levelno != logging.WARNING:
            return True
        kind, now = str(record.msg), self._clock()
        if now < self._next.get(kind, now):
            self._held[kind] = self._held.get(kind, 0) + 1
            return False
        self._next[kind] = now + self._pause
        held = self._held.pop(kind, 0)
        if held:
            record.msg = f"{kind} ({held} more since it was last said)"
        return True


OF_STRANGERS: Final = ("asyncio", "uvicorn.error")
"""Loggers that warn of what any client can bring about."""

_seldom: Final = Seldom()


def configure_logging(
    *, style: Literal["auto", "console", "json"] = "auto", level: str = "info"
) -> None:
    """Send structlog's events and the standard library's records to stderr in one form.

    `auto` is `console` where stderr is a terminal and `json` elsewhere. Keys such as
    `job_id` and `event_id` that are bound with `structlog.contextvars` appear in every line.
    """
    console = sys.stderr.isatty() if style == "auto" else style == "console"
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    render: list[structlog.typing.Processor] = (
        [_printable, structlog.dev.ConsoleRenderer(exception_formatter=_traceback)]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # aiokafka reports every reconnect; the relay says once that the broker is away.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    for name in OF_STRANGERS:
        logging.getLogger(name).addFilter(_seldom)
    # When debugging they tell the headers of requests to S3, session tokens among them.
    for name in ("aiobotocore", "botocore"):
        logging.getLogger(name).setLevel(logging.INFO)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
