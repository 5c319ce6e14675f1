"""What a test does with a Kafka, whoever runs it: make topics, write, read, look."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any
from uuid import uuid4

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from segexport.events.record import Record as Sent

ANSWER = 10.0
"""Seconds for one answer of a broker that is up."""

_QUIET: Mapping[str, Any] = {"logger": logging.getLogger("librdkafka")}
_FIELD, _HEADER = "\x1f", "\x1e"
"""Separators for the console consumer that no test's data holds."""
_PRINTED = ("partition", "offset", "headers", "key", "value")


@dataclass(frozen=True, slots=True)
class Record:
    """A record as a foreign consumer received it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]

    @property
    def header(self) -> Mapping[str, bytes | None]:
        """The headers by name."""
        return dict(self.headers)


class Kafka(ABC):
    """A cluster that answers at `bootstrap_servers`; `client` is how librdkafka gets in.

    `admin_servers` answer without any security, to whoever may do everything.
    """

    def __init__(
        self, bootstrap_servers: str, *, client: Mapping[str, str], admin_servers: str | None = None
    ) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.admin_servers = admin_servers or bootstrap_servers
        self._client = {**client, "bootstrap.servers": bootstrap_servers, **_QUIET}
        self._admin = {**_QUIET, "bootstrap.servers": self.admin_servers}
        if admin_servers is None:
            self._admin.update(client)

    def brokers(self) -> Sequence[int]:
        """The nodes that answer now; none if nobody does."""
        try:
            return sorted(AdminClient(self._admin).list_topics(timeout=2.0).brokers)
        except KafkaException:
            return []

    def create_topic(
        self,
        name: str,
        *,
        partitions: int = 1,
        copies: int = 1,
        config: Mapping[str, str] | None = None,
    ) -> str:
        """Create a topic, wait until it can be used, return its name."""
        topic = NewTopic(name, partitions, copies, config=dict(config or {}))
        admin = AdminClient(self._admin)
        admin.create_topics([topic], operation_timeout=ANSWER)[name].result(ANSWER)
        deadline = monotonic() + ANSWER
        while name not in admin.list_topics(timeout=ANSWER).topics:
            assert monotonic() < deadline, f"the new topic {name} does not appear"
        return name

    def alter_topic(self, topic: str, name: str, value: str) -> None:
        """Change a setting of a topic."""
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        admin = AdminClient(self._admin)  # its requests end with it
        admin.incremental_alter_configs([resource])[resource].result(ANSWER)

    def delete_topic(self, name: str) -> None:
        """Delete a topic, and wait until it is gone."""
        admin = AdminClient(self._admin)
        admin.delete_topics([name], operation_timeout=ANSWER)[name].result(ANSWER)
        deadline = monotonic() + ANSWER
        while name in admin.list_topics(timeout=ANSWER).topics:
            assert monotonic() < deadline, f"the topic {name} does not go away"

    def partitions_of(self, topic: str) -> int:
        """How many partitions a topic has."""
        metadata = AdminClient(self._admin).list_topics(timeout=ANSWER)
        return len(metadata.topics[topic].partitions)

    def config_of(self, topic: str) -> Mapping[str, str]:
        """A topic's settings in effect."""
        asked = ConfigResource(ResourceType.TOPIC, topic)
        admin = AdminClient(self._admin)  # its requests end with it
        (answer,) = admin.describe_configs([asked]).values()
        return {name: entry.value for name, entry in answer.result(ANSWER).items()}

    def produce(
        self, topic: str, records: Sequence[tuple[bytes | None, bytes | None]], **options: Any
    ) -> None:
        """Write (key, value) pairs; raises KafkaException if one is not accepted."""
        refused: list[KafkaError] = []
        producer = Producer({**self._client, **options})
        for key, value in records:
            producer.produce(
                topic,
                value,
                key,
                on_delivery=lambda error, _: refused.append(error) if error else None,
            )
        assert producer.flush(ANSWER) == 0, f"records for {topic} are not acknowledged"
        if refused:
            raise KafkaException(refused[0])

    def send(self, topic: str, records: Iterable[Sent]) -> None:
        """Write records as they are: key, value, headers and timestamp."""
        producer = Producer({**self._client})
        for record in records:
            producer.produce(
                topic,
                record.value,
                record.key,
                headers=list(record.headers),
                timestamp=record.timestamp_ms,
            )
        assert producer.flush(ANSWER) == 0, f"records for {topic} are not acknowledged"

    def read(
        self,
        topic: str,
        *,
        at_least: int = 0,
        read_committed: bool = True,
        patience: float = 30.0,
    ) -> list[Record]:
        """Everything in a topic, by partition and offset, as confluent-kafka receives it.

        Reads to the end of each partition (to the last stable offset where only committed
        records are asked for) and goes on until there are `at_least` that many records.
        """
        consumer = Consumer(
            {
                **self._client,
                "group.id": f"read-{uuid4()}",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed" if read_committed else "read_uncommitted",
            }
        )
        try:
            return self._read(consumer, topic, at_least, monotonic() + patience)
        finally:
            consumer.close()

    def _read(self, consumer: Consumer, topic: str, at_least: int, deadline: float) -> list[Record]:
        partitions = consumer.list_topics(topic, timeout=ANSWER).topics[topic].partitions
        consumer.assign([TopicPartition(topic, each, OFFSET_BEGINNING) for each in partitions])
        open_ends = set(partitions)
        records: list[Record] = []
        while open_ends or len(records) < at_least:
            assert monotonic() < deadline, (
                f"{topic}: {len(records)} records, {at_least} expected; "
                f"the ends of {sorted(open_ends)} are not reached"
            )
            message = consumer.poll(0.2)
            if message is None:
                continue
            error = message.error()
            if error is None:
                records.append(_record(message))
            elif error.code() == KafkaError._PARTITION_EOF:
                open_ends.discard(message.partition())
            elif not error.retriable():
                raise KafkaException(error)
        return sorted(records, key=lambda record: (record.partition, record.offset))

    def console_consume(
        self,
        topic: str,
        *,
        count: int | None = None,
        read_committed: bool = True,
        patience: float = 10.0,
    ) -> list[Record]:
        """What Kafka's own console consumer prints from the beginning.

        It ends after `count` records, or when none came for `patience` seconds.
        """
        options = [f"print.{name}=true" for name in _PRINTED]
        options += [f"key.separator={_FIELD}", f"headers.separator={_HEADER}"]
        printed = self.run_tool(
            "org.apache.kafka.tools.consumer.ConsoleConsumer",
            *("--bootstrap-server", self.admin_servers, "--topic", topic, "--from-beginning"),
            *("--timeout-ms", str(int(patience * 1000))),
            *("--isolation-level", "read_committed" if read_committed else "read_uncommitted"),
            *(part for option in options for part in ("--formatter-property", option)),
            *(("--max-messages", str(count)) if count is not None else ()),
        )
        records = [_printed_record(line) for line in printed.split("\n") if _FIELD in line]
        return sorted(records, key=lambda record: (record.partition, record.offset))

    @abstractmethod
    def run_tool(self, main: str, *arguments: str) -> str:
        """Run one of Kafka's own command-line tools; its standard output."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it."""


def _record(message: Any) -> Record:
    return Record(
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        tuple(message.headers() or ()),
    )


def _printed_record(line: str) -> Record:
    partition, offset, headers, key, value = line.split(_FIELD)
    pairs = () if headers == "NO_HEADERS" else headers.split(_HEADER)
    return Record(
        int(partition.removeprefix("Partition:")),
        int(offset.removeprefix("Offset:")),
        _printed_bytes(key),
        _printed_bytes(value),
        tuple((name, _printed_bytes(text)) for name, _, text in (p.partition(":") for p in pairs)),
    )


def _printed_bytes(text: str) -> bytes | None:
    return None if text == "null" else text.encode()
