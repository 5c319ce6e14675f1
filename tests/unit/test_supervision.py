"""What becomes of a part of the service that ends."""

import asyncio

import pytest
from structlog.testing import capture_logs

from segexport.errors import PartFailed, StoreUnavailable
from segexport.supervision import Supervisor


async def work(error: BaseException | None = None) -> None:
    await asyncio.sleep(0)
    if error is not None:
        raise error


async def ended(supervisor: Supervisor, error: BaseException | None = None) -> None:
    """Wait until a part has ended so."""
    await asyncio.wait({supervisor.start("worker", work(error))})
    await asyncio.sleep(0)  # what is to be done about it is done in the next turn


async def test_an_error_that_nobody_foresaw_is_the_failure_of_the_part() -> None:
    supervisor = Supervisor()
    with capture_logs() as logged:
        await ended(supervisor, KeyError("topic"))
    async with asyncio.timeout(5):
        await supervisor.failed()
    with pytest.raises(PartFailed, match=r"the worker of the service has failed.*'topic'") as told:
        supervisor.require_sound()
    assert isinstance(told.value.__cause__, KeyError)
    assert [(line["event"], line["part"]) for line in logged] == [
        ("a part of the service has failed", "worker")
    ]


async def test_an_error_of_ours_is_the_failure_as_it_is() -> None:
    supervisor = Supervisor()
    error = StoreUnavailable("gone")
    await ended(supervisor, error)
    assert supervisor.failure is not None
    assert (supervisor.failure.part, supervisor.failure.error) == ("worker", error)


@pytest.mark.parametrize("end", [None, asyncio.CancelledError()])
async def test_an_end_that_nobody_asked_for_is_a_failure(end: BaseException | None) -> None:
    supervisor = Supervisor()
    await ended(supervisor, end)
    with pytest.raises(PartFailed):
        supervisor.require_sound()


@pytest.mark.parametrize("end", [None, asyncio.CancelledError()])
async def test_an_end_that_was_asked_for_is_none(end: BaseException | None) -> None:
    supervisor = Supervisor()
    supervisor.stop()
    await ended(supervisor, end)
    supervisor.require_sound()


async def test_an_error_on_the_way_to_the_end_is_a_failure_all_the_same() -> None:
    supervisor = Supervisor()
    supervisor.stop()
    await ended(supervisor, KeyError("topic"))
    with pytest.raises(PartFailed):
        supervisor.require_sound()


async def test_the_first_failure_counts() -> None:
    supervisor = Supervisor()
    first = StoreUnavailable("first")
    await ended(supervisor, first)
    await ended(supervisor, StoreUnavailable("second"))
    assert supervisor.failure is not None
    assert supervisor.failure.error is first
