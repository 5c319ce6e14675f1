"""What a transition leaves in the outbox: rows that the relay turns into Kafka records."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from segexport.events.versions import CURRENT
from segexport.jobs.job import Scope
from segexport.jobs.publication import DiscardFile


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """One event, or one whole file of discards that stands for its events.

    `sequence` counts the events of a job from 1 without a gap; a row of discards stands at
    the sequence of its first event and takes up as many as the file has rows. `type` is
    the CloudEvents type. `value` is the event as it goes to Kafka, byte for byte; for a
    row of discards it is the event that all of them share, lacking only what the file says
    (see `segexport.events.discards`). `contract` is the version of the contract `emitted` that
    it keeps.
    """

    job_id: int
    scope: Scope
    sequence: int
    event_id: UUID
    type: str
    occurred_at: datetime
    value: bytes
    discards: DiscardFile | None = None
    contract: int = CURRENT.number


@dataclass(frozen=True, slots=True)
class NumberedRow:
    """A committed row with its place in the store's one order of delivery, from 1."""

    number: int
    row: OutboxRow
