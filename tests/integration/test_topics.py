"""The two topics on a real Kafka: made where missing, refused where they would break a promise."""

from collections.abc import Mapping
from datetime import timedelta
from time import monotonic

import pytest

from segexport.errors import BrokerUnreachable, SettingRefused, SettingsError, TopicUnusable
from segexport.kafka import ensure_topics, topic_id, topics
from segexport.settings import KafkaSettings
from support.kafka import ClusterFactory, Kafka
from support.kafka.cluster import free_ports
from support.waiting import until

COMPACT: Mapping[str, str] = {"cleanup.policy": "compact"}


def changed(settings: KafkaSettings, **changes: object) -> KafkaSettings:
    return settings.model_copy(update=changes)


async def test_missing_topics_are_made_as_delivery_needs_them(
    kafka: Kafka, kafka_settings: KafkaSettings
) -> None:
    found = await ensure_topics(kafka_settings)
    assert found.partitions == kafka_settings.partitions
    assert found.max_message_bytes == 1_048_588
    assert found.concerns == ()
    assert kafka.partitions_of(kafka_settings.topic) == kafka_settings.partitions
    assert kafka.partitions_of(kafka_settings.positions_topic) == 1
    assert kafka.config_of(kafka_settings.topic)["cleanup.policy"] == "delete"
    assert kafka.config_of(kafka_settings.positions_topic)["cleanup.policy"] == "compact"
    for name in (kafka_settings.topic, kafka_settings.positions_topic):
        config = kafka.config_of(name)
        assert config["message.timestamp.type"] == "CreateTime"
        assert config["message.timestamp.before.max.ms"] == str(2**63 - 1)
        assert config["message.timestamp.after.max.ms"] == "3600000"


async def test_the_limits_of_timestamps_are_set_whatever_the_brokers_defaults_are(
    kafka_cluster: ClusterFactory,
) -> None:
    kafka = kafka_cluster(
        properties={
            "log.message.timestamp.type": "LogAppendTime",
            "log.message.timestamp.before.max.ms": "1000",
            "log.message.timestamp.after.max.ms": "1000",
        }
    )
    settings = KafkaSettings(
        bootstrap_servers=kafka.bootstrap_servers, partitions=2, replication_factor=1
    )
    assert (await ensure_topics(settings)).concerns == ()
    careless = changed(settings, topic="careless")
    kafka.create_topic("careless", partitions=2, config={"message.timestamp.type": "CreateTime"})
    late, skewed = (await ensure_topics(careless)).concerns
    assert "'careless' refuses what is older than 0:00:01" in late
    assert "'careless' refuses what is dated 0:00:01 ahead" in skewed
    arriving = changed(settings, topic="arriving")
    kafka.create_topic("arriving", partitions=2)
    (arrival,) = (await ensure_topics(arriving)).concerns
    assert "dates records by their arrival" in arrival


async def test_brokers_that_do_not_know_the_limits_of_timestamps_make_topics_without(
    kafka: Kafka, kafka_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics, "_TIMESTAMPS", {"message.timestamp.of.tomorrow": "1"})
    monkeypatch.setattr(topics, "_LIMITS", {"message.timestamp.of.tomorrow": "1"})
    await ensure_topics(kafka_settings)
    assert kafka.config_of(kafka_settings.positions_topic)["cleanup.policy"] == "compact"


async def test_topics_that_are_right_are_left_alone(
    kafka: Kafka, kafka_settings: KafkaSettings
) -> None:
    kafka.create_topic(kafka_settings.topic, partitions=3, config={"max.message.bytes": "54321"})
    kafka.create_topic(kafka_settings.positions_topic, config=COMPACT)
    before = kafka.config_of(kafka_settings.topic)
    for _ in range(2):
        assert (await ensure_topics(kafka_settings)).max_message_bytes == 54321
    assert kafka.config_of(kafka_settings.topic) == before


async def test_a_broker_that_makes_topics_by_itself_gets_no_chance(
    kafka_cluster: ClusterFactory,
) -> None:
    kafka = kafka_cluster(properties={"auto.create.topics.enable": "true", "num.partitions": "5"})
    settings = KafkaSettings(
        bootstrap_servers=kafka.bootstrap_servers, partitions=2, replication_factor=1
    )
    assert (await ensure_topics(settings)).partitions == 2
    assert kafka.config_of(settings.positions_topic)["cleanup.policy"] == "compact"


async def test_three_replicas_need_two_to_confirm_a_write(kafka_cluster: ClusterFactory) -> None:
    kafka = kafka_cluster(nodes=3)
    settings = KafkaSettings(bootstrap_servers=kafka.bootstrap_servers)
    assert (await ensure_topics(settings)).concerns == ()
    for name in (settings.topic, settings.positions_topic):
        assert kafka.config_of(name)["min.insync.replicas"] == "2"
    careless = changed(settings, topic="careless")
    kafka.create_topic("careless", partitions=6, copies=3)
    (concern,) = (await ensure_topics(careless)).concerns
    assert "'careless'" in concern
    assert "min.insync.replicas" in concern
    kafka.kill(1)
    assert (await ensure_topics(settings)).partitions == settings.partitions


async def test_too_few_brokers_for_the_replicas_are_reported(
    kafka_settings: KafkaSettings,
) -> None:
    with pytest.raises(TopicUnusable, match=r"creating .* only 1 broker"):
        await ensure_topics(changed(kafka_settings, replication_factor=3))


async def test_everything_wrong_with_existing_topics_is_told_at_once(
    kafka: Kafka, kafka_settings: KafkaSettings
) -> None:
    kafka.create_topic(kafka_settings.topic, partitions=4, config=COMPACT)
    kafka.create_topic(kafka_settings.positions_topic, partitions=2)
    with pytest.raises(TopicUnusable) as refused:
        await ensure_topics(changed(kafka_settings, replication_factor=2))
    told = str(refused.value)
    assert kafka.bootstrap_servers in told
    for part in (
        "has 4 partitions and kafka.partitions says 3: set it to 4",
        f"{kafka_settings.topic!r} is compacted",
        f"{kafka_settings.positions_topic!r} has 2 partitions and needs exactly one",
        "has cleanup.policy delete, which would forget",
        f"{kafka_settings.topic!r} has 1 replicas and kafka.replication_factor says 2",
    ):
        assert part in told


async def test_a_topic_that_accepts_no_write_is_refused(
    kafka: Kafka, kafka_settings: KafkaSettings
) -> None:
    config = {"min.insync.replicas": "2"}
    kafka.create_topic(kafka_settings.topic, partitions=3, config=config)
    with pytest.raises(TopicUnusable, match=r"accepts no write"):
        await ensure_topics(kafka_settings)


async def test_positions_that_are_compacted_and_deleted_are_refused(
    kafka: Kafka, kafka_settings: KafkaSettings
) -> None:
    kafka.create_topic(kafka_settings.positions_topic, config={"cleanup.policy": "compact,delete"})
    with pytest.raises(TopicUnusable, match=r"forget how far delivery is"):
        await ensure_topics(kafka_settings)


async def test_no_broker_at_the_address_is_said_with_the_address() -> None:
    (port,) = free_ports(1)
    settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{port}")
    with pytest.raises(BrokerUnreachable, match=rf"127\.0\.0\.1:{port} .*refused|Connect call"):
        await ensure_topics(settings)


async def test_a_host_name_that_nobody_knows_is_said() -> None:
    settings = KafkaSettings(bootstrap_servers="kafka.invalid:9092")
    with pytest.raises(BrokerUnreachable, match=r"kafka\.invalid:9092"):
        await ensure_topics(settings)


@pytest.mark.parametrize("servers", ["a:b:c", "host:0", "host:70000", "one:1,,two:2", "host:"])
async def test_an_address_that_makes_no_sense_is_a_wrong_setting(servers: str) -> None:
    with pytest.raises(SettingsError, match=r"kafka\.bootstrap_servers"):
        await ensure_topics(KafkaSettings(bootstrap_servers=servers))


async def test_a_broker_that_hangs_is_given_up_on(kafka_cluster: ClusterFactory) -> None:
    kafka = kafka_cluster()
    kafka.pause()
    begun = monotonic()
    with pytest.raises(BrokerUnreachable, match=kafka.bootstrap_servers):
        await ensure_topics(KafkaSettings(bootstrap_servers=kafka.bootstrap_servers), patience=1.0)
    assert monotonic() - begun < 15
    kafka.resume()


async def test_the_id_of_a_topic_is_another_one_when_it_was_made_anew(
    kafka: Kafka, kafka_settings: KafkaSettings
) -> None:
    first = (await ensure_topics(kafka_settings)).id
    assert first is not None
    assert (await ensure_topics(kafka_settings)).id == first == await topic_id(kafka_settings)
    kafka.delete_topic(kafka_settings.topic)
    second = (await ensure_topics(kafka_settings)).id
    assert second not in {None, first}


async def test_a_transaction_timeout_above_the_brokers_limit_names_both_values(
    kafka_settings: KafkaSettings,
) -> None:
    long = changed(kafka_settings, transaction_timeout=timedelta(minutes=16))
    with pytest.raises(
        SettingRefused, match=r"kafka\.transaction_timeout is 960 s.* 900 s at most"
    ):
        await ensure_topics(long)
    await ensure_topics(changed(kafka_settings, transaction_timeout=timedelta(minutes=15)))


async def test_replicas_that_cannot_be_are_told_with_the_setting(
    kafka_settings: KafkaSettings,
) -> None:
    with pytest.raises(TopicUnusable, match=r"kafka\.replication_factor is 3: lower it"):
        await ensure_topics(changed(kafka_settings, replication_factor=3))


async def test_too_few_replicas_in_sync_are_waited_for_and_told(
    kafka_cluster: ClusterFactory,
) -> None:
    kafka = kafka_cluster(nodes=3)
    settings = KafkaSettings(bootstrap_servers=kafka.bootstrap_servers)
    kafka.create_topic(settings.topic, partitions=6, copies=3, config={"min.insync.replicas": "3"})
    await ensure_topics(settings)
    kafka.kill(1)

    async def told() -> bool:
        try:
            await ensure_topics(settings, patience=5)
        except BrokerUnreachable as error:
            return "2 replicas in sync, and takes no write with fewer than 3" in str(error)
        return False

    await until(told, 40, "too few replicas are in sync")
