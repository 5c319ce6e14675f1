"""What a signed request that is sent again must not change.

AWS's clients do not sign the id that they give a call, so whoever has recorded a request can
send it again under another one, for as long as its signature is believed.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from segexport.http.sigv4 import TOLERANCE

KEPT: Final = 2 * TOLERANCE.total_seconds()
"""Seconds for which a signature may be believed: its time may lie ahead of ours as well."""


class Calls:
    """Which call each signature has stood for since it was first seen, in this process."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen = OrderedDict[str, tuple[str, float]]()

    def of(self, signature: str, call: str) -> str:
        """The call that a verified signature came with first: this one, if it is new."""
        now = self._clock()
        while self._seen and next(iter(self._seen.values()))[1] < now - KEPT:
            self._seen.popitem(last=False)
        return self._seen.setdefault(signature, (call, now))[0]
