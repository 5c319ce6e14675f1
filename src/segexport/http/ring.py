"""The latest messages of those organizations and sandboxes that somebody listens to."""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Self

from segexport.events.outbox import NumberedRow
from segexport.http import sse
from segexport.jobs.job import Scope
from segexport.store.changes import Changes


class Frame(NamedTuple):
    """An event as it goes to readers, with its number in the store."""

    number: int
    data: bytes

    @classmethod
    def of(cls, numbered: NumberedRow, cursor: Callable[[int], str]) -> Self:
        """The frame of an event about a whole job; `cursor` makes the text of its number."""
        number = numbered.number
        return cls(number, sse.job_event(numbered.row, cursor(number)))


class Channel:
    """The latest frames of one scope, for all who listen to it.

    It has every event of the scope that is numbered above `floor`, up to where the tail is.
    `count` is how many frames there have been. `changes` wakes the listeners.
    """

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self.count = 0
        self.size = 0
        self.changes = Changes()
        self.listeners = 0
        self._frames: deque[Frame] = deque()

    def add(self, frame: Frame, room: int) -> None:
        """Append a frame; then at most `room` bytes are kept."""
        self._frames.append(frame)
        self.count += 1
        self.size += len(frame.data)
        self.trim(room)

    def trim(self, room: int) -> None:
        """Forget the oldest frames until they have room."""
        while self.size > room:
            oldest = self._frames.popleft()
            self.size -= len(oldest.data)
            self.floor = oldest.number

    def after(self, number: int, size: int) -> Sequence[Frame]:
        """The frames behind `number`, which is not below `floor`: at least one if there is one.

        No more than reach `size` bytes together.
        """
        taken: list[Frame] = []
        first = bisect_right(self._frames, number, key=lambda frame: frame.number)
        for index in range(first, len(self._frames)):
            if size <= 0:
                break
            taken.append(self._frames[index])
            size -= len(taken[-1].data)
        return taken


class Ring:
    """The channels that somebody listens to; together they keep at most `capacity` bytes.

    Each has an equal share, so that a busy organization takes nothing from a quiet one.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._channels: dict[Scope, Channel] = {}

    @contextmanager
    def listening(self, scope: Scope, floor: int) -> Iterator[Channel]:
        """The channel of a scope, for as long as the block lasts; a new one begins at `floor`."""
        channel = self._channels.get(scope)
        if channel is None:
            channel = self._channels[scope] = Channel(floor)
            for each in self._channels.values():
                each.trim(self._share)
        channel.listeners += 1
        try:
            yield channel
        finally:
            channel.listeners -= 1
            if not channel.listeners:
                del self._channels[scope]

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens."""
        return bool(self._channels)

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return sum(channel.size for channel in self._channels.values())

    def begin(self, number: int) -> None:
        """Have all channels begin behind `number`, while they are empty."""
        for channel in self._channels.values():
            channel.floor = number

    def add(self, rows: Sequence[NumberedRow], cursor: Callable[[int], str]) -> None:
        """Append those that somebody listens to, without rows of discards; then wake them."""
        changed = set[Channel]()
        for numbered in rows:
            channel = self._channels.get(numbered.row.scope)
            if channel is not None and numbered.row.discards is None:
                channel.add(Frame.of(numbered, cursor), self._share)
                changed.add(channel)
        for channel in changed:
            channel.changes.note()

    def wake(self) -> None:
        """Have all listeners look around."""
        for channel in self._channels.values():
            channel.changes.note()

    @property
    def _share(self) -> int:
        return self._capacity // len(self._channels)
