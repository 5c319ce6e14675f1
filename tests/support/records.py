"""Records as aiokafka hands them to a consumer."""

from collections.abc import Sequence

from aiokafka import ConsumerRecord


def record_with(
    value: bytes, headers: Sequence[tuple[str, bytes]] = ()
) -> ConsumerRecord[bytes, bytes]:
    """A record of which nothing but its value and its headers counts."""
    return ConsumerRecord(
        topic="t",
        partition=0,
        offset=0,
        timestamp=0,
        timestamp_type=0,
        key=b"1",
        value=value,
        checksum=None,
        serialized_key_size=1,
        serialized_value_size=len(value),
        headers=headers,
    )
