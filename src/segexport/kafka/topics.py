"""The two topics: made if they are missing, and checked for what would break a promise."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    InvalidConfigurationError,
    KafkaError,
    LeaderNotAvailableError,
    TopicAlreadyExistsError,
    for_code,
)

from segexport.errors import BrokerUnreachable, SettingRefused, TopicUnusable
from segexport.kafka.cluster import admin_client, topic_configs, topic_ids, transaction_limit
from segexport.kafka.topic import (
    AHEAD,
    CREATE_TIME,
    UNLIMITED,
    Topic,
    concerns,
    hindrances,
    problems,
)
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

_LIMITS: Final = {
    "message.timestamp.before.max.ms": str(UNLIMITED),
    "message.timestamp.after.max.ms": str(AHEAD),
}
_TIMESTAMPS: Final = {"message.timestamp.type": CREATE_TIME, **_LIMITS}
"""However late an event is delivered, it is taken; a clock that runs ahead is noticed."""

_PATIENCE: Final = 30.0
_PAUSE: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """What a writer must know of the events topic.

    `id` is that of the events topic, None where the brokers give none. `max_message_bytes` limits
    a batch as the broker receives it. `concerns` are sentences about settings that are allowed but
    weaken what is promised; they belong into the log.
    """

    id: UUID | None = None
    partitions: int
    max_message_bytes: int
    concerns: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    events: Topic
    positions: Topic
    transaction_limit: timedelta | None


async def ensure_topics(settings: KafkaSettings, *, patience: float = _PATIENCE) -> Topics:
    """Create the events topic and the positions topic where they are missing; check them.

    Without `bootstrap_servers` there is nothing to do: the embedded broker makes topics by
    itself. Raises `BrokerUnreachable`, `NotAuthorized`, `ClientFailed`, `TopicUnusable` with all
    that is wrong with the topics, and `SettingRefused`.
    """
    if settings.bootstrap_servers is None:
        return Topics(partitions=EMBEDDED_PARTITIONS, max_message_bytes=BROKER_DEFAULT_MAX_BYTES)
    async with admin_client(settings, patience) as admin:
        return _checked(settings, await _found_or_made(admin, settings, patience))


async def topic_id(settings: KafkaSettings, *, patience: float = _PATIENCE) -> UUID | None:
    """The id of the events topic; None where the brokers give none. Raises as `ensure_topics`."""
    async with admin_client(settings, patience) as admin:
        return (await topic_ids(admin, [settings.topic]))[settings.topic]


async def wait_for_topic(settings: KafkaSettings, *, patience: float = _PATIENCE) -> None:
    """Return as soon as the events topic is there; nothing is created.

    Raises `BrokerUnreachable`, `NotAuthorized`, and `TopicUnusable` if it does not appear.
    """
    deadline = asyncio.get_running_loop().time() + patience
    async with admin_client(settings, _PATIENCE) as admin:
        while settings.topic not in await admin.list_topics():
            if asyncio.get_running_loop().time() > deadline:
                raise TopicUnusable(
                    f"there is no topic {settings.topic!r} at {settings.bootstrap_servers}, or "
                    "this client may not see it: the relay creates it when it starts; check "
                    "kafka.topic"
                )
            await asyncio.sleep(_PAUSE)


async def _found_or_made(
    admin: AIOKafkaAdminClient, settings: KafkaSettings, patience: float
) -> _Found:
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


async def _found(admin: AIOKafkaAdminClient, wanted: Mapping[str, NewTopic]) -> _Found | None:
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
    ids, configs = await topic_ids(admin, list(wanted)), await topic_configs(admin, list(wanted))
    events, positions = (
        Topic.described(name, ids[name], known[name], configs[name]) for name in wanted
    )
    limit = await transaction_limit(admin, known[events.name][0]["leader"])
    return _Found(events=events, positions=positions, transaction_limit=limit)


def _as_wanted(settings: KafkaSettings) -> tuple[NewTopic, NewTopic]:
    copies = settings.replication_factor
    durable = {"min.insync.replicas": "2"} if copies >= _DURABLE_FROM else {}
    return (
        NewTopic(
            settings.topic,
            settings.partitions,
            copies,
            topic_configs={"cleanup.policy": "delete", **durable, **_TIMESTAMPS},
        ),
        NewTopic(
            settings.positions_topic,
            1,
            copies,
            topic_configs={
                "cleanup.policy": "compact",
                "segment.bytes": _POSITIONS_SEGMENT,
                **durable,
                **_TIMESTAMPS,
            },
        ),
    )


async def _create(admin: AIOKafkaAdminClient, topics: Sequence[NewTopic]) -> None:
    response = await admin.create_topics(list(topics))
    again: list[NewTopic] = []
    for name, code, message in response.topic_errors:
        topic = next(each for each in topics if each.name == name)
        if code == InvalidConfigurationError.errno and _LIMITS.keys() & topic.topic_configs.keys():
            again.append(topic)  # brokers before Kafka 3.6 do not know the limits of timestamps
        elif code not in {0, TopicAlreadyExistsError.errno}:  # another process was quicker
            raise for_code(code)(f"creating {name!r}: {message}")
    for topic in again:
        topic.topic_configs = {
            key: value for key, value in topic.topic_configs.items() if key not in _LIMITS
        }
    if again:
        await _create(admin, again)


def _checked(settings: KafkaSettings, found: _Found) -> Topics:
    wrong = list(problems(settings, found.events, found.positions))
    if wrong:
        raise TopicUnusable(f"at {settings.bootstrap_servers}: {'; '.join(wrong)}")
    limit, timeout = found.transaction_limit, settings.transaction_timeout
    if limit is not None and timeout > limit:
        raise SettingRefused(
            f"kafka.transaction_timeout is {timeout.total_seconds():g} s, and the brokers at "
            f"{settings.bootstrap_servers} take {limit.total_seconds():g} s at most (their "
            "transaction.max.timeout.ms): lower the setting, or raise theirs"
        )
    waiting = list(hindrances(found.events, found.positions))
    if waiting:
        raise BrokerUnreachable(f"at {settings.bootstrap_servers}: {'; '.join(waiting)}")
    return Topics(
        id=found.events.id,
        partitions=found.events.partitions,
        max_message_bytes=found.events.max_message_bytes,
        concerns=tuple(concerns(found.events, found.positions)),
    )
