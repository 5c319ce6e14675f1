"""Finding the one record that the broker refuses among thousands that it would take."""

from typing import Final

from segexport.relay.parcel import Origin
from segexport.relay.schedule import Bounds

SPLIT: Final = 8
"""A refused batch is cut into this many."""
BATCHES: Final = 64
"""How many of the smaller batches a transaction holds: one request each, if need be."""


class Caution:
    """How small batches must be for a refusal to name its culprit.

    The broker refuses a batch as a whole. Batches are made smaller with each refusal until
    the refused one holds a single record, and stay so until as many records have passed as
    the first refused transaction had. A culprit must be refused twice in a row: what was
    damaged on its way is sound the second time.
    """

    def __init__(self) -> None:
        self._batch: int | None = None
        self._left = 0
        self._suspect: Origin | None = None

    @property
    def batch(self) -> int | None:
        """How many records a batch may hold; None: as many as fit."""
        return self._batch

    def limit(self, usual: Bounds) -> Bounds:
        """The bounds of the next transaction."""
        if self._batch is None:
            return usual
        return Bounds(usual.size, usual.seconds, min(usual.records, self._batch * BATCHES))

    def refused(self, first: Origin, batch: int, transaction: int) -> bool:
        """Note a refused batch, its first record and its size, out of a transaction's.

        True if that first record is now known to be the culprit.
        """
        if batch > 1:
            self._batch = max(1, batch // SPLIT)
            self._left = max(self._left, transaction)
            return False
        if self._suspect != first:
            self._suspect = first
            return False
        self._suspect = None
        self._batch, self._left = None, 0
        return True

    def delivered(self, records: int) -> None:
        """Note that a transaction has passed."""
        self._left -= records
        if self._left <= 0:
            self._batch, self._left = None, 0
