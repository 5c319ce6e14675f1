"""At least once, on the embedded broker, which knows neither transactions nor yesterday."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog
from aiokafka import AIOKafkaProducer

from segexport.kafka import client_arguments
from segexport.kafka.topics import BROKER_DEFAULT_MAX_BYTES
from segexport.relay.discard import discard
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
    """Makes the publishers for one life of an embedded broker.

    `settings` name the broker's address. The broker begins empty, so what the store retains
    is sent to it from the first row on. The position is kept here, for as long as the
    broker lives: a publisher that fails may have sent more than its position says, and the
    next one then repeats some events.
    """

    def __init__(self, settings: KafkaSettings, store: StoreIdentity) -> None:
        self.settings = settings
        self.position = Position(store=store)

    def __call__(self) -> "IdempotentPublisher":
        """The next publisher."""
        return IdempotentPublisher(self)


class IdempotentPublisher:
    """Implements `Publisher`: records first, then the position, without a transaction."""

    def __init__(self, life: EmbeddedPublishers) -> None:
        self._life = life
        self._producer: AIOKafkaProducer | None = None
        self._partitions = 0

    async def start(self, check: Callable[[Position], None] | None = None) -> Position:  # noqa: ARG002  (nobody else knows this broker)
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

    @property
    def topic(self) -> EventsTopic:
        """Nobody deletes topics of the embedded broker."""
        return EventsTopic(id=None, is_empty=False)

    def parcel(self, batch_records: int | None = None) -> Parcel:
        return Parcel(self._started().create_batch, self._partitions, batch_records)

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
