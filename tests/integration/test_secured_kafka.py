"""SASL and TLS settings pass through, and what the broker refuses is said in plain words."""

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from segexport.consume.consumer import EventReader
from segexport.errors import (
    BrokerUnreachable,
    DeliveryError,
    NotAuthorized,
    SettingsError,
    TopicUnusable,
)
from segexport.kafka import ensure_topics
from segexport.settings import KafkaSettings
from support.kafka import Cluster, Distribution, Security

PASSWORD = "correct horse"

SASL = Security(
    protocol="SASL_PLAINTEXT",
    properties={
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:relay",  # nodes talk without a login
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "listener.name.client.plain.sasl.jaas.config": (
            "org.apache.kafka.common.security.plain.PlainLoginModule required "
            f'user_relay="{PASSWORD}" user_guest="{PASSWORD}";'
        ),
        **{
            f"listener.name.client.{mechanism}.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            )
            for mechanism in ("scram-sha-256", "scram-sha-512")
        },
    },
    format_options=(
        "--add-scram",
        f"SCRAM-SHA-256=[name=relay,password={PASSWORD}]",
        "--add-scram",
        f"SCRAM-SHA-512=[name=relay,password={PASSWORD}]",
    ),
    client={"sasl.mechanism": "PLAIN", "sasl.username": "relay", "sasl.password": PASSWORD},
)


@pytest.fixture(scope="module")
def guarded(
    kafka_distribution: Distribution, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """A broker that asks for a login and looks at permissions."""
    cluster = Cluster(kafka_distribution, tmp_path_factory.mktemp("sasl"), security=SASL)
    yield cluster
    cluster.close()


@pytest.fixture
def login(guarded: Cluster, topic: str) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=guarded.bootstrap_servers,
        topic=topic,
        partitions=2,
        replication_factor=1,
        security_protocol="SASL_PLAINTEXT",
        sasl_username="relay",
        sasl_password=SecretStr(PASSWORD),
    )


def changed(settings: KafkaSettings, **changes: object) -> KafkaSettings:
    return settings.model_copy(update=changes)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_login_is_taken(login: KafkaSettings, mechanism: str) -> None:
    assert (await ensure_topics(changed(login, sasl_mechanism=mechanism))).partitions == 2


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
async def test_a_wrong_password_is_told_from_a_broker_that_is_away(
    login: KafkaSettings, mechanism: str
) -> None:
    wrong = changed(login, sasl_mechanism=mechanism, sasl_password=SecretStr("guessed"))
    with pytest.raises(NotAuthorized, match=r"refuses the login of 'relay'") as refused:
        await ensure_topics(wrong)
    assert "guessed" not in str(refused.value)


async def test_no_login_where_one_is_needed_points_at_the_protocol(login: KafkaSettings) -> None:
    with pytest.raises(BrokerUnreachable, match=r"kafka\.security_protocol"):
        await ensure_topics(changed(login, security_protocol="PLAINTEXT"), patience=5)


async def test_a_missing_permission_is_named_with_what_to_grant(login: KafkaSettings) -> None:
    with pytest.raises(NotAuthorized, match=r"'guest'.*relay needs .*Create") as refused:
        await ensure_topics(changed(login, sasl_username="guest"))
    assert login.topic in str(refused.value)


async def test_whoever_may_not_create_topics_can_use_those_that_are_there(
    guarded: Cluster, login: KafkaSettings
) -> None:
    guest = changed(login, sasl_username="guest")
    await ensure_topics(login)
    with pytest.raises(NotAuthorized):
        await ensure_topics(guest)
    allow_guest(guarded, login.topic, "Describe", "DescribeConfigs")
    assert (await ensure_topics(guest)).partitions == 2


def allow_guest(guarded: Cluster, topic: str, *operations: str) -> None:
    for operation in operations:
        guarded.run_tool(
            "org.apache.kafka.tools.AclCommand",
            *("--bootstrap-server", guarded.admin_servers, "--add"),
            *("--allow-principal", "User:guest", "--operation", operation),
            *("--resource-pattern-type", "prefixed", "--topic", topic),
        )


async def read_one(settings: KafkaSettings, group: str | None = None) -> None:
    async with EventReader(settings, group=group) as reader, asyncio.timeout(20):
        async for _ in reader.follow():
            return


async def test_a_reader_that_may_not_see_the_topic_is_told_so(login: KafkaSettings) -> None:
    await ensure_topics(login)
    guest = changed(login, sasl_username="guest")
    with pytest.raises(TopicUnusable, match=r"may not see it"):
        async with EventReader(guest, patience=timedelta(seconds=0.5)):
            pass


async def test_a_reader_is_told_what_it_may_not_read(
    guarded: Cluster, login: KafkaSettings
) -> None:
    await ensure_topics(login)
    allow_guest(guarded, login.topic, "Describe")
    with pytest.raises(NotAuthorized, match=r"'guest'.*reader needs Describe and Read on"):
        await read_one(changed(login, sasl_username="guest"))


async def test_a_reader_is_told_that_it_may_not_be_in_the_group(
    guarded: Cluster, login: KafkaSettings
) -> None:
    await ensure_topics(login)
    allow_guest(guarded, login.topic, "Describe", "Read")
    with pytest.raises(NotAuthorized, match=r"'guest'.*forbidden.*Read on its group"):
        await read_one(changed(login, sasl_username="guest"), group="forbidden")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A self-signed certificate for 127.0.0.1 and its key, which may have a password."""

    certificate: Path
    key: Path
    both: Path

    @classmethod
    def make(cls, folder: Path, password: str | None = None) -> "Certificate":
        made = cls(folder / "cert.pem", folder / "key.pem", folder / "both.pem")
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-days", "2"),
                *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
                *(("-nodes",) if password is None else ("-passout", f"pass:{password}")),
                *("-keyout", str(made.key), "-out", str(made.certificate)),
            ],
            check=True,
            capture_output=True,
        )
        made.both.write_text(made.key.read_text() + made.certificate.read_text())
        return made


@dataclass(frozen=True, slots=True)
class TlsKafka:
    """A broker that speaks TLS and wants to see the client's certificate."""

    cluster: Cluster
    broker: Certificate
    client: Certificate


@pytest.fixture(scope="module")
def encrypted(
    kafka_distribution: Distribution, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TlsKafka]:
    folder = tmp_path_factory.mktemp("tls")
    (folder / "client").mkdir()
    broker, client = Certificate.make(folder), Certificate.make(folder / "client", PASSWORD)
    security = Security(
        protocol="SSL",
        properties={
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(broker.both),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(client.certificate),
            "ssl.client.auth": "required",
        },
    )
    cluster = Cluster(kafka_distribution, folder, security=security)
    yield TlsKafka(cluster, broker, client)
    cluster.close()


@pytest.fixture
def tls(encrypted: TlsKafka, topic: str) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=encrypted.cluster.bootstrap_servers,
        topic=topic,
        partitions=2,
        replication_factor=1,
        security_protocol="SSL",
        ssl_cafile=encrypted.broker.certificate,
        ssl_certfile=encrypted.client.certificate,
        ssl_keyfile=encrypted.client.key,
        ssl_key_password=SecretStr(PASSWORD),
    )


async def test_both_sides_show_their_certificates(tls: KafkaSettings) -> None:
    assert (await ensure_topics(tls)).partitions == 2


async def test_a_broker_that_nobody_vouches_for_is_not_talked_to(tls: KafkaSettings) -> None:
    with pytest.raises(BrokerUnreachable, match=r"is not trusted .*kafka\.ssl_cafile"):
        await ensure_topics(changed(tls, ssl_cafile=None))


async def test_a_broker_by_another_name_is_not_talked_to(tls: KafkaSettings) -> None:
    elsewhere = str(tls.bootstrap_servers).replace("127.0.0.1", "localhost")
    with pytest.raises(BrokerUnreachable, match=r"localhost:\d+ is not trusted .*host name"):
        await ensure_topics(changed(tls, bootstrap_servers=elsewhere))


async def test_a_missing_client_certificate_is_said(tls: KafkaSettings) -> None:
    with pytest.raises(DeliveryError, match=r"kafka\.ssl_certfile"):
        await ensure_topics(changed(tls, ssl_certfile=None, ssl_keyfile=None), patience=5)


async def test_a_plain_client_at_a_tls_port_is_pointed_at_the_protocol(tls: KafkaSettings) -> None:
    with pytest.raises(BrokerUnreachable, match=r"kafka\.security_protocol"):
        await ensure_topics(changed(tls, security_protocol="PLAINTEXT"), patience=5)


async def test_a_tls_client_at_a_plain_port_is_pointed_at_the_protocol(
    tls: KafkaSettings, encrypted: TlsKafka
) -> None:
    plain = changed(tls, bootstrap_servers=encrypted.cluster.admin_servers)
    with pytest.raises(BrokerUnreachable, match=r"kafka\.security_protocol"):
        await ensure_topics(plain, patience=5)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("ssl_cafile", Path("/nowhere/ca.pem")),
        ("ssl_certfile", Path("/nowhere/cert.pem")),
        ("ssl_keyfile", Path("/nowhere/key.pem")),
        ("ssl_key_password", SecretStr("guessed")),
        ("ssl_key_password", None),
    ],
)
async def test_files_that_cannot_be_used_are_wrong_settings(
    tls: KafkaSettings, setting: str, value: object
) -> None:
    with pytest.raises(SettingsError, match=rf"kafka\..*{setting}") as refused:
        await ensure_topics(changed(tls, **{setting: value}))
    assert "guessed" not in str(refused.value)
