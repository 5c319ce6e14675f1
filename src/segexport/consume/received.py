"""A record as a consumer receives it, read and judged."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from aiokafka import ConsumerRecord

from segexport.events.contract import Contract, Judgement, Verdict, judge
from segexport.events.explain import Finding
from segexport.events.parsing import parse
from segexport.events.record import version_of
from segexport.events.repeated import refuse_repeated
from segexport.events.versions import Version

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One record of the events topic.

    `key` is the job's id as text, `headers` are the CloudEvents headers as text, `value`
    the bytes as they came. `document` is the value parsed, None if it is not JSON.
    `timestamp` is when the event happened, UTC, by its header `ce_time`; that of the record
    where it has none. The record's may be earlier: see docs/consuming.md.
    """

    topic: str
    partition: int
    offset: int
    timestamp: datetime
    key: str | None
    headers: Mapping[str, str]
    value: bytes | None
    document: Any
    judgement: Judgement


def received(record: ConsumerRecord[bytes, bytes], contract: Contract) -> Received:
    """Read and judge a record. Never raises: what is wrong with it is in the judgement."""
    headers = {name: _text(value or b"") for name, value in record.headers}
    version = version_of(headers.get("ce_dataschema", ""))
    document, judgement = _judged(record.value, contract, version)
    return Received(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp=_happened(headers.get("ce_time", ""), record.timestamp),
        key=_text(record.key) if record.key is not None else None,
        headers=headers,
        value=record.value,
        document=document,
        judgement=judgement,
    )


def _judged(
    value: bytes | None, contract: Contract, version: Version | None
) -> tuple[Any, Judgement]:
    if value is None:
        return None, judge(None, contract)
    try:
        parsed = parse(value)
    except orjson.JSONDecodeError as error:
        finding = Finding((), "json", None, f"is not JSON: {error.msg}")
        return None, Judgement(Verdict.INVALID, None, (finding,))
    judgement = judge(parsed.document, contract, version)
    return parsed.document, refuse_repeated(judgement, parsed.repeated)


def _happened(said: str, timestamp_ms: int) -> datetime:
    with suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(said)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    with suppress(OverflowError):
        return _EPOCH + timedelta(milliseconds=timestamp_ms)
    return _EPOCH  # a number that is no time


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")
