"""How often organizations may ask."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from segexport.errors import TooManyRequests


class Rates:
    """How many requests organizations may make: `rate` a second, `burst` at once.

    One process counts what it serves itself.
    """

    KEPT: Final = 10_000
    """Organizations that are remembered; one that is forgotten begins with a full burst."""

    def __init__(
        self, rate: float, burst: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._left = OrderedDict[str, tuple[float, float]]()  # requests left, as of when

    def take(self, organization: str) -> None:
        """Count a request. Raises `TooManyRequests`."""
        now = self._clock()
        left, since = self._left.pop(organization, (float(self._burst), now))
        left = min(self._burst, left + (now - since) * self._rate)
        refused = left < 1
        self._left[organization] = (left if refused else left - 1, now)
        if len(self._left) > self.KEPT:
            self._left.popitem(last=False)
        if refused:
            raise TooManyRequests(math.ceil((1 - left) / self._rate))
