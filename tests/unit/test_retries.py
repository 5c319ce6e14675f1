"""When parked records are tried again by themselves."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from segexport.relay.retries import Retries
from segexport.store.store import Parked

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def parked(numbers: Iterable[int], reason: str = "INVALID_TIMESTAMP: too old") -> list[Parked]:
    """A row for each number, of the job of that number."""
    return [Parked(number, number, 0, reason, NOON) for number in numbers]


def retries() -> Retries:
    return Retries(first=timedelta(seconds=10), longest=timedelta(seconds=40))


def test_the_first_try_comes_after_the_first_pause() -> None:
    chosen = retries()
    assert chosen.due(parked([5]), now=0) == []
    assert chosen.due(parked([5]), now=9) == []
    assert chosen.due(parked([5]), now=10) == [5]
    assert chosen.knows(5)
    assert not chosen.knows(6)


def test_what_stays_parked_is_tried_one_at_a_time_in_turn_and_ever_less_often() -> None:
    chosen = retries()
    rows = parked([3, 5, 8])
    chosen.due(rows, now=0)
    tried = {moment: jobs for moment in range(1, 200) if (jobs := chosen.due(rows, now=moment))}
    assert tried == {10: [3], 20: [5], 40: [8], 80: [3], 120: [5], 160: [8]}


def test_what_goes_through_is_followed_by_twice_as_many_until_one_stays() -> None:
    chosen = retries()
    left = list(range(1, 9))
    chosen.due(parked(left), now=0)
    assert chosen.due(parked(left), now=10) == [1]
    assert chosen.due(parked(left[1:]), now=20) == [2, 3]
    assert chosen.due(parked(left[3:]), now=30) == [4, 5, 6, 7]
    assert chosen.due(parked([7, 8]), now=40) == [8]
    assert chosen.due(parked([7]), now=59) == []
    assert chosen.due(parked([7]), now=60) == [7]


def test_kinds_of_reasons_do_not_wait_for_each_other() -> None:
    chosen = retries()
    large = parked([1, 2], "MESSAGE_SIZE_TOO_LARGE: more than the topic takes")
    files = parked([3], "/data/discards/3.parquet: it is not there")
    chosen.due(large, now=0)
    assert chosen.due([*large, *files], now=10) == [1]
    assert chosen.due([*large, *files], now=20) == [2, 3]
    assert chosen.due([*large, *files], now=30) == [3]
    assert chosen.due([*large, *files], now=40) == [1]


def test_a_row_that_is_not_parked_while_it_is_tried_keeps_its_pace() -> None:
    chosen = retries()
    chosen.due(parked([3]), now=0)
    assert chosen.due(parked([3]), now=10) == [3]
    assert chosen.due([], now=11) == []
    assert chosen.knows(3)
    assert chosen.due(parked([3]), now=20) == [3]
    assert chosen.due(parked([3]), now=39) == []
    assert chosen.due([], now=40) == []
    assert not chosen.knows(3)
