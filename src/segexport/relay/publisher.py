"""What the relay needs of a broker.

A publisher lives once. After any failure, known or of unknown outcome, it is closed and
never used again: the next one's `start` fences it, resolves what it has left open, and
reads from the topic how far delivery really is. aiokafka's producer could go on after some
failures, but not after all (a batch that was refused leaves a gap in its sequence numbers,
an EndTxn without an answer may still take effect later), and one way back is easier to
trust than three.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from segexport.errors import DeliveryError
from segexport.relay.parcel import Origin, Parcel
from segexport.relay.position import Position


class RecordsRefused(DeliveryError):
    """The broker refuses a batch: one of its records will not do, or all of them."""

    code = "delivery.refused"

    def __init__(self, first: Origin, records: int, reason: str) -> None:
        self.first = first
        self.records = records
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class EventsTopic:
    """The events topic as a publisher has found it.

    `id` is None where brokers give none. `is_empty`: no record was ever in it.
    """

    id: UUID | None
    is_empty: bool


class Publisher(Protocol):
    """Takes parcels to a topic. Every method ends in bounded time.

    All raise a `DeliveryError`: `RelayFenced` when another relay has taken over,
    `RecordsRefused` when the topic does not want what was sent.
    """

    async def start(self, check: Callable[[Position], None] | None = None) -> Position | None:
        """Take over from whoever was before, and read the position; None if there is none.

        What `check` raises about the position as far as it can be read before is raised:
        then nobody is disturbed.
        """
        ...

    async def lost(self) -> None:
        """Wait, and raise a `DeliveryError` once the broker is known to be gone for good."""
        ...

    @property
    def topic(self) -> EventsTopic:
        """The events topic, found after the position was read."""
        ...

    def parcel(
        self, batch_records: int | None = None, clock: Callable[[], datetime] | None = None
    ) -> Parcel:
        """An empty parcel, whose batches hold at most so many records; see `Parcel`."""
        ...

    async def publish(self, parcel: Parcel, position: Position) -> None:
        """Records and position, both or neither.

        Raises `PositionMismatch` if the topic turns out to be another one meanwhile.
        """
        ...

    async def close(self) -> None:
        """Let go, aborting what is open. Does not raise."""
        ...
