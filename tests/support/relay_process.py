"""A relay in a process of its own, which can be made to die at a chosen point.

Forked (`support.forked`) or run as a program, with one argument: the `Order` as JSON. It delivers
what the store holds and ends; or it kills itself as ordered; or, with `forever`, it goes on until
it is killed.
"""

import asyncio
import os
import signal
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer

from segexport.relay.schedule import Bounds
from segexport.relay.transactional import TransactionalPublisher
from segexport.settings import KafkaSettings
from segexport.store.sqlite import SqliteStore
from support.deliveries import delivered, relay_of, running
from support.forked import TESTS, Forked


@dataclass(frozen=True, slots=True)
class Point:
    """A moment of a relay's work: before, during or after the nth call of something.

    `call` is a method of the producer, with the topic's role behind it for `send_batch`
    (`send_batch events`, `send_batch positions`); or `mark_delivered`, of the store.
    `during` means 3 ms after the call has begun.
    """

    moment: str
    call: str
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.moment} {self.call} #{self.nth}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the process is told."""

    store: str
    kafka: dict[str, Any]
    owner: str = "relay"
    lease: float = 5.0
    transaction_size: int = 8 << 20
    death: Point | None = None
    forever: bool = False


class Fuse:
    """Kills the process when the ordered point is reached."""

    def __init__(self, point: Point | None) -> None:
        self._point = point
        self._calls = 0

    async def around(self, call: str, work: Any) -> Any:
        point = self._point
        if point is None or call != point.call:
            return await work
        self._calls += 1
        if self._calls != point.nth:
            return await work
        if point.moment == "before":
            die()
        if point.moment == "during":
            asyncio.get_running_loop().call_later(0.003, die)
        result = await work
        if point.moment == "after":
            die()
        return result


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class FusedProducer(AIOKafkaProducer):  # type: ignore[misc]  # aiokafka is untyped
    """An aiokafka producer with a fuse around each call."""

    def __init__(self, fuse: Fuse, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._fuse = fuse

    async def start(self) -> None:
        await self._fuse.around("start", super().start())

    async def begin_transaction(self) -> None:
        await self._fuse.around("begin_transaction", super().begin_transaction())

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> Any:
        role = "positions" if topic.endswith(".positions") else "events"
        sending = super().send_batch(batch, topic, partition=partition)
        future = await self._fuse.around(f"send_batch {role}", sending)
        return asyncio.ensure_future(self._fuse.around(f"acknowledgement {role}", future))

    async def commit_transaction(self) -> None:
        await self._fuse.around("commit_transaction", super().commit_transaction())


class FusedStore(SqliteStore):
    """A store with a fuse around the mark of what is delivered."""

    fuse: Fuse

    async def mark_delivered(self, owner: str, epoch: int, number: int) -> None:
        marking = super().mark_delivered(owner, epoch, number)
        await self.fuse.around("mark_delivered", marking)


async def start_process(order: Order) -> asyncio.subprocess.Process:
    """Start it; its output is this process's."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "support.relay_process",
        _text(order),
        cwd=TESTS,
    )


async def run_process(relays: Forked, order: Order) -> int:
    """Run it to its end; the exit status, negative for a signal."""
    return await asyncio.to_thread(relays.run, _text(order))


def main(order: str) -> None:
    """Deliver as ordered; an `Order` as JSON."""
    document = orjson.loads(order)
    death = document.pop("death")
    asyncio.run(_deliver(Order(**document, death=Point(**death) if death else None)))


def _text(order: Order) -> str:
    return orjson.dumps(asdict(order)).decode()


async def _deliver(order: Order) -> None:
    settings = KafkaSettings(**order.kafka)
    fuse = Fuse(order.death)
    store = await FusedStore.open(Path(order.store))
    store.fuse = fuse
    publishers = partial(TransactionalPublisher, settings, producer=partial(FusedProducer, fuse))
    relay = relay_of(
        store,
        settings,
        owner=order.owner,
        publishers=publishers,
        bounds=Bounds(size=order.transaction_size),
    )
    async with running(relay):
        if order.forever:
            await asyncio.Event().wait()
        await delivered(store)
    await store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
