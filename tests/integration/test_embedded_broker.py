"""The broker for trying things comes up, stays apart from others, and leaves with its owner."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from segexport.errors import BrokerUnreachable
from segexport.kafka import EMBEDDED_PARTITIONS, client_arguments, ensure_topics
from segexport.relay.embedded import EmbeddedBroker
from segexport.settings import KafkaSettings
from support.waiting import until

OWNER = """
import asyncio, sys
from segexport.relay.embedded import EmbeddedBroker

async def main():
    async with EmbeddedBroker() as broker:
        print(broker.pid, broker.bootstrap_servers, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


async def answers(servers: str) -> bool:
    host, port = servers.split(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


def runs(pid: int) -> bool:
    """Whether there is such a process, and it is not just waiting to be buried."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


def settings_for(broker: EmbeddedBroker) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=broker.bootstrap_servers)


async def send(broker: EmbeddedBroker, *values: bytes) -> None:
    arguments = client_arguments(settings_for(broker), role="test")
    async with AIOKafkaProducer(**arguments, enable_idempotence=True) as producer:
        for value in values:
            await producer.send_and_wait("t", value, key=b"k")


async def receive(broker: EmbeddedBroker, count: int) -> list[bytes]:
    arguments = client_arguments(settings_for(broker), role="test")
    async with AIOKafkaConsumer(
        "t", **arguments, isolation_level="read_committed", auto_offset_reset="earliest"
    ) as consumer:
        async with asyncio.timeout(20):
            return [(await consumer.getone()).value for _ in range(count)]


async def test_two_at_once_know_nothing_of_each_other() -> None:
    async with EmbeddedBroker() as one, EmbeddedBroker() as other:
        assert one.bootstrap_servers != other.bootstrap_servers
        await asyncio.gather(send(one, b"1", b"2"), send(other, b"3"))
        assert await receive(one, 2) == [b"1", b"2"]
        assert await receive(other, 1) == [b"3"]


async def test_it_makes_topics_of_the_size_that_we_say_it_does() -> None:
    told = await ensure_topics(KafkaSettings())
    async with EmbeddedBroker() as broker:
        await send(broker, b"1")
        arguments = client_arguments(settings_for(broker), role="test")
        async with AIOKafkaConsumer("t", **arguments) as consumer:
            partitions = consumer.partitions_for_topic("t")
    assert partitions is not None
    assert len(partitions) == told.partitions == EMBEDDED_PARTITIONS


async def test_it_ends_with_its_context() -> None:
    broker = EmbeddedBroker()
    async with broker:
        servers = broker.bootstrap_servers
        assert await answers(servers)
    assert not await answers(servers)
    with pytest.raises(RuntimeError, match="inside its context"):
        _ = broker.bootstrap_servers


@pytest.mark.crash
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_it_ends_when_its_owner_is_killed(number: signal.Signals) -> None:
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    pid, servers = (await asyncio.wait_for(owner.stdout.readline(), 30)).decode().split()
    assert await answers(servers)
    owner.send_signal(number)
    await owner.communicate()

    async def gone() -> bool:
        return not await answers(servers) and not runs(int(pid))

    await until(gone, 10, f"the broker process {pid} is gone")


async def test_ctrl_c_at_the_terminal_does_not_reach_it() -> None:
    async with EmbeddedBroker() as broker:
        assert broker.pid is not None
        assert os.getpgid(broker.pid) != os.getpgid(0)


async def test_one_that_does_not_come_up_is_an_error_and_leaves_nothing() -> None:
    broker = EmbeddedBroker(patience=0.001)
    with pytest.raises(BrokerUnreachable, match=r"kafka\.bootstrap_servers"):
        async with broker:
            pass
    assert broker.pid is None
