"""The end of a producer that nobody wants any more, in whatever state it is.

aiokafka's own `stop` waits until everything is sent, which is for ever when the broker does
not answer, and leaves its connections open when the producer has failed. This reaches into
the producer instead; a test holds it to leaving nothing behind.
"""

import asyncio
import inspect
from contextlib import suppress
from typing import Any, Final

from aiokafka import AIOKafkaProducer

from segexport.kafka import passed_over

PATIENCE: Final = 3.0
"""Seconds for the goodbye."""


async def discard(producer: AIOKafkaProducer) -> None:
    """End all tasks of the producer and close its connections, sent or not. Does not raise."""
    sender, accumulator = producer._sender, producer._message_accumulator  # noqa: SLF001
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while tasks := _tasks_of(sender, accumulator, producer.client):
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                for task in tasks:
                    take_note(task)
    for connection in producer.client._conns.values():  # noqa: SLF001
        if connection.connected():
            # Not close(): it would wait until what is buffered has been taken.
            connection._writer.transport.abort()  # noqa: SLF001
    queued = [batch for queue in accumulator._batches.values() for batch in queue]  # noqa: SLF001
    outcomes = [batch._drain_waiter for batch in queued]  # noqa: SLF001
    outcomes.append(producer._txn_manager.wait_for_transaction_end())  # noqa: SLF001
    for outcome in filter(None, outcomes):
        outcome.add_done_callback(take_note)
    with passed_over():
        async with asyncio.timeout(PATIENCE):
            await producer.client.close()
    producer._closed = True  # noqa: SLF001  (or it complains when it is collected)


def take_note(future: asyncio.Future[Any]) -> None:
    """Look at a failure that nobody may come to ask for; asyncio would complain in the log."""
    if not future.cancelled():
        future.exception()


def _tasks_of(*owners: object) -> set[asyncio.Task[Any]]:
    """The running tasks whose coroutines are methods of `owners`."""
    return {
        task for task in asyncio.all_tasks() if any(_self_of(task) is owner for owner in owners)
    }


def _self_of(task: asyncio.Task[Any]) -> object:
    coroutine = task.get_coro()
    return (
        inspect.getcoroutinelocals(coroutine).get("self")
        if inspect.iscoroutine(coroutine)
        else None
    )
