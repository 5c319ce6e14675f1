"""Versions of the contract: who judges what, told by the keys or by the record's header."""

from typing import Any

import orjson
import pytest

from segexport.consume.received import Received, received
from segexport.errors import InvalidEvent
from segexport.events import schema
from segexport.events.contract import Contract, Judgement, Verdict, judge
from segexport.events.record import data_schema, version_of
from segexport.events.versions import CURRENT, FIRST, VERSIONS, Version
from segexport.events.vocabulary import Form
from segexport.events.xdm import form_of, to_compact, to_uri
from support.backlog import records
from support.events import EVENTS, changed
from support.records import record_with

OLD = records()
OLD_IN_URI_FORM = [
    document for old in OLD if form_of(document := orjson.loads(old["value"])) is Form.URI
]
QUEUED = EVENTS["queued (xdm, one segment)"]
OLD_QUEUED = next(each for each in OLD_IN_URI_FORM if b'"queued"' in orjson.dumps(each))


def judged(document: dict[str, Any], version: Version | None = None) -> Judgement:
    return judge(document, Contract.EMITTED, version)


@pytest.mark.parametrize("old", OLD, ids=lambda old: f"{old['key']}, {old['headers']['ce_id'][:8]}")
def test_an_event_of_the_first_version_keeps_that_contract_in_both_forms(
    old: dict[str, Any],
) -> None:
    document = orjson.loads(old["value"])
    assert judged(document).findings == ()
    assert judged(document, FIRST).findings == ()
    uri = document if form_of(document) is Form.URI else to_uri(document, FIRST)
    assert judged(uri).findings == ()
    assert judged(to_compact(uri)).findings == ()
    assert to_uri(to_compact(uri), FIRST) == uri


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_an_event_of_today_is_none_of_the_first_version(name: str) -> None:
    assert judged(EVENTS[name], FIRST).verdict is Verdict.INVALID


def test_an_event_of_before_is_none_of_today() -> None:
    assert judged(OLD_QUEUED, CURRENT).verdict is Verdict.INVALID


@pytest.mark.parametrize("key", ["sequence", "segmentNamespace", "retryOf"])
def test_old_and_new_keys_in_one_document_are_invalid(key: str) -> None:
    """In compact form it would look like a document of one version, so it is not converted."""
    for document, own in ((QUEUED, FIRST.own), (OLD_QUEUED, CURRENT.own)):
        mixed = {**document, own + key: "1"}
        assert judged(mixed).verdict is Verdict.INVALID
        with pytest.raises(InvalidEvent, match="keys of two versions"):
            to_compact(mixed)


def test_a_compact_document_with_old_keys_beside_its_own_is_invalid() -> None:
    compact = to_compact(QUEUED)
    for key in (FIRST.own, CURRENT.own):
        assert judged({**compact, key + "sequence": 1}).verdict is Verdict.INVALID


def test_a_broken_document_is_told_what_the_version_of_its_keys_demands() -> None:
    (finding,) = judged(changed(OLD_QUEUED, FIRST.own + "sequence", to=0)).findings
    assert (finding.path, finding.rule) == ((FIRST.own + "sequence",), "minimum")
    (finding,) = judged(changed(QUEUED, CURRENT.own + "sequence", to=0)).findings
    assert (finding.path, finding.rule) == ((CURRENT.own + "sequence",), "minimum")
    (finding,) = judged(to_compact(changed(QUEUED, CURRENT.own + "sequence", to=0))).findings
    assert (finding.path, finding.rule) == (("_segexport", "sequence"), "minimum")


def test_without_a_key_of_our_own_the_newest_version_is_asked() -> None:
    document = {key: value for key, value in QUEUED.items() if not key.startswith(CURRENT.own)}
    paths = {finding.path for finding in judged(document).findings}
    assert (CURRENT.own + "sequence",) in paths


def test_each_version_has_schemas_of_its_own_that_its_records_name() -> None:
    named = {
        (number, compact): data_schema(number, compact=compact).decode()
        for number in VERSIONS
        for compact in (False, True)
    }
    assert named == {
        (1, False): "urn:segexport:schema:emitted",
        (1, True): "urn:segexport:schema:emitted:compact",
        (2, False): "urn:segexport:schema:emitted:2",
        (2, True): "urn:segexport:schema:emitted:2:compact",
    }
    for (number, _), identifier in named.items():
        assert version_of(identifier) is VERSIONS[number]
    assert version_of("urn:example:schema") is None


@pytest.mark.parametrize(
    ("event", "header", "verdict"),
    [
        (QUEUED, "urn:segexport:schema:emitted:2", Verdict.VALID),
        (QUEUED, "urn:segexport:schema:emitted", Verdict.INVALID),
        (OLD_QUEUED, "urn:segexport:schema:emitted", Verdict.VALID),
        (OLD_QUEUED, "urn:segexport:schema:emitted:2", Verdict.INVALID),
        (OLD_QUEUED, "urn:example:schema", Verdict.VALID),
        (OLD_QUEUED, "", Verdict.VALID),
    ],
)
def test_a_records_header_decides_where_it_names_a_version(
    event: dict[str, Any], header: str, verdict: Verdict
) -> None:
    assert received_with(event, header).judgement.verdict is verdict


@pytest.mark.parametrize("old", OLD, ids=lambda old: f"{old['key']}, {old['headers']['ce_id'][:8]}")
def test_a_record_of_the_first_version_is_valid_to_a_reader_who_asks_for_xdm(
    old: dict[str, Any],
) -> None:
    document, header = orjson.loads(old["value"]), old["headers"]["ce_dataschema"]
    assert received_with(document, header, Contract.XDM).judgement.findings == ()
    strange = {**document, "urn:other:key": 1}
    if form_of(document) is Form.URI:
        assert received_with(strange, header, Contract.XDM).judgement.verdict is Verdict.INVALID
        assert judge(document, Contract.XDM).verdict is Verdict.INVALID  # as XDM's classes say


def received_with(
    document: dict[str, Any], header: str, contract: Contract = Contract.EMITTED
) -> Received:
    record = record_with(orjson.dumps(document), [("ce_dataschema", header.encode())])
    return received(record, contract)


def test_the_schema_of_the_first_version_is_frozen() -> None:
    """Events that keep it lie on topics; whoever has it does not get another one."""
    first = schema.schemas()[FIRST.schema]
    assert first["$id"] == "urn:segexport:schema:emitted"
    kinds = ("queued", "started", "succeeded", "failed", "discarded")
    ours = {
        key.removeprefix(FIRST.own)
        for kind in kinds
        for key in first["definitions"][kind]["properties"]
        if key.startswith(FIRST.own)
    }
    assert ours == {"sequence", "segmentNamespace", "segments", "fault", "reason", "retryOf"}
