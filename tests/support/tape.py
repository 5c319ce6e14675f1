"""A topic in memory that a relay can publish to: transactions, refusals, faults on command."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from segexport.errors import BrokerUnreachable
from segexport.events.record import Record
from segexport.relay.parcel import Parcel
from segexport.relay.position import Position
from segexport.relay.publisher import EventsTopic, RecordsRefused

PARTITIONS = 3


class Pages:
    """A batch that can be read."""

    def __init__(self, size: int) -> None:
        self._left = size
        self.records: list[Record] = []

    def append(
        self, *, timestamp: int, key: bytes, value: bytes, headers: list[tuple[str, bytes]]
    ) -> Any:
        size = len(value) + 100
        if self.records and size > self._left:
            return None
        self._left -= size
        self.records.append(Record(key, value, headers, timestamp))
        return SimpleNamespace(size=size)

    def record_count(self) -> int:
        return len(self.records)


@dataclass(slots=True)
class Tape:
    """What was committed, and what goes wrong.

    `refuses` says what the broker thinks of a record. `faults` are used up one by one, one
    for each transaction: None, "lost" (nothing is committed) or "unanswered" (all is, but
    nobody says so).
    """

    refuses: Callable[[Record], bool] = lambda _: False
    faults: list[str | None] = field(default_factory=list)
    batch_size: int = 20_000
    position: Position | None = None
    records: list[Record] = field(default_factory=list)
    transactions: list[list[Record]] = field(default_factory=list)
    starts: int = 0

    def publisher(self) -> "TapePublisher":
        """For the relay: makes its publishers."""
        return TapePublisher(self)

    @property
    def by_key(self) -> Mapping[bytes, Sequence[Record]]:
        """What was committed, by job."""
        found: dict[bytes, list[Record]] = defaultdict(list)
        for record in self.records:
            found[record.key].append(record)
        return found


class TapePublisher:
    """Implements `Publisher`."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    async def start(self, check: Callable[[Position], None] | None = None) -> Position | None:
        if check is not None and self._tape.position is not None:
            check(self._tape.position)
        self._tape.starts += 1
        return self._tape.position

    async def lost(self) -> None:
        await asyncio.Event().wait()

    @property
    def topic(self) -> EventsTopic:
        return EventsTopic(id=None, is_empty=not self._tape.records)

    def parcel(
        self, batch_records: int | None = None, clock: Callable[[], datetime] | None = None
    ) -> Parcel:
        return Parcel(lambda: Pages(self._tape.batch_size), PARTITIONS, batch_records, clock)

    async def publish(self, parcel: Parcel, position: Position) -> None:
        tape = self._tape
        fault = tape.faults.pop(0) if tape.faults else None
        batches = [batch for each in parcel.batches.values() for batch in each]
        sent: list[Record] = []
        for batch in batches:
            assert isinstance(batch.builder, Pages)
            if any(map(tape.refuses, batch.builder.records)):
                raise RecordsRefused(batch.first, batch.records, "the tape refuses it")
            sent.extend(batch.builder.records)
        if fault == "lost":
            raise BrokerUnreachable("lost")
        tape.records.extend(sent)
        tape.transactions.append(sent)
        tape.position = Position.decode(position.encode())
        if fault == "unanswered":
            raise BrokerUnreachable("unanswered")

    async def close(self) -> None:
        pass
