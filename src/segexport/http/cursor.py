"""Where a reader of the live stream is: the id of a message, and what Last-Event-ID brings back."""

import re
from dataclasses import dataclass
from typing import Final, Self

_TEXT: Final = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")
"""Numbers of a store are below 2^63; so many digits always are."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the store's one order of events: everything up to `number` has been seen.

    Written `<generation>-<number>`: in another life of the store the numbers mean others.
    """

    generation: int
    number: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The cursor that `text` is; None if it is none."""
        found = _TEXT.fullmatch(text)
        return cls(int(found[1]), int(found[2])) if found else None

    def __str__(self) -> str:
        return f"{self.generation}-{self.number}"
