"""The records of one transaction, packed into batches that the topic accepts.

Batches are built by hand (`create_batch`) because a future per record and a queue per
partition cost more than the record itself.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Protocol

from aiokafka.partitioner import murmur2

from segexport.events.outbox import NumberedRow
from segexport.events.record import Record, milliseconds
from segexport.kafka import client_failed


class BatchBuilder(Protocol):
    """aiokafka's builder of one batch."""

    def append(
        self, *, timestamp: int, key: bytes, value: bytes, headers: list[tuple[str, bytes]]
    ) -> Any:
        """Add a record: what is known of it (its `size`), or None if the batch is full."""
        ...

    def record_count(self) -> int:
        """How many records are in it."""
        ...


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a record comes from: a row, and the row of its discard file (0 without one)."""

    job_id: int
    number: int
    offset: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Records for one partition that the broker takes or refuses together."""

    builder: BatchBuilder
    first: Origin

    @property
    def records(self) -> int:
        """How many records are in it."""
        return self.builder.record_count()


class Parcel:
    """Collects records. The order of one key's records is kept: one partition, one queue.

    A batch is as large as `create` makes it, and holds at most `batch_records`; a record
    that is larger travels alone. No record's own timestamp is after the moment at which it is
    packed, by `clock`: brokers refuse what a clock that was ahead has dated in their future.
    """

    def __init__(
        self,
        create: Callable[[], BatchBuilder],
        partitions: int,
        batch_records: int | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self._create = create
        self._partitions = partitions
        self._batch_records = batch_records
        self._clock = clock
        self._packed_at = 0
        self._batches: defaultdict[int, list[Batch]] = defaultdict(list)
        self.records = 0
        self.size = 0  # bytes, before compression

    def add(self, record: Record, row: NumberedRow, offset: int = 0) -> None:
        """Pack one more record; it comes from `row`, and there from `offset` of its file.

        Raises `ClientFailed`.
        """
        if record.timestamp_ms > self._packed_at and (now := self.now_ms()) is not None:
            # Asked again only here: what has happened since the last look is no reason.
            self._packed_at = now
            if record.timestamp_ms > now:
                record = record._replace(timestamp_ms=now)
        batches = self._batches[partition_of(record.key, self._partitions)]
        try:
            added = None
            full = self._batch_records
            if batches and (full is None or batches[-1].records < full):
                added = _append(batches[-1].builder, record)
            if added is None:
                origin = Origin(row.row.job_id, row.number, offset)
                batches.append(Batch(self._create(), origin))
                added = _append(batches[-1].builder, record)
            self.size += added.size
        except Exception as error:
            raise client_failed(error) from error
        self.records += 1

    def now_ms(self) -> int | None:
        """Milliseconds since 1970 by the clock; None without one."""
        return milliseconds(self._clock()) if self._clock is not None else None

    @property
    def batches(self) -> Mapping[int, Sequence[Batch]]:
        """The batches of each partition, in the order in which they must be sent."""
        return self._batches


def _append(builder: BatchBuilder, record: Record) -> Any:
    return builder.append(
        timestamp=record.timestamp_ms,
        key=record.key,
        value=record.value,
        headers=list(record.headers),  # aiokafka's compiled builder insists on a list
    )


@lru_cache(maxsize=1024)  # the thousands of records of a discard file have one key
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, as Kafka's own clients choose it (murmur2)."""
    hashed: int = murmur2(key)
    return (hashed & 0x7FFFFFFF) % partitions
