"""Exactly once, on a broker with transactions."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from aiokafka import AIOKafkaProducer

from segexport.kafka import Topics, client_arguments, ensure_topics, passed_over, topic_id
from segexport.relay.discard import PATIENCE, discard, take_note
from segexport.relay.parcel import Batch, Parcel
from segexport.relay.position import Position, topic_replaced
from segexport.relay.position_log import last_position, position_and_ends
from segexport.relay.publisher import EventsTopic
from segexport.relay.sending import bounded, is_out_of_time, require_accepted, send_batches
from segexport.settings import KafkaSettings

_NOT_STARTED: Final = RuntimeError("a publisher works between its start and its close")


class TransactionalPublisher:
    """Implements `Publisher`: records and position are one transaction of Kafka.

    `producer` makes the aiokafka producer.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        producer: Callable[..., AIOKafkaProducer] = AIOKafkaProducer,
    ) -> None:
        self._settings = settings
        self._make = producer
        self._producer: AIOKafkaProducer | None = None
        self._topics: Topics | None = None
        self._topic: EventsTopic | None = None
        self._ends: dict[int, int] = {}  # by partition: behind the last record that we know of
        self._number = 0  # of the last position in the topic
        self._abortable = False
        # Below the transaction's timeout, so that it is us who give up first, and know it.
        self._patience = settings.transaction_timeout.total_seconds() / 2

    async def start(self, check: Callable[[Position], None] | None = None) -> Position | None:
        settings = self._settings
        async with bounded(settings, self._patience, "looking at the topics"):
            self._topics = await ensure_topics(settings, patience=self._patience)
            known = await last_position(settings) if check is not None else None
        if check is not None and known is not None:
            check(known)
        async with bounded(settings, self._patience, "taking over"):
            self._producer = self._make(
                **client_arguments(settings, role="relay"),
                transactional_id=settings.transactional_id,
                transaction_timeout_ms=int(settings.transaction_timeout.total_seconds() * 1000),
                compression_type=None if settings.compression == "none" else settings.compression,
                max_batch_size=self._topics.max_message_bytes,
            )
            await self._producer.start()
            position, self._ends = await position_and_ends(
                settings, self._topics.partitions, through_open=self._patience / 2
            )
        self._number = position.number if position is not None else 0
        self._topic = EventsTopic(self._topics.id, is_empty=not any(self._ends.values()))
        return position

    async def lost(self) -> None:
        """Never: a Kafka that is away is expected back."""
        await asyncio.Event().wait()

    @property
    def topic(self) -> EventsTopic:
        if self._topic is None:
            raise _NOT_STARTED
        return self._topic

    def parcel(
        self, batch_records: int | None = None, clock: Callable[[], datetime] | None = None
    ) -> Parcel:
        producer, topics = self._started()
        return Parcel(producer.create_batch, topics.partitions, batch_records, clock)

    async def publish(self, parcel: Parcel, position: Position) -> None:
        producer, _ = self._started()
        told = position.encode()
        async with bounded(self._settings, self._patience, "a transaction"):
            await producer.begin_transaction()
            self._abortable = True
            await self._send(producer, parcel, told)
            self._abortable = False
            await producer.commit_transaction()
        self._number = position.number

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is None:
            return
        if self._abortable:
            # A courtesy to readers: until somebody ends the transaction, committed records
            # behind it stay hidden from them.
            with passed_over():
                async with asyncio.timeout(PATIENCE):
                    await producer.abort_transaction()
        await discard(producer)

    def _started(self) -> tuple[AIOKafkaProducer, Topics]:
        if self._producer is None or self._topics is None:
            raise _NOT_STARTED
        return self._producer, self._topics

    async def _send(self, producer: AIOKafkaProducer, parcel: Parcel, position: bytes) -> None:
        settings = self._settings
        told = producer.create_batch()
        told.append(timestamp=parcel.now_ms(), key=settings.topic.encode(), value=position)
        telling = await producer.send_batch(told, settings.positions_topic, partition=0)
        telling.add_done_callback(take_note)
        sending = await send_batches(producer, settings.topic, parcel)
        await asyncio.wait({telling, *sending}, return_when=asyncio.FIRST_EXCEPTION)
        if is_out_of_time(sending):
            await telling  # if the position is refused as well, that is no verdict on an event
        require_accepted(sending)
        await telling
        await self._require_same_topic(sending)

    async def _require_same_topic(self, sending: Mapping[asyncio.Future[Any], Batch]) -> None:
        """Raise `PositionMismatch` if the topic begins anew, though it held records before."""
        begun, doubtful = any(self._ends.values()), False
        for future, batch in sending.items():
            told = future.result()
            if told.offset < 0:
                continue  # sent a second time: the broker has it, and no longer knows where
            if told.offset < self._ends[told.partition]:
                raise topic_replaced(self._number)
            doubtful = doubtful or (begun and told.offset == 0)
            self._ends[told.partition] = told.offset + batch.records
        known = self.topic.id
        if doubtful and known is not None and await topic_id(self._settings) != known:
            raise topic_replaced(self._number)
