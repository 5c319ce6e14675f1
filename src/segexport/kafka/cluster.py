"""What a cluster tells about itself: topics' ids, configurations, and its limits."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from io import BytesIO
from typing import Final
from uuid import UUID

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import IncompatibleBrokerVersion, for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from segexport.kafka.client import client_arguments
from segexport.kafka.faults import in_plain_words, passed_over
from segexport.settings import KafkaSettings

_NO_ID: Final = UUID(int=0)


@asynccontextmanager
async def admin_client(
    settings: KafkaSettings, patience: float
) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client that is connected; nothing but errors of ours leaves the block."""
    arguments = client_arguments(settings, role="topics")
    arguments["request_timeout_ms"] = min(arguments["request_timeout_ms"], int(patience * 1000))
    async with in_plain_words(settings):
        admin = AIOKafkaAdminClient(**arguments)
        try:
            await admin.start()
            yield admin
        finally:
            with passed_over():
                await admin.close()


async def topic_ids(admin: AIOKafkaAdminClient, names: Sequence[str]) -> Mapping[str, UUID | None]:
    """The ids of topics that are there (KIP-516): another id is another topic of the same name.

    None where the brokers give none.
    """
    try:
        answer = await admin._send_request(_TopicIds(names))  # noqa: SLF001  (it has no name for this)
    except (NotImplementedError, IncompatibleBrokerVersion):  # before Kafka 2.8
        return dict.fromkeys(names)
    found: dict[str, UUID | None] = dict.fromkeys(names)
    for code, name, topic_id, *_ in answer.topics:
        if code:
            raise for_code(code)(f"asking for the id of {name!r}")
        found[name] = topic_id if topic_id != _NO_ID else None
    return found


async def topic_configs(
    admin: AIOKafkaAdminClient, names: Sequence[str]
) -> Mapping[str, Mapping[str, str]]:
    """The settings in effect of these topics."""
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    configs: dict[str, Mapping[str, str]] = {}
    for response in await admin.describe_configs(asked):
        for code, message, _, name, entries in response.resources:
            if code:
                raise for_code(code)(f"reading the configuration of {name!r}: {message}")
            configs[name] = {key: value for key, value, *_ in entries}
    return configs


async def transaction_limit(admin: AIOKafkaAdminClient, broker: int) -> timedelta | None:
    """The longest timeout of a transaction that a broker takes.

    None if it does not say: a login needs DescribeConfigs on the cluster for it.
    """
    asked = ConfigResource(
        ConfigResourceType.BROKER, str(broker), {"transaction.max.timeout.ms": ""}
    )
    for response in await admin.describe_configs([asked]):
        for code, _, _, _, entries in response.resources:
            for _, value, *_ in entries if not code else ():
                return timedelta(milliseconds=int(value))
    return None


class _Uuid(AbstractType[UUID]):  # type: ignore[misc]  # aiokafka is untyped
    """Kafka's type `uuid`, which aiokafka lacks."""

    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


class _MetadataResponse(Response):  # type: ignore[misc]  # aiokafka is untyped
    """Version 10 of Kafka's Metadata, which is the first one with ids; aiokafka ends with 5.

    The source is `MetadataResponse.json` and `MetadataRequest.json` of Apache Kafka.
    """

    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString()),
                ("port", Int32),
                ("rack", CompactString()),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString()),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataRequest(RequestStruct):  # type: ignore[misc]  # aiokafka is untyped
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("id", _Uuid), ("name", CompactString()), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _TopicIds(Request[_MetadataRequest]):  # type: ignore[misc]  # aiokafka is untyped
    """Asks about topics by their names, and makes none of them."""

    API_KEY = 3

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def build(self, request_struct_class: type[_MetadataRequest]) -> _MetadataRequest:
        asked: list[tuple[UUID, str, dict[int, bytes]]] = [
            (_NO_ID, name, {}) for name in self._names
        ]
        return request_struct_class(asked, False, False, False, {})
