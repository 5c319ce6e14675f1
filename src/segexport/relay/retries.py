"""When parked records are tried again without anybody's asking."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from segexport.store.store import Parked

FIRST: Final = timedelta(seconds=30)
LONGEST: Final = timedelta(minutes=10)
"""Pauses between two tries of one kind: each that fails doubles the next."""
MOST: Final = 1_000
"""Jobs that are tried at once when those before went through."""


@dataclass(slots=True)
class _Pace:
    """Of one kind: seconds of the next pause, when it is over, how many jobs are due then.

    Rows, by number: those that were `tried` last, and all that were `seen` parked.
    """

    pause: float
    at: float
    jobs: int = 1
    tried: Sequence[int] = ()
    seen: set[int] = field(default_factory=set)


class Retries:
    """Chooses parked jobs that may have healed: clocks are set, limits raised, files brought back.

    Rows that are parked for the same kind of reason share a pace. One of them is tried at a time,
    the next one in turn, with pauses that grow; when it goes through, the next pause is the first
    one again, and twice as many follow. So whatever cannot heal costs one try for each pause, and
    whatever has healed is soon through.
    """

    def __init__(self, first: timedelta = FIRST, longest: timedelta = LONGEST) -> None:
        self._first = first.total_seconds()
        self._longest = longest.total_seconds()
        self._paces: dict[str, _Pace] = {}
        self._seen = 0

    def due(self, parked: Collection[Parked], now: float) -> Sequence[int]:
        """The jobs to try now, out of the first parked row of each; seconds of any clock."""
        early = all(now < pace.at for pace in self._paces.values())
        if early and len(parked) == self._seen:
            return []
        self._seen = len(parked)
        kinds = _by_kind(parked)
        # A row that is being tried is not parked meanwhile: only time tells that it went through.
        self._paces = {
            kind: pace for kind, pace in self._paces.items() if kind in kinds or now < pace.at
        }
        chosen: list[int] = []
        for kind, rows in kinds.items():
            pace = self._paces.setdefault(kind, _Pace(self._first, now + self._first))
            pace.seen.update(rows)
            if now >= pace.at:
                chosen += self._next(pace, rows, now)
        return chosen

    def knows(self, number: int) -> bool:
        """Whether a row that is refused was parked before."""
        return any(number in pace.seen for pace in self._paces.values())

    def _next(self, pace: _Pace, rows: Mapping[int, Parked], now: float) -> Sequence[int]:
        failed = any(number in rows for number in pace.tried)
        if pace.tried:
            pace.pause = min(pace.pause * 2, self._longest) if failed else self._first
            pace.jobs = 1 if failed else min(pace.jobs * 2, MOST)
        last = max(pace.tried, default=0)
        turn = sorted(rows, key=lambda number: (number <= last, number))
        pace.tried = tuple(turn[: pace.jobs])
        pace.at = now + pace.pause
        return [rows[number].job_id for number in pace.tried]


def _by_kind(parked: Iterable[Parked]) -> Mapping[str, Mapping[int, Parked]]:
    """Rows by number, by what parked them: a verdict of the broker, or a discard file."""
    kinds: dict[str, dict[int, Parked]] = defaultdict(dict)
    for row in parked:
        verdict = row.reason.partition(":")[0]
        kinds[verdict if verdict.isupper() else "discard file"][row.number] = row
    return kinds
