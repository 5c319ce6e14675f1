"""Records of the topic as a consumer receives them."""

import json
from typing import Any

import pytest

from segexport.consume.received import Received, received
from segexport.events.contract import Contract, Verdict
from support.events import EVENTS
from support.records import record_with

QUEUED: dict[str, Any] = EVENTS["queued (xdm, one segment)"]


def received_with(value: bytes) -> Received:
    return received(record_with(value), Contract.EMITTED)


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
