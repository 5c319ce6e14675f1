"""The Kafka record of an event: CloudEvents 1.0, binary mode of the Kafka protocol binding.

The value is the event's document alone. What CloudEvents says about it stands in headers
`ce_…`; `organization`, `sandbox` and `sequence` are extension attributes. The key is the
job's id, so a job's events share a partition and keep their order.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Final, NamedTuple
from uuid import UUID

from segexport.events import schema
from segexport.events.compact_schema import compact_id
from segexport.events.outbox import OutboxRow
from segexport.events.service_event import timestamp
from segexport.events.versions import VERSIONS, Version

CONTENT_TYPE: Final = b"application/json"
COMPACT_MARK: Final = b'{"_id"'
"""How every value in compact form begins; those in URI form begin with `@id`."""

Header = tuple[str, bytes]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class Record(NamedTuple):
    """What goes to Kafka. `timestamp_ms` counts milliseconds since 1970, UTC.

    A named tuple, not a dataclass: discards make millions of them, and this is built three
    times as fast.
    """

    key: bytes
    value: bytes
    headers: Sequence[Header]
    timestamp_ms: int


def store_source(store_id: UUID) -> str:
    """The CloudEvents source of all events of a store."""
    return f"urn:segexport:store:{store_id}"


def record_of(row: OutboxRow, source: str) -> Record:
    """The record of an event's row. Rows of discards are expanded instead (`discards.expand`)."""
    headers = (
        *shared_headers(row, source),
        ("ce_id", str(row.event_id).encode()),
        ("ce_sequence", b"%012d" % row.sequence),
        ("ce_dataschema", data_schema(row.contract, compact=row.value.startswith(COMPACT_MARK))),
    )
    return Record(job_key(row.job_id), row.value, headers, milliseconds(row.occurred_at))


def shared_headers(row: OutboxRow, source: str) -> Sequence[Header]:
    """The headers that all events of a row have in common."""
    scope = row.scope
    return (
        *_constant_headers(source, row.type, scope.organization, scope.sandbox),
        ("ce_time", timestamp(row.occurred_at).encode()),
        ("ce_subject", job_key(row.job_id)),
    )


@lru_cache(maxsize=1024)
def _constant_headers(
    source: str, event_type: str, organization: str, sandbox: str
) -> Sequence[Header]:
    """What thousands of rows say alike."""
    return (
        ("content-type", CONTENT_TYPE),
        ("ce_specversion", b"1.0"),
        ("ce_source", source.encode()),
        ("ce_type", event_type.encode()),
        ("ce_organization", organization.encode()),
        ("ce_sandbox", sandbox.encode()),
    )


@lru_cache(maxsize=16)
def data_schema(contract: int, *, compact: bool) -> bytes:
    """The schema that a value keeps: a version of our contract, for the form it is written in."""
    name = VERSIONS[contract].schema
    return (compact_id(name) if compact else schema.pointer(name)).encode()


def version_of(data_schema: str) -> Version | None:
    """The version of our contract that such a header names; None for any other schema."""
    return _versions_by_schema().get(data_schema)


@cache
def _versions_by_schema() -> Mapping[str, Version]:
    return {
        named: version
        for version in VERSIONS.values()
        for named in (schema.pointer(version.schema), compact_id(version.schema))
    }


def job_key(job_id: int) -> bytes:
    """The record key of a job: the digits of its id."""
    return b"%d" % job_id


def milliseconds(moment: datetime) -> int:
    """Whole milliseconds since 1970, UTC, without the rounding of a float."""
    return (moment - _EPOCH) // _MILLISECOND
