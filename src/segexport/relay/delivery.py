"""One publisher's life: from taking over to the first failure, or to a clean end."""

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from segexport.errors import JobNotFound
from segexport.race import race
from segexport.relay.caution import Caution
from segexport.relay.parcel import Origin, Parcel
from segexport.relay.position import Position, missing
from segexport.relay.publisher import Publisher, RecordsRefused
from segexport.relay.retries import Retries
from segexport.relay.schedule import Bounds, Schedule
from segexport.store.store import Outbox, Parked, Replay

MARK_EVERY: Final = 0.25
"""Seconds between two marks in the store of what is delivered, while there is more."""
PATIENCE: Final = timedelta(seconds=1)
"""How long a relay with nothing to do sleeps before it looks around."""
LOOK_EVERY: Final = 1.0
"""Seconds between two looks for replays."""

log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mandate:
    """Who delivers, and how: the owner and epoch of the lease, and what a transaction may hold."""

    owner: str
    epoch: int
    source: str
    bounds: Bounds
    clock: Callable[[], datetime]


class Delivery:
    """Brings the rows of an outbox to a topic through one publisher.

    `on_progress` is called with the position after each delivery, and when there is nothing
    to deliver. Any error ends it; what is delivered is then known to the topic alone.
    """

    def __init__(
        self,
        outbox: Outbox,
        publisher: Publisher,
        mandate: Mandate,
        caution: Caution,
        on_progress: Callable[[Position], None],
        *,
        retries: Retries,
    ) -> None:
        self._outbox = outbox
        self._publisher = publisher
        self._mandate = mandate
        self._caution = caution
        self._on_progress = on_progress
        self._retries = retries
        self._now = asyncio.get_running_loop().time
        self._sending: asyncio.Task[None] | None = None
        self._marked = 0
        self._mark_at = 0.0

    async def run(self, stop: asyncio.Event, drain: float) -> None:
        """Deliver; once `stop` is set, until nothing is left or `drain` seconds are over.

        Raises `PositionMismatch` if the topic was written from another store, or another
        life of this one, which is certain only if this relay still leads; else what publisher
        and outbox raise. `RecordsRefused` asks for another try at once: either the culprit is
        parked now, or the search for it goes on with smaller batches.
        """
        schedule = await self._take_over()
        try:
            await self._follow(schedule, stop, drain)
        finally:
            if self._sending is not None:
                self._sending.cancel()
                await asyncio.wait({self._sending})
            schedule.close()

    async def _take_over(self) -> Schedule:
        # What is delivered before the position is read, what is given after it: between the two
        # another relay may have delivered more, and neither can then contradict the position.
        store = self._outbox.identity
        delivered = (await self._outbox.backlog()).delivered
        position = await self._publisher.start(lambda known: known.require_from(store))
        if position is None:
            if delivered:
                raise missing(delivered)
            position = Position(store=store)
        position.require_from(store)
        position.require_given((await self._outbox.backlog()).last)
        topic = self._publisher.topic
        position.require_topic(topic.id, is_empty=topic.is_empty)
        position = replace(position, topic=topic.id)
        # The relay before this one may have answered a replay without telling the store.
        for replay in await self._outbox.replays(after=0):
            if replay.id <= position.replay:
                await self._finish(replay)
        return await Schedule.resume(self._outbox, self._mandate.source, position, self._park)

    async def _follow(self, schedule: Schedule, stop: asyncio.Event, drain: float) -> None:
        seen, look_at, drained_by = 0, 0.0, math.inf
        while True:
            if stop.is_set():
                drained_by = min(drained_by, self._now() + drain)
            if self._now() >= look_at:
                await self._settle()
                await self._ask_again(schedule)
                await self._replay(schedule)
                look_at = self._now() + LOOK_EVERY
            parcel, before = self._parcel(self._caution.batch), schedule.position
            more = await schedule.fill(parcel, self._caution.limit(self._mandate.bounds))
            await self._settle()
            due = schedule.position != before
            if due:
                self._sending = asyncio.ensure_future(self._send(parcel, schedule.position))
            if more and self._now() < drained_by:
                continue  # the next parcel is packed while this one is on its way
            await self._settle()
            if due and self._now() < drained_by:
                continue  # more may have come meanwhile
            await self._mark(schedule.position)
            if stop.is_set():
                return
            self._on_progress(schedule.position)
            seen = await race(self._outbox.wait_for_change(seen, PATIENCE), stop.wait()) or seen
            look_at = 0.0

    async def _send(self, parcel: Parcel, position: Position) -> None:
        try:
            await self._publisher.publish(parcel, position)
        except RecordsRefused as refused:
            if self._caution.refused(refused.first, refused.records, parcel.records):
                await self._park(refused.first, str(refused))
            raise
        self._caution.delivered(parcel.records)
        self._on_progress(position)
        if self._now() >= self._mark_at:
            await self._mark(position)

    async def _settle(self) -> None:
        """Wait until what is on its way has arrived."""
        if self._sending is not None:
            await self._sending
            self._sending = None

    async def _mark(self, position: Position) -> None:
        mandate = self._mandate
        self._mark_at = self._now() + MARK_EVERY
        if position.delivered != self._marked:
            await self._outbox.mark_delivered(mandate.owner, mandate.epoch, position.delivered)
            self._marked = position.delivered

    def _parcel(self, batch_records: int | None = None) -> Parcel:
        return self._publisher.parcel(batch_records, self._mandate.clock)

    async def _park(self, origin: Origin, reason: str) -> Parked:
        parked = Parked(origin.number, origin.job_id, origin.offset, reason, self._mandate.clock())
        await self._outbox.park(self._mandate.owner, self._mandate.epoch, parked)
        row = (await self._outbox.row(origin.number)).row
        again = self._retries.knows(origin.number)
        log.log(
            logging.INFO if again else logging.WARNING,
            "a parked event is refused again"
            if again
            else "an event cannot be delivered and is parked",
            job_id=origin.job_id,
            event_id=str(row.event_id),
            number=origin.number,
            offset=origin.offset,
            reason=reason,
        )
        return parked

    async def _ask_again(self, schedule: Schedule) -> None:
        """Ask for parked jobs that may have healed."""
        for job_id in self._retries.due(schedule.parked, self._now()):
            with suppress(JobNotFound):  # somebody else was quicker
                await self._outbox.request_replay(job_id)

    async def _replay(self, schedule: Schedule) -> None:
        """Let parked jobs go on where somebody asked for it: first in the topic, then here."""
        for replay in await self._outbox.replays(after=schedule.position.replay):
            if not await schedule.reopen(replay):
                return
            await self._send(self._parcel(), schedule.position)
            # Before the row is forgotten: whoever asks the store must find it parked or waiting.
            await self._mark(schedule.position)
            await self._finish(replay)
            await schedule.see_parked()
            log.info("a parked job is sent again", job_id=replay.job_id, replay=replay.id)

    async def _finish(self, replay: Replay) -> None:
        await self._outbox.finish_replay(self._mandate.owner, self._mandate.epoch, replay)
