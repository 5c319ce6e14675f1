"""At least once, on the embedded broker, which knows neither transactions nor yesterday."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog
from aiokafka import AIOKafkaProducer

from segexport.errors import BrokerUnreachable
from segexport.kafka import client_arguments
from segexport.kafka.topics import BROKER_DEFAULT_MAX_BYTES
from segexport.relay.discard import discard
from segexport.relay.embedded import EmbeddedBroker
from segexport.relay.parcel import Parcel
from segexport.relay.position import Position
from segexport.relay.publisher import EventsTopic
from segexport.relay.sending import bounded, require_accepted, send_batches
from segexport.settings import KafkaSettings
from segexport.store.store import StoreIdentity

PATIENCE: Final = 20.0
"""Seconds for anything that is asked of the embedded broker."""

log: Final = structlog.get_logger(__name__)


class EmbeddedPublishers:
    """Makes the publishers for an embedded broker, and another broker in place of one that ended.

    `settings` name the broker's address. It begins empty, so what the store retains is sent to
    it from the first row on. The position is kept here, for as long as the broker lives: a
    publisher that fails may have sent more than its position says, and the next one then repeats
    some events. Where `broker` is given and has ended, the next publisher starts it again, and
    `moved` is called with the new settings.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        store: StoreIdentity,
        broker: EmbeddedBroker | None = None,
        moved: Callable[[KafkaSettings], None] = lambda _: None,
    ) -> None:
        self.settings = settings
        self.broker = broker
        self.position = Position(store=store)
        self._moved = moved

    def __call__(self) -> "IdempotentPublisher":
        """The next publisher."""
        return IdempotentPublisher(self)

    async def revive(self) -> None:
        """See that there is a broker. Raises `BrokerUnreachable`."""
        if self.broker is None or not self.broker.has_ended:
            return
        if self.broker.exit_status is not None:
            log.warning(
                "the embedded broker has ended, another one is started",
                exit_status=self.broker.exit_status,
            )
        try:
            await self.broker.restart()
        except BrokerUnreachable as error:
            raise BrokerUnreachable(
                "the embedded broker has ended, and no other one can be started; this is tried "
                "again"
            ) from error
        self.settings = self.settings.embedded(self.broker.bootstrap_servers)
        self.position = Position(store=self.position.store)
        self._moved(self.settings)
        log.info("another embedded broker runs", address=self.settings.bootstrap_servers)


class IdempotentPublisher:
    """Implements `Publisher`: records first, then the position, without a transaction."""

    def __init__(self, life: EmbeddedPublishers) -> None:
        self._life = life
        self._producer: AIOKafkaProducer | None = None
        self._partitions = 0
        self._begun = asyncio.Event()

    async def start(self, check: Callable[[Position], None] | None = None) -> Position:  # noqa: ARG002  (nobody else knows this broker)
        await self._life.revive()
        self._begun.set()
        settings, position = self._life.settings, self._life.position
        if position.number == 0:
            log.info(
                "the embedded broker remembers nothing: all events of the store are sent to it",
                topic=settings.topic,
            )
        async with bounded(settings, PATIENCE, "taking over"):
            self._producer = AIOKafkaProducer(
                **client_arguments(settings, role="relay"),
                enable_idempotence=True,
                compression_type=None if settings.compression == "none" else settings.compression,
                max_batch_size=BROKER_DEFAULT_MAX_BYTES,
            )
            await self._producer.start()
            self._partitions = len(await self._producer.partitions_for(settings.topic))
        return position

    async def lost(self) -> None:
        """Raise `BrokerUnreachable` when the broker's process has ended unasked."""
        await self._begun.wait()
        if self._life.broker is None:
            await asyncio.Event().wait()
            return
        status = await self._life.broker.ended()
        raise BrokerUnreachable(
            f"the embedded broker has ended (exit status {status}); another one is started, and "
            "sent all events of the store"
        )

    @property
    def topic(self) -> EventsTopic:
        """Nobody deletes topics of the embedded broker."""
        return EventsTopic(id=None, is_empty=False)

    def parcel(
        self, batch_records: int | None = None, clock: Callable[[], datetime] | None = None
    ) -> Parcel:
        return Parcel(self._started().create_batch, self._partitions, batch_records, clock)

    async def publish(self, parcel: Parcel, position: Position) -> None:
        settings = self._life.settings
        async with bounded(settings, PATIENCE, "sending"):
            sending = await send_batches(self._started(), settings.topic, parcel)
            if sending:
                await asyncio.wait(sending, return_when=asyncio.FIRST_EXCEPTION)
            require_accepted(sending)
        self._life.position = position

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await discard(producer)

    def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise RuntimeError("a publisher works between its start and its close")
        return self._producer
