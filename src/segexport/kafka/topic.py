"""What a topic is like, and what about it would break a promise."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Self
from uuid import UUID

from segexport.settings import KafkaSettings

CREATE_TIME: Final = "CreateTime"
UNLIMITED: Final = 2**63 - 1
"""Milliseconds: Kafka's own default, for records from the past."""
AHEAD: Final = 3_600_000
"""Milliseconds: Kafka's own default, for records from the future."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic as its cluster describes it.

    `copies` and `in_step` are those of the partition that has the fewest: replicas, and replicas
    in sync. `id` is None where brokers give topics no ids (before Kafka 2.8). `keeps_time`: a
    record keeps the timestamp that it is sent with, which may be `before_max` milliseconds earlier
    and `after_max` later than the broker's clock.
    """

    name: str
    id: UUID | None
    partitions: int
    copies: int
    in_step: int
    policies: frozenset[str]
    in_sync: int
    max_message_bytes: int
    keeps_time: bool
    before_max: int
    after_max: int

    @classmethod
    def described(
        cls,
        name: str,
        topic_id: UUID | None,
        partitions: Sequence[Mapping[str, list[int]]],
        config: Mapping[str, str],
    ) -> Self:
        """From the answers about its partitions and its configuration."""
        either = config.get("message.timestamp.difference.max.ms", UNLIMITED)  # before Kafka 3.6
        return cls(
            name=name,
            id=topic_id,
            partitions=len(partitions),
            copies=min(len(each["replicas"]) for each in partitions),
            in_step=min(len(each["isr"]) for each in partitions),
            policies=frozenset(config["cleanup.policy"].split(",")),
            in_sync=int(config["min.insync.replicas"]),
            max_message_bytes=int(config["max.message.bytes"]),
            keeps_time=config["message.timestamp.type"] == CREATE_TIME,
            before_max=int(config.get("message.timestamp.before.max.ms", either)),
            after_max=int(config.get("message.timestamp.after.max.ms", either)),
        )


def problems(settings: KafkaSettings, events: Topic, positions: Topic) -> Iterator[str]:
    """What would break a promise, a sentence each."""
    for topic in (events, positions):
        yield from _too_weak(settings, topic)
    if events.partitions != settings.partitions:
        yield (
            f"{events.name!r} has {events.partitions} partitions and kafka.partitions says "
            f"{settings.partitions}: set it to {events.partitions} (more partitions for a topic "
            "in use would break the order of a job's events), or delete a topic that was made anew"
        )
    if "compact" in events.policies:
        yield (
            f"{events.name!r} is compacted, which drops all but a job's last event: set its "
            "cleanup.policy to delete"
        )
    if positions.partitions != 1:
        yield (
            f"{positions.name!r} has {positions.partitions} partitions and needs exactly one: "
            "delete it if it is empty, or choose another kafka.topic"
        )
    if positions.policies != {"compact"}:
        yield (
            f"{positions.name!r} has cleanup.policy {','.join(sorted(positions.policies))}, which "
            "would forget how far delivery is: set it to compact"
        )


def concerns(events: Topic, positions: Topic) -> Iterator[str]:
    """What is allowed and weakens a promise."""
    for topic in (events, positions):
        if topic.copies > 1 and topic.in_sync == 1:
            yield (
                f"{topic.name!r} takes a write as safe that only one broker has "
                "(min.insync.replicas 1): losing that broker may lose events"
            )
    if not events.keeps_time:
        yield (
            f"{events.name!r} dates records by their arrival (message.timestamp.type "
            "LogAppendTime): retention and readers see when an event was delivered, and not when "
            "it happened"
        )
        return
    if events.before_max < UNLIMITED:
        oldest = timedelta(milliseconds=events.before_max)
        yield (
            f"{events.name!r} refuses what is older than {oldest} "
            "(message.timestamp.before.max.ms): events that wait for longer, or are sent again, "
            "are parked"
        )
    for topic in (events, positions):
        if topic.after_max < AHEAD:
            yield (
                f"{topic.name!r} refuses what is dated {timedelta(milliseconds=topic.after_max)} "
                "ahead of its broker (message.timestamp.after.max.ms): events wait as long as the "
                "clocks differ by more"
            )


def hindrances(events: Topic, positions: Topic) -> Iterator[str]:
    """What keeps the brokers from taking a write now, and may pass."""
    for topic in (events, positions):
        if topic.in_step < topic.in_sync:
            yield (
                f"a partition of {topic.name!r} has {topic.in_step} replicas in sync, and takes no "
                f"write with fewer than {topic.in_sync} (its min.insync.replicas)"
            )


def _too_weak(settings: KafkaSettings, topic: Topic) -> Iterator[str]:
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
