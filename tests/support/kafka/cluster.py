"""A Kafka cluster of our own in KRaft mode, on free loopback ports, whose nodes can be hurt."""

import base64
import os
import random
import signal
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from support.kafka.access import Kafka
from support.kafka.distribution import Distribution, KafkaMissing, Running
from support.waiting import wait_until

START_PATIENCE = 60.0
STOP_PATIENCE = 20.0

_HOST = "127.0.0.1"
_LISTENERS = ("CLIENT", "INTERNAL", "CONTROLLER")

# Below the range that the system gives to outgoing connections: while a broker is down,
# nobody is handed its port; nor is the other process of these tests, which takes every second.
_PORTS = range(15_000 + (os.environ.get("PYTEST_XDIST_WORKER") == "gw1"), 30_000, 2)

_QUICK: Mapping[str, str] = {
    "auto.create.topics.enable": "false",
    "broker.heartbeat.interval.ms": "200",
    "broker.session.timeout.ms": "2000",  # a killed broker may come back this soon
    "group.initial.rebalance.delay.ms": "0",
    "log.cleaner.dedupe.buffer.size": str(4 << 20),
    "num.io.threads": "4",
    "num.network.threads": "2",
    "offsets.topic.num.partitions": "2",
    "share.coordinator.state.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "4",
}


@dataclass(frozen=True, slots=True)
class Security:
    """How clients get in: the broker's side (its properties, options of its format tool) and

    the client's (librdkafka's names). Nodes talk to each other in the clear all the same.
    """

    protocol: str = "PLAINTEXT"
    properties: Mapping[str, str] = field(default_factory=dict)
    format_options: tuple[str, ...] = ()
    client: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Node:
    id: int
    folder: Path
    ports: Mapping[str, int]
    running: Running | None = None

    @property
    def log(self) -> Path:
        return self.folder / "log"


class Cluster(Kafka):
    """Apache Kafka, one or more nodes that are broker and controller in one.

    All nodes run when it is made. `stop`, `kill`, `pause` and their opposites take the
    number of a node (from 1), or nothing for all. They return when the effect is there:
    after `start`, every node that should run answers; what was stored is still there.
    """

    def __init__(
        self,
        distribution: Distribution,
        folder: Path,
        *,
        nodes: int = 1,
        security: Security | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self._distribution = distribution
        self._folder = folder
        self._security = security or Security()
        ports = free_ports(nodes * len(_LISTENERS))
        self._nodes = [
            _Node(number, folder / str(number), {name: next(ports) for name in _LISTENERS})
            for number in range(1, nodes + 1)
        ]
        super().__init__(
            self._servers("CLIENT"),
            client={"security.protocol": self._security.protocol, **self._security.client},
            admin_servers=self._servers("INTERNAL"),
        )
        # Led by a letter: the format tool takes a leading dash for another option.
        cluster_id = "k" + base64.urlsafe_b64encode(uuid4().bytes).decode()[1:].rstrip("=")
        for node in self._nodes:
            self._format(node, cluster_id, properties or {})
        try:
            self.start()
        except AssertionError:
            self.kill()
            raise

    @property
    def nodes(self) -> int:
        """How many nodes there are."""
        return len(self._nodes)

    def start(self, node: int | None = None) -> None:
        """Start what does not run."""
        for chosen in self._chosen(node):
            if chosen.running is None:
                chosen.running = self._distribution.start(
                    self._folder, chosen.log, "kafka.Kafka", str(self._properties(chosen))
                )
        wait_until(self._all_answer, START_PATIENCE, f"Kafka answers at {self.admin_servers}")

    def stop(self, node: int | None = None) -> None:
        """Shut down cleanly."""
        self._end(node, signal.SIGTERM)

    def kill(self, node: int | None = None) -> None:
        """SIGKILL: no goodbye."""
        self._end(node, signal.SIGKILL)

    def pause(self, node: int | None = None) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        for chosen in self._chosen(node):
            if chosen.running is not None:
                chosen.running.signal(signal.SIGSTOP)

    def resume(self, node: int | None = None) -> None:
        """Let a paused node go on."""
        for chosen in self._chosen(node):
            if chosen.running is not None:
                chosen.running.signal(signal.SIGCONT)

    def close(self) -> None:
        """Nothing runs any more; the files are left to whoever gave the folder."""
        self.kill()

    def run_tool(self, main: str, *arguments: str) -> str:
        return self._distribution.run(self._folder, main, *arguments)

    def _chosen(self, node: int | None) -> list[_Node]:
        return self._nodes if node is None else [self._nodes[node - 1]]

    def _end(self, node: int | None, how: signal.Signals) -> None:
        ending = [(chosen, chosen.running) for chosen in self._chosen(node) if chosen.running]
        for _, running in ending:
            running.signal(how)
        for chosen, running in ending:
            try:
                running.wait(STOP_PATIENCE)
            except TimeoutError:
                running.signal(signal.SIGKILL)
                running.wait(STOP_PATIENCE)
            chosen.running = None

    def _all_answer(self) -> bool:
        up = [node for node in self._nodes if node.running is not None]
        for node in up:
            if node.running is not None and node.running.ended:
                log = node.log.read_text(errors="replace")
                raise AssertionError(f"Kafka's node {node.id} ended:\n{log[-4000:]}")
        return len(self.brokers()) >= len(up)

    def _servers(self, listener: str) -> str:
        return ",".join(f"{_HOST}:{node.ports[listener]}" for node in self._nodes)

    def _properties(self, node: _Node) -> Path:
        return node.folder / "server.properties"

    def _format(self, node: _Node, cluster_id: str, overrides: Mapping[str, str]) -> None:
        node.folder.mkdir(parents=True)
        copies, in_sync = (1, 1) if self.nodes < 3 else (3, 2)
        addresses = {name: f"{name}://{_HOST}:{port}" for name, port in node.ports.items()}
        properties = {
            **_QUICK,
            "process.roles": "broker,controller",
            "node.id": str(node.id),
            "controller.quorum.voters": ",".join(
                f"{each.id}@{_HOST}:{each.ports['CONTROLLER']}" for each in self._nodes
            ),
            "listeners": ",".join(addresses.values()),
            "advertised.listeners": f"{addresses['CLIENT']},{addresses['INTERNAL']}",
            "listener.security.protocol.map": (
                f"CLIENT:{self._security.protocol},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"
            ),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "INTERNAL",
            "log.dirs": str(node.folder / "data"),
            "offsets.topic.replication.factor": str(copies),
            "share.coordinator.state.topic.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": str(copies),
            "transaction.state.log.min.isr": str(in_sync),
            "transaction.state.log.replication.factor": str(copies),
            **self._security.properties,
            **overrides,
        }
        written = "".join(f"{name}={value}\n" for name, value in properties.items())
        self._properties(node).write_text(written)
        self._distribution.run(
            self._folder,
            "kafka.tools.StorageTool",
            *("format", "--cluster-id", cluster_id, "--config", str(self._properties(node))),
            *self._security.format_options,
        )


class ClusterFactory(Protocol):
    """Makes clusters that end with the test; the arguments are those of `Cluster`."""

    def __call__(
        self,
        *,
        nodes: int = 1,
        security: Security | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> Cluster: ...


def free_ports(count: int) -> Iterator[int]:
    """Ports on the loopback interface that nobody uses now."""
    held: list[socket.socket] = []
    try:
        for port in random.sample(_PORTS, len(_PORTS)):
            probe = socket.socket()
            try:
                probe.bind((_HOST, port))
            except OSError:
                probe.close()
                continue
            held.append(probe)
            if len(held) == count:
                return iter([probe.getsockname()[1] for probe in held])
    finally:
        for probe in held:
            probe.close()
    raise KafkaMissing(f"there are no {count} free ports between {_PORTS.start} and {_PORTS.stop}")
