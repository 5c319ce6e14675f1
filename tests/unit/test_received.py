"""Records of the topic as a consumer receives them."""

import json
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from segexport.consume.received import Received, received
from segexport.events.contract import Contract, Verdict
from support.events import EVENTS

QUEUED: dict[str, Any] = EVENTS["queued (xdm, one segment)"]


def received_with(value: bytes) -> Received:
    record: ConsumerRecord[bytes, bytes] = ConsumerRecord(
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
        headers=[],
    )
    return received(record, Contract.EMITTED)


@pytest.mark.parametrize("places", [1, 2])
def test_a_record_with_a_name_twice_is_invalid_and_its_document_still_there(places: int) -> None:
    text = json.dumps(QUEUED)
    for name in list(QUEUED)[:places]:
        text = text[:-1] + f', "{name}": {json.dumps(QUEUED[name])}}}'
    found = received_with(text.encode())
    assert found.document == QUEUED
    assert found.judgement.verdict is Verdict.INVALID
    assert [it.rule for it in found.judgement.findings] == ["unique"] * places


def test_a_record_as_it_is_emitted_is_valid() -> None:
    assert received_with(json.dumps(QUEUED).encode()).judgement.verdict is Verdict.VALID
