"""The two topics: made if they are missing, and checked for what would break a promise."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    KafkaError,
    LeaderNotAvailableError,
    TopicAlreadyExistsError,
    for_code,
)

from segexport.errors import TopicUnusable
from segexport.kafka.client import client_arguments
from segexport.kafka.faults import in_plain_words, passed_over
from segexport.settings import KafkaSettings

BROKER_DEFAULT_MAX_BYTES: Final = 1_048_588
"""`max.message.bytes` of a broker that nobody has configured."""

EMBEDDED_PARTITIONS: Final = 4
"""Partitions of every topic of the embedded broker: librdkafka's number, not ours to choose."""

_DURABLE_FROM: Final = 3
"""With that many replicas, a topic of ours asks for two of them to confirm each write."""

# The positions topic is read to its end at each start of the relay, and compaction leaves
# the segment alone that is being written: it must not grow to the default of 1 GiB.
_POSITIONS_SEGMENT: Final = str(16 << 20)

_PATIENCE: Final = 30.0
_PAUSE: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """What a writer must know of the events topic.

    `max_message_bytes` limits a batch as the broker receives it. `concerns` are sentences
    about settings that are allowed but weaken what is promised; they belong into the log.
    """

    partitions: int
    max_message_bytes: int
    concerns: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Topic:
    name: str
    partitions: int
    copies: int
    config: Mapping[str, str]

    @property
    def policies(self) -> frozenset[str]:
        return frozenset(self.config["cleanup.policy"].split(","))

    @property
    def in_sync(self) -> int:
        return int(self.config["min.insync.replicas"])


async def ensure_topics(settings: KafkaSettings, *, patience: float = _PATIENCE) -> Topics:
    """Create the events topic and the positions topic where they are missing; check them.

    Without `bootstrap_servers` there is nothing to do: the embedded broker makes topics by
    itself. Raises `BrokerUnreachable`, `NotAuthorized`, and `TopicUnusable` with all that
    is wrong with the topics.
    """
    if settings.bootstrap_servers is None:
        return Topics(partitions=EMBEDDED_PARTITIONS, max_message_bytes=BROKER_DEFAULT_MAX_BYTES)
    arguments = client_arguments(settings, role="topics")
    arguments["request_timeout_ms"] = min(arguments["request_timeout_ms"], int(patience * 1000))
    async with _admin(settings, arguments) as admin:
        events, positions = await _found_or_made(admin, settings, patience)
        return _checked(settings, events, positions)


async def wait_for_topic(settings: KafkaSettings, *, patience: float = _PATIENCE) -> None:
    """Return as soon as the events topic is there; nothing is created.

    Raises `BrokerUnreachable`, `NotAuthorized`, and `TopicUnusable` if it does not appear.
    """
    deadline = asyncio.get_running_loop().time() + patience
    async with _admin(settings, client_arguments(settings, role="topics")) as admin:
        while settings.topic not in await admin.list_topics():
            if asyncio.get_running_loop().time() > deadline:
                raise TopicUnusable(
                    f"there is no topic {settings.topic!r} at {settings.bootstrap_servers}, or "
                    "this client may not see it: the relay creates it when it starts; check "
                    "kafka.topic"
                )
            await asyncio.sleep(_PAUSE)


@asynccontextmanager
async def _admin(
    settings: KafkaSettings, arguments: Mapping[str, Any]
) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client that has begun; nothing but errors of ours leaves the block."""
    async with in_plain_words(settings):
        admin = AIOKafkaAdminClient(**arguments)
        try:
            await admin.start()
            yield admin
        finally:
            with passed_over():
                await admin.close()


async def _found_or_made(
    admin: AIOKafkaAdminClient, settings: KafkaSettings, patience: float
) -> tuple[_Topic, _Topic]:
    wanted = {topic.name: topic for topic in _as_wanted(settings)}
    last: Exception = LeaderNotAvailableError(f"partitions of {settings.topic!r} have no leader")
    try:
        async with asyncio.timeout(patience):
            while True:
                try:
                    if found := await _found(admin, wanted):
                        return found
                except KafkaError as error:
                    if not error.retriable:
                        raise
                    last = error
                await asyncio.sleep(_PAUSE)
    except TimeoutError:
        raise last from None


async def _found(
    admin: AIOKafkaAdminClient, wanted: Mapping[str, NewTopic]
) -> tuple[_Topic, _Topic] | None:
    """Both topics if they are there and can be used; makes what is missing."""
    # All topics, not ours by name: asking by name makes a broker that creates topics
    # automatically do so, with settings of its own.
    known = {each["topic"]: each["partitions"] for each in await admin.describe_topics()}
    missing = [topic for name, topic in wanted.items() if name not in known]
    if missing:
        await _create(admin, missing)
        return None
    if any(each["leader"] < 0 for name in wanted for each in known[name]):
        return None
    configs = await _configs(admin, list(wanted))
    events, positions = (
        _Topic(
            name=name,
            partitions=len(known[name]),
            copies=min(len(each["replicas"]) for each in known[name]),
            config=configs[name],
        )
        for name in wanted
    )
    return events, positions


def _as_wanted(settings: KafkaSettings) -> tuple[NewTopic, NewTopic]:
    copies = settings.replication_factor
    durable = {"min.insync.replicas": "2"} if copies >= _DURABLE_FROM else {}
    return (
        NewTopic(
            settings.topic,
            settings.partitions,
            copies,
            topic_configs={"cleanup.policy": "delete", **durable},
        ),
        NewTopic(
            settings.positions_topic,
            1,
            copies,
            topic_configs={
                "cleanup.policy": "compact",
                "segment.bytes": _POSITIONS_SEGMENT,
                **durable,
            },
        ),
    )


async def _create(admin: AIOKafkaAdminClient, topics: Sequence[NewTopic]) -> None:
    response = await admin.create_topics(list(topics))
    for name, code, message in response.topic_errors:
        if code not in {0, TopicAlreadyExistsError.errno}:  # another process was quicker
            raise for_code(code)(f"creating {name!r}: {message}")


async def _configs(
    admin: AIOKafkaAdminClient, names: Sequence[str]
) -> Mapping[str, Mapping[str, str]]:
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    configs: dict[str, Mapping[str, str]] = {}
    for response in await admin.describe_configs(asked):
        for code, message, _, name, entries in response.resources:
            if code:
                raise for_code(code)(f"reading the configuration of {name!r}: {message}")
            configs[name] = {key: value for key, value, *_ in entries}
    return configs


def _checked(settings: KafkaSettings, events: _Topic, positions: _Topic) -> Topics:
    wrong = [problem for topic in (events, positions) for problem in _too_weak(settings, topic)]
    if events.partitions != settings.partitions:
        wrong.append(
            f"{events.name!r} has {events.partitions} partitions and kafka.partitions says "
            f"{settings.partitions}: set it to {events.partitions} (more partitions for a topic "
            "in use would break the order of a job's events)"
        )
    if "compact" in events.policies:
        wrong.append(
            f"{events.name!r} is compacted, which drops all but a job's last event: set its "
            "cleanup.policy to delete"
        )
    if positions.partitions != 1:
        wrong.append(
            f"{positions.name!r} has {positions.partitions} partitions and needs exactly one: "
            "delete it if it is empty, or choose another kafka.topic"
        )
    if positions.policies != {"compact"}:
        wrong.append(
            f"{positions.name!r} has cleanup.policy {positions.config['cleanup.policy']}, which "
            "would forget how far delivery is: set it to compact"
        )
    if wrong:
        raise TopicUnusable(f"at {settings.bootstrap_servers}: {'; '.join(wrong)}")
    return Topics(
        partitions=events.partitions,
        max_message_bytes=int(events.config["max.message.bytes"]),
        concerns=tuple(
            f"{topic.name!r} takes a write as safe that only one broker has "
            "(min.insync.replicas 1): losing that broker may lose events"
            for topic in (events, positions)
            if topic.copies > 1 and topic.in_sync == 1
        ),
    )


def _too_weak(settings: KafkaSettings, topic: _Topic) -> Iterator[str]:
    if topic.copies < settings.replication_factor:
        yield (
            f"{topic.name!r} has {topic.copies} replicas and kafka.replication_factor says "
            f"{settings.replication_factor}: add replicas, or lower the setting"
        )
    if topic.in_sync > topic.copies:
        yield (
            f"{topic.name!r} has {topic.copies} replicas and min.insync.replicas "
            f"{topic.in_sync}, so it accepts no write: lower that"
        )
