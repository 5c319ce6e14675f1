"""How far delivery is: the one record that counts, written in the transaction it speaks of.

Its topic, `<topic>.positions`, has one partition. Each record holds the whole position, so
only the last committed one matters; it is JSON:

    {"version": 1, "store": "<uuid>", "generation": 1, "number": 4711,
     "open": {"4630": {"done": 120000, "sha256": "<hex>"}}, "replay": 3,
     "topic": "<uuid>", "sent": true}

Versions before the last two members write records without them, and pass over them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self
from uuid import UUID

import orjson

from segexport.errors import PositionMismatch
from segexport.store.store import StoreIdentity

VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Progress:
    """How many events of a row are in the topic; `sha256` is that of its discard file, if any."""

    done: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """What the topic holds, in terms of the store that it came from.

    Everything up to row `number` is in the topic, but for the jobs that lag behind: a key
    of `open` is the first row of such a job that is not wholly delivered, and all later
    rows of that job up to `number` wait behind it; and but for jobs with a parked row,
    which the store knows. `replay` is the last request of a replay that was answered.

    `topic` is the id of the events topic, None where it is not known; `sent` whether there were
    records in it, so that one without any is not that topic.
    """

    store: StoreIdentity
    number: int = 0
    open: Mapping[int, Progress] = field(default_factory=dict)
    replay: int = 0
    topic: UUID | None = None
    sent: bool = False

    @property
    def delivered(self) -> int:
        """The number below which nothing lags behind; jobs with a parked row not counted."""
        return min((number - 1 for number in self.open), default=self.number)

    def encode(self) -> bytes:
        """The value of the position's record."""
        return orjson.dumps(
            {
                "version": VERSION,
                "store": str(self.store.id),
                "generation": self.store.generation,
                "number": self.number,
                "open": {
                    str(number): {"done": progress.done, "sha256": progress.sha256}
                    for number, progress in self.open.items()
                },
                "replay": self.replay,
                "topic": str(self.topic) if self.topic else None,
                "sent": self.sent,
            }
        )

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Read a record's value. Raises `PositionMismatch` if this version did not write it."""
        try:
            document: dict[str, Any] = orjson.loads(value)
            if document["version"] != VERSION:
                raise PositionMismatch(
                    f"the position is written in form {document['version']}, this version of "
                    f"segexport reads form {VERSION}; run the version that wrote it"
                )
            return cls(
                store=StoreIdentity(UUID(document["store"]), document["generation"]),
                number=document["number"],
                open={
                    int(number): Progress(progress["done"], progress["sha256"])
                    for number, progress in document["open"].items()
                },
                replay=document["replay"],
                topic=UUID(document["topic"]) if document.get("topic") else None,
                sent=document.get("sent", document["number"] > 0),
            )
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise PositionMismatch(
                f"the position's record is not one of segexport's ({error!r}): {value[:200]!r}; "
                "does something else write to the positions topic?"
            ) from error

    def require_from(self, store: StoreIdentity) -> None:
        """Raise `PositionMismatch` unless this speaks of `store`.

        Going on from a foreign position would lose events or repeat them, silently.
        """
        if self.store.id != store.id:
            raise PositionMismatch(
                f"the topic's position was written from the store {self.store.id}, this one is "
                f"{store.id}; give each store a topic of its own, or {_START_OVER}"
            )
        if self.store.generation != store.generation:
            raise PositionMismatch(
                f"the topic's position was written in generation {self.store.generation} of the "
                f"store, which now is in generation {store.generation}: it was restored from a "
                f"backup. Compare it with the topic, then {_START_OVER}"
            )

    def require_given(self, last: int) -> None:
        """Raise `PositionMismatch` unless the store has given this position's number.

        `last` is the last number that it has given, asked for after this was read.
        """
        if self.number > last:
            raise PositionMismatch(
                f"the topic holds events up to number {self.number}, the store has given numbers "
                f"up to {last} only: it was restored from a backup without a new generation. "
                f"Compare it with the topic, then {_START_OVER}"
            )

    def require_topic(self, topic: UUID | None, *, is_empty: bool) -> None:
        """Raise `PositionMismatch` unless the events topic can be the one that this speaks of.

        `topic` is its id as far as it is known, `is_empty` that it never held a record; both
        asked for after this was read. A topic that retention has emptied is none that never
        held any.
        """
        other = self.topic is not None and topic is not None and self.topic != topic
        if self.sent and (other or is_empty):
            raise topic_replaced(self.number)


_START_OVER: Final = (
    "say where delivery goes on with `segexport outbox set-position` (see docs/delivery.md)"
)


def missing(delivered: int) -> PositionMismatch:
    """There is no position, although the store has delivered before."""
    return PositionMismatch(
        f"the topic holds no position, but the store has delivered events up to number "
        f"{delivered}: either the topic is new, or its positions were deleted. Events are not "
        f"sent twice unasked: {_START_OVER}"
    )


def topic_replaced(number: int) -> PositionMismatch:
    """The events topic is not the one that the position speaks of, which goes up to `number`."""
    return PositionMismatch(
        f"the events topic is not the one that the events up to number {number} were delivered to: "
        "it was deleted and made anew, or has lost its records. Its readers lack those events, and "
        f"they are not sent again unasked: {_START_OVER}"
    )
