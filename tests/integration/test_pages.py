"""Walking through lists of jobs with cursors that name a job by its millisecond and its id."""

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from segexport.commands import Checked, Commands
from segexport.events.announcement import Voice
from segexport.events.record import milliseconds
from segexport.jobs.job import Job, Scope
from segexport.store.sqlite import SqliteStore
from support.job_stories import REQUEST, SCOPE, submitted

MOMENT = datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)
MICROSECOND, MILLISECOND = timedelta(microseconds=1), timedelta(milliseconds=1)


class Clock:
    """Says what it is told to."""

    now = MOMENT

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def commands(tmp_path: Path, clock: Clock) -> AsyncIterator[Commands]:
    store = await SqliteStore.open(tmp_path / "jobs.sqlite", clock=clock)
    yield Commands(
        store=store,
        voice=Voice.of(store.identity.id, store.identity.generation, dialect="xdm", form="uri"),
        check=lambda _, request: Checked(request),
        deadline=timedelta(hours=12),
    )
    await store.close()


async def older(commands: Commands, moment: datetime, **facts: Any) -> Job:
    """A job of an older store: created at a finer time than jobs are now."""
    return await submitted(commands.store, now=moment, **facts)


async def test_new_jobs_are_created_in_whole_milliseconds(commands: Commands, clock: Clock) -> None:
    clock.now = MOMENT + 999 * MICROSECOND
    job = (await commands.submit(SCOPE, REQUEST)).job
    assert job.created_at == MOMENT
    assert job.deadline == MOMENT + timedelta(hours=12)
    assert (await commands.store.get(SCOPE, job.id)).created_at == MOMENT


async def test_a_cursor_of_a_job_is_its_place_whatever_its_time(commands: Commands) -> None:
    old = await older(commands, MOMENT + 7 * MICROSECOND)
    new = (await commands.submit(SCOPE, REQUEST)).job
    milli = milliseconds(MOMENT)
    assert await commands.before(SCOPE, milli, old.id) == (MOMENT + 7 * MICROSECOND, old.id)
    assert await commands.before(SCOPE, milli, new.id) == (MOMENT, new.id)


async def test_any_other_cursor_is_the_end_of_its_millisecond(commands: Commands) -> None:
    finest = await older(commands, MOMENT + MILLISECOND - MICROSECOND)
    after = await older(commands, MOMENT + MILLISECOND)
    elsewhere = await older(commands, MOMENT, scope=Scope("zenith", "prod"))
    milli = milliseconds(MOMENT)
    # Of no job, of another scope's job, and of a job that was created at another time.
    for job_id in (4711, elsewhere.id, after.id):
        before = await commands.before(SCOPE, milli, job_id)
        assert [status.job for status in await commands.statuses(SCOPE, before=before)] == [finest]


@pytest.mark.parametrize(
    ("number", "found"), [(-1, 0), (0, 0), (10**13, 1), (253_402_300_799_999, 1), (10**40, 1)]
)
@pytest.mark.parametrize("job_id", [0, -1, 10**40])
async def test_a_cursor_out_of_bounds_is_before_or_behind_all_jobs(
    commands: Commands, number: int, found: int, job_id: int
) -> None:
    await commands.submit(SCOPE, REQUEST)
    before = await commands.before(SCOPE, number, job_id)
    assert len(await commands.statuses(SCOPE, before=before)) == found


@pytest.mark.parametrize("seed", range(8))
async def test_pages_neither_skip_nor_repeat_a_job_while_others_arrive(
    commands: Commands, clock: Clock, seed: int
) -> None:
    """Jobs of now and of older stores, with equal times, and new ones at those times as well."""
    chance = random.Random(seed)

    def some_moment() -> datetime:
        return MOMENT + chance.randrange(3) * MILLISECOND

    async def arrives() -> int:
        clock.now = some_moment() + chance.randrange(1000) * MICROSECOND
        return (await commands.submit(SCOPE, REQUEST)).job.id

    present = [await arrives() for _ in range(12)]
    for job_id in range(1, 13):
        await older(commands, some_moment() + chance.randrange(3) * MICROSECOND, job_id=job_id)
        present.append(job_id)
    in_order = [job.id for job in await commands.list(SCOPE)]
    assert sorted(in_order) == sorted(present)

    seen: list[int] = []
    before = None
    while page := await commands.statuses(SCOPE, before=before, limit=chance.randint(1, 4)):
        seen += [status.job.id for status in page]
        last = page[-1].job
        await arrives()
        before = await commands.before(SCOPE, milliseconds(last.created_at), last.id)
        await arrives()
    assert [job_id for job_id in seen if job_id in present] == in_order
    assert len(set(seen)) == len(seen)
