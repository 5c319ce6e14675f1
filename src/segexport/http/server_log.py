"""What uvicorn says of connections, in our words."""

import logging
from collections.abc import Mapping, MutableMapping
from types import MappingProxyType
from typing import Any, Final

_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Invalid HTTP request received.": "what has been received is no HTTP request",
        "Exceeded concurrency limit.": "a request is refused: there are more connections than "
        "http.max_connections",
    }
)


class ServerLog(logging.LoggerAdapter[logging.Logger]):
    """uvicorn's logger of errors. What any client can bring about is no warning for each time:
    `telemetry.Seldom` holds it back."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__(logger)

    @property
    def level(self) -> int:
        """The logger's own."""
        return self.logger.level

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """A message in our words, where we have other ones."""
        return _WORDS.get(msg, msg), kwargs
