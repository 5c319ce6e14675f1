"""The relay: the only thing that publishes to Kafka."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from segexport.errors import (
    ClientFailed,
    DeliveryError,
    PositionMismatch,
    RelayFenced,
    SegexportError,
    SettingsError,
    StoreError,
)
from segexport.race import race
from segexport.relay.caution import Caution
from segexport.relay.delivery import Delivery, Mandate
from segexport.relay.leadership import Leadership
from segexport.relay.position import Position
from segexport.relay.publisher import Publisher, RecordsRefused
from segexport.relay.retries import Retries
from segexport.relay.schedule import Bounds
from segexport.store.store import Outbox

LEASE: Final = timedelta(seconds=15)
DRAIN: Final = timedelta(seconds=10)
GRACE: Final = 5.0
"""Seconds after the drain in which a transaction may still end by itself."""
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 5.0
"""Seconds between two attempts: each pause is twice as long as the one before."""
STAND_BY: Final = 1.0
"""Seconds until a relay that was fenced asks for the lease again."""
ALOUD: Final = 2
"""Attempts that fail in a row before it is worth a warning: the first may just be stale."""

log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayHealth:
    """How the relay is.

    `leads`: it holds the lease. `error`: why events wait, if they do, with the `error_code` of
    that for those who may not read addresses. `delivered`: the
    number up to which they do not. `waiting`: rows behind that. `parked`: records that
    cannot be delivered. `transactions`: deliveries of this process.
    """

    leads: bool
    error: str | None
    error_code: str | None
    delivered: int
    waiting: int
    parked: int
    transactions: int


class Relay:
    """Brings the rows of an outbox to a topic, while it holds the lease.

    `publishers` makes a publisher for each attempt. `source` is the CloudEvents source of
    the store. `owner` names this process and no other. `clock` dates what is parked, and what is
    sent. `retries` say when parked records are tried again.
    """

    def __init__(
        self,
        outbox: Outbox,
        publishers: Callable[[], Publisher],
        *,
        source: str,
        owner: str,
        lease: timedelta = LEASE,
        drain: timedelta = DRAIN,
        bounds: Bounds = Bounds(),  # noqa: B008  (immutable)
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        retries: Retries | None = None,
    ) -> None:
        if not __debug__:
            raise DeliveryError(
                "the relay does not run under `python -O`: the guards of aiokafka's "
                "transactions are assert statements; start Python without -O"
            )
        self._outbox = outbox
        self._publishers = publishers
        self._source = source
        self._drain = drain.total_seconds()
        self._bounds = bounds
        self._clock = clock
        self._leadership = Leadership(outbox, owner, lease)
        self._stop = asyncio.Event()
        self._caution = Caution()
        self._retries = retries or Retries()
        self._failures = 0  # in a row
        self._error: SegexportError | None = None
        self._position: Position | None = None
        self._transactions = 0

    async def run(self) -> None:
        """Deliver until `stop` is called or this is cancelled; nothing is left half done.

        Raises `PositionMismatch` when the topic was written from another store, or another
        life of this one: only a person can say how to go on. Whatever else an operator can
        mend (broker, permissions, topic, certificates, store) is waited for.
        """
        try:
            while not self._stop.is_set():
                try:
                    await self._attempt()
                except RecordsRefused:
                    pass  # the culprit is parked, or the next attempt narrows it down
                except PositionMismatch as error:
                    self._error = error
                    raise
                except RelayFenced as error:
                    log.warning("this relay stands by", reason=str(error))
                    await self._rest(STAND_BY)
                except (DeliveryError, StoreError, SettingsError) as error:
                    self._note_outage(error)
                    await self._rest(min(FIRST_PAUSE * 2**self._failures, LONGEST_PAUSE))
        finally:
            with suppress(StoreError):
                await self._leadership.resign()

    def stop(self) -> None:
        """Ask `run` to return once what is committed is delivered, or its time is over."""
        self._stop.set()

    async def health(self) -> RelayHealth:
        """How it is. Raises `StoreUnavailable`."""
        backlog = await self._outbox.backlog()
        leads = self._leadership.epoch is not None
        delivered = self._position.delivered if leads and self._position else backlog.delivered
        return RelayHealth(
            leads=leads,
            error=str(self._error) if self._error else None,
            error_code=self._error.code if self._error else None,
            delivered=delivered,
            waiting=backlog.last - delivered,
            parked=backlog.parked,
            transactions=self._transactions,
        )

    async def _attempt(self) -> None:
        """One publisher's life under one lease."""
        epoch = await race(self._leadership.win(), self._stop.wait())
        if epoch is None:
            return
        mandate = Mandate(
            owner=self._leadership.owner,
            epoch=epoch,
            source=self._source,
            bounds=self._bounds,
            clock=self._clock,
        )
        publisher = self._publishers()
        delivery = Delivery(
            self._outbox,
            publisher,
            mandate,
            self._caution,
            self._note_progress,
            retries=self._retries,
        )
        try:
            await race(
                delivery.run(self._stop, self._drain),
                self._leadership.keep(),
                publisher.lost(),
                self._too_late(),
            )
        except PositionMismatch:
            # Store and topic were read at different moments: they contradict each other for
            # certain only if nobody else delivered in between.
            await self._leadership.require_held()
            raise
        finally:
            await publisher.close()

    async def _too_late(self) -> None:
        await self._stop.wait()
        await asyncio.sleep(self._drain + GRACE)

    def _note_progress(self, position: Position) -> None:
        if self._position != position:
            self._transactions += 1
        self._position = position
        if self._failures >= ALOUD:
            log.info("events are delivered again", number=position.number)
        self._failures, self._error = 0, None

    def _note_outage(self, error: SegexportError) -> None:
        """Say so: once for each kind, and not aloud before a second attempt has failed."""
        known = self._error is not None and self._error.code == error.code
        self._failures += 1
        self._error = error
        trace = error.__cause__ if isinstance(error, ClientFailed) else None
        if self._failures == 1:
            log.info("delivery begins anew", code=error.code, reason=str(error), exc_info=trace)
        elif self._failures == ALOUD or not known:
            log.warning("events wait", code=error.code, reason=str(error), exc_info=trace)
        else:
            log.debug("still no delivery", code=error.code, reason=str(error))

    async def _rest(self, seconds: float) -> None:
        await race(asyncio.sleep(seconds), self._stop.wait())
