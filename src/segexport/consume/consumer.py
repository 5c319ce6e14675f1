"""Reading the events topic as any consumer should: committed records only, in order.

Offsets have gaps (the markers of transactions take some up), so nothing here counts by them.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from enum import StrEnum
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, ConsumerStoppedError

from segexport.consume.received import Received, received
from segexport.errors import DeliveryError
from segexport.events.contract import Contract
from segexport.kafka import client_arguments, in_plain_words, passed_over, wait_for_topic
from segexport.settings import KafkaSettings

_PATIENCE: Final = timedelta(seconds=10)
_POLL: Final = 1.0
"""The longest that one fetch waits for records, seconds."""
_CLOSING: Final = 3.0
"""Seconds that the last commit has when the reader leaves."""


class Start(StrEnum):
    """Where reading begins; a group that has read before goes on from there instead."""

    BEGINNING = "beginning"
    NOW = "now"


class EventReader:
    """An asynchronous context manager that reads the events topic.

    Without a `group`, it reads all partitions and remembers nothing. With one, partitions
    are shared with the group's other members, and what has been handed out is committed as
    soon as the next record is asked for: whoever stops in the middle of a record receives
    it again.

    Entering waits up to `patience` for the topic to appear. Raises `BrokerUnreachable`,
    `NotAuthorized`, `ClientFailed`, and `TopicUnusable` if the topic is not there. Once it
    reads, an outage of the broker only delays records.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        start: Start = Start.BEGINNING,
        group: str | None = None,
        contract: Contract = Contract.XDM,
        patience: timedelta = _PATIENCE,
    ) -> None:
        self._settings = settings
        self._start = start
        self._group = group
        self._contract = contract
        self._patience = patience
        self._open: AIOKafkaConsumer | None = None
        self._done: dict[TopicPartition, int] = {}

    async def __aenter__(self) -> Self:
        settings = self._settings
        await wait_for_topic(settings, patience=self._patience.total_seconds())
        async with in_plain_words(settings):
            self._open = AIOKafkaConsumer(
                settings.topic,
                **client_arguments(settings, role="reader"),
                group_id=self._group,
                isolation_level="read_committed",
                auto_offset_reset="earliest" if self._start is Start.BEGINNING else "latest",
                enable_auto_commit=False,
            )
            try:
                await self._open.start()
                if self._group is None and self._start is Start.NOW:
                    # At once, not with the first fetch: "now" is when the context is entered.
                    await self._open.seek_to_end()
            except BaseException:
                with passed_over():
                    await self._open.stop()
                raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            # What cannot be committed now is received again, which a reader must bear anyway.
            with suppress(DeliveryError, TimeoutError):
                async with asyncio.timeout(_CLOSING), in_plain_words(self._settings):
                    await self._commit()
        finally:
            with passed_over():
                await self._consumer.stop()

    async def follow(
        self,
        *,
        idle: timedelta | None = None,
        within: timedelta | None = None,
        until: Callable[[Received], bool] | None = None,
    ) -> AsyncIterator[Received]:
        """Records as they come; for ever, if nothing ends it.

        Ends when none has come for `idle`, after `within` in all, or behind the first one
        that `until` holds for.
        """
        now = asyncio.get_running_loop().time
        end = None if within is None else now() + within.total_seconds()
        last = now()
        while True:
            limits = [_POLL]
            if idle is not None:
                limits.append(last + idle.total_seconds() - now())
            if end is not None:
                limits.append(end - now())
            records = await self._fetch(max(0.0, min(limits)))
            for record in records:
                one = received(record, self._contract)
                yield one
                self._done[TopicPartition(one.topic, one.partition)] = one.offset + 1
                if (until is not None and until(one)) or (end is not None and now() >= end):
                    return
            if records:
                last = now()
            elif min(limits) <= 0:
                return

    async def so_far(self) -> AsyncIterator[Received]:
        """Every record up to what is the end of the topic now. For readers without a group."""
        if self._group is not None:
            raise RuntimeError("a member of a group sees a part of the topic, which has no end")
        async with in_plain_words(self._settings):
            ends = await self._consumer.end_offsets(list(self._consumer.assignment()))
        while await self._short_of(ends):
            for record in await self._fetch(_POLL):
                where = TopicPartition(record.topic, record.partition)
                if record.offset < ends[where]:
                    yield received(record, self._contract)
                    self._done[where] = record.offset + 1

    @property
    def _consumer(self) -> AIOKafkaConsumer:
        if self._open is None:
            raise RuntimeError("an event reader reads only inside its context")
        return self._open

    async def _fetch(self, patience: float) -> Sequence[ConsumerRecord[bytes, bytes]]:
        async with in_plain_words(self._settings):
            await self._commit()
            fetched: Mapping[Any, Sequence[ConsumerRecord[bytes, bytes]]]
            fetched = await self._consumer.getmany(timeout_ms=int(patience * 1000))
            fetching = self._consumer._fetcher.error_future  # noqa: SLF001  (nobody else asks it)
            if fetching.done():
                fetching.result()
                raise ConsumerStoppedError("nothing is fetched any more")
        return [record for records in fetched.values() for record in records]

    async def _commit(self) -> None:
        mine = self._consumer.assignment()
        done = {where: offset for where, offset in self._done.items() if where in mine}
        self._done.clear()
        if self._group is not None and done:
            # The group is being shared out anew: whoever gets the partition reads it again.
            with suppress(CommitFailedError):
                await self._consumer.commit(done)

    async def _short_of(self, ends: Mapping[TopicPartition, int]) -> bool:
        async with in_plain_words(self._settings):
            for partition, end in ends.items():
                if await self._consumer.position(partition) < end:
                    return True
        return False
