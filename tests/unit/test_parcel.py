"""How records are dated when they are packed."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Final

import pytest

from segexport.events.record import Record, milliseconds
from segexport.relay.parcel import Parcel
from support.tape import Pages

BEGUN = datetime(2026, 3, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ROW: Final[Any] = SimpleNamespace(number=1, row=SimpleNamespace(job_id=1))


@pytest.mark.parametrize(
    ("happened", "packed", "dated"),
    [
        (BEGUN - SECOND, BEGUN, BEGUN - SECOND),
        # Between the beginning of the parcel and the reading of its rows.
        (BEGUN + SECOND, BEGUN + 2 * SECOND, BEGUN + SECOND),
        # By a clock that was ahead.
        (BEGUN + 3600 * SECOND, BEGUN + 2 * SECOND, BEGUN + 2 * SECOND),
    ],
)
def test_a_record_has_the_earlier_of_the_time_of_its_event_and_that_of_its_packing(
    happened: datetime, packed: datetime, dated: datetime
) -> None:
    pages, now = Pages(10_000), BEGUN
    parcel = Parcel(lambda: pages, partitions=1, clock=lambda: now)
    first = Record(key=b"1", value=b"", headers=(), timestamp_ms=milliseconds(BEGUN))
    parcel.add(first, ROW)
    now = packed
    parcel.add(first._replace(timestamp_ms=milliseconds(happened)), ROW)
    assert [record.timestamp_ms for record in pages.records] == [
        milliseconds(BEGUN),
        milliseconds(dated),
    ]
