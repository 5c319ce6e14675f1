"""A broker for trying things: librdkafka's in-memory cluster, in a process of its own.

It speaks Kafka's real protocol to any client on this machine. It forgets everything when
it ends, keeps about 5 MB for each partition (the oldest records go first), makes any topic
that is asked for with `EMBEDDED_PARTITIONS` partitions, and knows neither transactions
that can be relied on nor logins. Never use it for events that matter.

The process ends with the one that started it, however that ends: it waits for its standard
input to close, which the operating system sees to.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from segexport.errors import BrokerUnreachable

_PROGRAM: Final = """
import sys
from confluent_kafka import Producer
cluster = Producer({"test.mock.num.brokers": 1, "log_level": 3})
metadata = cluster.list_topics(timeout=10)
print(*(f"{each.host}:{each.port}" for each in metadata.brokers.values()), flush=True)
sys.stdin.read()
"""

_PATIENCE: Final = 20.0


class EmbeddedBroker:
    """An asynchronous context manager: the broker answers inside of it.

    `async with EmbeddedBroker() as broker:` clients use `broker.bootstrap_servers`.
    Raises `BrokerUnreachable` if the process does not come up in `patience` seconds.
    """

    def __init__(self, *, patience: float = _PATIENCE) -> None:
        self._patience = patience
        self._process: Process | None = None
        self._address: str | None = None

    @property
    def bootstrap_servers(self) -> str:
        """Its address; known inside the context."""
        if self._address is None:
            raise RuntimeError("the embedded broker has an address only inside its context")
        return self._address

    @property
    def pid(self) -> int | None:
        """The process that it runs in; None outside of the context."""
        return self._process.pid if self._process is not None else None

    @property
    def exit_status(self) -> int | None:
        """Of its process if that has ended unasked, negative for a signal; else None."""
        return self._process.returncode if self._process is not None else None

    @property
    def has_ended(self) -> bool:
        """Whether it has no process that runs."""
        return self._process is None or self.exit_status is not None

    async def ended(self) -> int:
        """Wait until its process ends: the exit status."""
        if self._process is None:
            raise RuntimeError("the embedded broker runs only inside its context")
        return await self._process.wait()

    async def restart(self) -> None:
        """Start another process, at another address and without a record, in place of one that
        has ended. Raises `BrokerUnreachable`."""
        if self._process is not None:
            await self._end(self._process)
        await self._start()

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            await self._end(self._process)

    async def _start(self) -> None:
        # Its own session: Ctrl-C at a terminal is for the relay, which still has to deliver.
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _PROGRAM), stdin=PIPE, stdout=PIPE, start_new_session=True
            )
        except OSError as error:
            raise _not_started(f"cannot be started ({error})") from error
        try:
            self._address = await self._announced(self._process)
        except BaseException:
            await self._end(self._process)
            raise

    async def _announced(self, process: Process) -> str:
        assert process.stdout is not None  # noqa: S101  (asked for above)
        try:
            async with asyncio.timeout(self._patience):
                line = await process.stdout.readline()
        except TimeoutError as error:
            raise _not_started(f"did not start within {self._patience:g} s") from error
        if not line:
            raise _not_started("has ended before it had an address")
        return line.decode().strip()

    async def _end(self, process: Process) -> None:
        self._process, self._address = None, None
        with suppress(ProcessLookupError):
            process.kill()  # it holds nothing that would outlive it
        await process.communicate()


def _not_started(how: str) -> BrokerUnreachable:
    return BrokerUnreachable(
        f"the embedded broker {how}; try again, or name a Kafka with kafka.bootstrap_servers"
    )
