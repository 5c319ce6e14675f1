"""Verdicts: what is valid, what is invalid and why, and what says nothing at all."""

from typing import Any

import jsonschema
import orjson
import pytest
from hypothesis import given, settings

from segexport.errors import InvalidEvent
from segexport.events import schema
from segexport.events.contract import Contract, Verdict, demand, judge
from segexport.events.explain import short_path
from segexport.events.versions import CURRENT
from segexport.events.vocabulary import (
    ORCHESTRATION,
    OWN,
    SEGMENT_EXPORT_JOB,
    SERVICE_EVENTS,
    Form,
)
from segexport.events.xdm import to_compact
from support.events import EVENTS, GONE, changed, nearly_valid_documents
from support.examples import examples

EXAMPLES = schema.schemas()["segment-export-job"]["examples"]

ID = SERVICE_EVENTS + "ID"
STATUS = SERVICE_EVENTS + "status"
TOTAL = SERVICE_EVENTS + "exportCountTotal"
REALIZED = SERVICE_EVENTS + "exportCountRealized"
FAILED = SERVICE_EVENTS + "exportCountFailed"
SEGMENT = SERVICE_EVENTS + "exportSegmentID"
TYPE = SERVICE_EVENTS + "eventType"
CODE = SERVICE_EVENTS + "eventCode"
JOURNEY = ORCHESTRATION + "journey"
STEP = ORCHESTRATION + "stepEvents"
PROFILE = ORCHESTRATION + "profile"
JOB = SEGMENT_EXPORT_JOB


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_published_examples_are_valid_xdm_in_both_forms(example: dict[str, Any]) -> None:
    assert judge(example).verdict is Verdict.VALID
    assert judge(to_compact(example)).verdict is Verdict.VALID


def test_the_published_examples_do_not_keep_what_segexport_promises() -> None:
    assert [judge(example, Contract.EMITTED).verdict for example in EXAMPLES] == [
        Verdict.INVALID
    ] * 3


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"@id": "1", "xdm:timestamp": "2026-03-01T12:00:00Z"},
        {JOB: {}},
        {JOB: {"somethingElse": 1}},
        {"_experience": {"journeyOrchestration": {"serviceEvents": {}}}},
        {"_experience": {"journeyOrchestration": {"serviceEvents": {"segmentExportJob": {}}}}},
        {JOB + "/": {ID: "1"}},
        [],
        None,
        5,
        "segmentExportJob",
    ],
)
def test_a_document_without_a_job_says_nothing(document: object) -> None:
    for contract in Contract:
        assert judge(document, contract).verdict is Verdict.SAYS_NOTHING


def test_a_compact_document_with_a_negative_count_is_invalid() -> None:
    document = to_compact({JOB: {FAILED: -5}})
    judgement = judge(document)
    assert judgement.verdict is Verdict.INVALID
    assert judgement.form is Form.COMPACT
    (finding,) = judgement.findings
    path = "_experience.journeyOrchestration.serviceEvents.segmentExportJob.exportCountFailed"
    assert finding.path == tuple(path.split("."))
    assert (finding.rule, finding.value) == ("minimum", -5)
    assert str(finding) == f"{path}: must not be below 0, but is -5 [minimum]"


def test_in_uri_form_a_finding_has_the_whole_path_and_shows_a_short_one() -> None:
    (finding,) = judge({JOB: {TOTAL: "12"}}).findings
    assert finding.path == (JOB, TOTAL)
    assert str(finding) == (
        'segmentExportJob.exportCountTotal: must be of type integer, not "12" [type]'
    )


def test_every_finding_is_reported_and_not_only_the_first() -> None:
    findings = judge({JOB: {TOTAL: -1, REALIZED: 100_000_000_001, ID: 5}}).findings
    assert {finding.rule for finding in findings} == {"minimum", "maximum", "type"}


@pytest.mark.parametrize(
    "document",
    [
        {JOB: {ID: "1", "exportCountTotal": -5}},
        {JOB: {ID: "1"}, JOURNEY: {"versionID": 5}},
        changed(
            to_compact({JOB: {ID: "1"}}),
            *("_experience", "journeyOrchestration", "serviceEvents", "segmentExportJob", TOTAL),
            to=-5,
        ),
        {JOB: {ID: "1"}, "_experience": {"journeyOrchestration": {"journey": {"versionID": 5}}}},
        {JOB: {ID: "1"}, "_experience": 5},
        {JOB: {ID: "1"}, "timestamp": 5},
        {**to_compact({JOB: {ID: "1"}}), "xdm:timestamp": 5},
        {**to_compact({JOB: {ID: "1"}}), "more": [{JOURNEY: {}}]},
        {**to_compact({JOB: {ID: "1"}}), "_id": "1", "@id": "1"},
    ],
)
def test_a_key_of_the_other_form_is_invalid_because_no_reader_would_see_it(
    document: dict[str, Any],
) -> None:
    judgement = judge(document)
    assert judgement.verdict is Verdict.INVALID
    assert "form" in {finding.rule for finding in judgement.findings}


def test_a_key_of_the_other_form_is_told_once() -> None:
    for contract in Contract:
        within = {"_experience": {"journeyOrchestration": {"journey": {"versionID": 5}}}}
        findings = judge({**QUEUED, **within}, contract).findings
        assert [(it.path, it.rule) for it in findings] == [
            (("_experience", "journeyOrchestration", "journey"), "form")
        ]


def test_a_key_of_the_other_form_is_told_with_the_form_that_it_is_written_in() -> None:
    """Its path on a line is the same in both forms."""
    compact = to_compact({JOB: {ID: "1"}, JOURNEY: {}})
    compact["_experience"]["journeyOrchestration"]["journey"][ORCHESTRATION + "versionID"] = "v1"
    (finding,) = judge(compact).findings
    assert str(finding).startswith(
        "_experience.journeyOrchestration.journey.versionID: is written in URI form"
    )
    (finding,) = judge({JOB: {ID: "1"}, JOURNEY: {"versionID": "v1"}}).findings
    assert str(finding).startswith("journey.versionID: is written in compact form")


def test_a_job_in_both_forms_is_invalid() -> None:
    both = {**to_compact({JOB: {ID: "1"}}), JOB: {ID: "2"}}
    assert judge(both).verdict is Verdict.INVALID


def test_a_compact_document_says_nothing_where_no_object_is() -> None:
    judgement = judge({**to_compact({JOB: {ID: "1"}}), "_segexport": 5})
    assert judgement.verdict is Verdict.INVALID
    assert [(it.path, it.rule) for it in judgement.findings] == [(("_segexport",), "type")]


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_every_event_keeps_the_contract_in_both_forms(name: str) -> None:
    assert judge(EVENTS[name], Contract.EMITTED).findings == ()
    assert judge(to_compact(EVENTS[name]), Contract.EMITTED).findings == ()
    demand(EVENTS[name])


EXPORT_JOB, PROCESSING_TIME = ORCHESTRATION + "exportJobID", ORCHESTRATION + "processingTime"
QUEUED = EVENTS["queued (xdm, one segment)"]
STARTED = EVENTS["started (xdm, one segment)"]
DONE = EVENTS["succeeded (xdm, one segment)"]
LIST = EVENTS["succeeded (xdm, two segments)"]
OPTIMIZED = EVENTS["succeeded (journey-optimizer, one segment)"]
BROKEN = EVENTS["failed (xdm, one segment)"]
DISCARD = EVENTS["discarded (xdm, one segment)"]
JOURNEYED = EVENTS["discarded (xdm, everybody)"]


@pytest.mark.parametrize(
    ("event", "path", "value", "rule"),
    [
        # what every event has
        (QUEUED, ("@id",), GONE, "required"),
        (QUEUED, ("@id",), "1", "pattern"),
        (QUEUED, ("@id",), QUEUED["@id"] + "\n", "maxLength"),
        (QUEUED, ("xdm:timestamp",), GONE, "required"),
        (QUEUED, ("xdm:timestamp",), "2026-02-30T12:00:00Z", "date-time"),
        (QUEUED, ("xdm:timestamp",), "2026-03-01T12:00:00+00:00", "utc"),
        (QUEUED, (ORCHESTRATION + "serviceType",), "serviceEvents.dispatcher", "const"),
        (QUEUED, (OWN + "sequence",), GONE, "required"),
        (QUEUED, (OWN + "sequence",), 0, "minimum"),
        (QUEUED, (JOB, ID), GONE, "required"),
        (QUEUED, (JOB, ID), "12ae3-abe2c", "not"),
        (QUEUED, (JOB, ID), "123\n", "not"),
        (QUEUED, (JOB, ID), "0123", "pattern"),
        (QUEUED, (JOB, ID), "1" * 17, "maxLength"),
        (QUEUED, (JOB, TYPE), GONE, "required"),
        (QUEUED, (JOB, TYPE), "Info", "enum"),
        (QUEUED, (JOB, STATUS), "cancelled", "enum"),
        (QUEUED, (JOB, "state"), "queued", "additionalProperties"),
        (QUEUED, ("more",), 1, "additionalProperties"),
        # segments
        (QUEUED, (JOB, SEGMENT), GONE, "oneOf"),
        (QUEUED, (JOB, SEGMENT), "", "minLength"),
        (QUEUED, (OWN + "segmentNamespace",), GONE, "oneOf"),
        (QUEUED, (OWN + "segments",), [], "oneOf"),
        (LIST, (JOB, SEGMENT), "gold", "oneOf"),
        (LIST, (OWN + "segments",), GONE, "oneOf"),
        (LIST, (OWN + "segments",), LIST[OWN + "segments"][:1], "not"),
        # queued and started
        (QUEUED, (JOB, TOTAL), 0, "additionalProperties"),
        (QUEUED, (JOB, CODE), "ERROR_EXPORTJOB_FAILED", "additionalProperties"),
        (QUEUED, (JOB, TYPE), "error", "enum"),
        (STARTED, (JOB, TOTAL), GONE, "required"),
        (STARTED, (JOB, TOTAL), -1, "minimum"),
        (STARTED, (JOB, REALIZED), 0, "additionalProperties"),
        (STARTED, (JOB, FAILED), 0, "additionalProperties"),
        # success
        (DONE, (JOB, TOTAL), GONE, "required"),
        (DONE, (JOB, REALIZED), GONE, "required"),
        (DONE, (JOB, FAILED), GONE, "required"),
        (DONE, (JOB, FAILED), 41, "sum"),
        (DONE, (JOB, TOTAL), 100_000_000_001, "maximum"),
        (DONE, (JOB, TOTAL), 100.5, "type"),
        (DONE, (JOB, CODE), "INFO_EXPORTJOB_SUCCEEDED", "anyOf"),
        (OPTIMIZED, (JOB, CODE), GONE, "anyOf"),
        (OPTIMIZED, (JOB, CODE), "INFO", "const"),
        (DONE, (OWN + "reason",), "why not", "additionalProperties"),
        (DONE, (PROFILE,), {ORCHESTRATION + "ID": "1"}, "additionalProperties"),
        # failure
        (BROKEN, (JOB, CODE), GONE, "required"),
        (BROKEN, (JOB, CODE), "ERROR_TOPIC_CREATION", "enum"),
        (BROKEN, (JOB, CODE), "ERROR_INSTANCE_DUPLICATION", "enum"),
        (BROKEN, (JOB, TYPE), "info", "enum"),
        (BROKEN, (JOB, REALIZED), 1, "const"),
        (BROKEN, (JOB, FAILED), 99, "sum"),
        (BROKEN, (OWN + "reason",), GONE, "required"),
        (BROKEN, (OWN + "reason",), "", "minLength"),
        (BROKEN, (OWN + "fault",), "bad luck", "enum"),
        # discards
        (DISCARD, (PROFILE,), GONE, "required"),
        (DISCARD, (PROFILE, ORCHESTRATION + "ID"), "somebody@example.com", "pattern"),
        (DISCARD, (PROFILE, ORCHESTRATION + "namespace"), "Email", "const"),
        (DISCARD, (PROFILE, ORCHESTRATION + "namespace"), GONE, "required"),
        (DISCARD, (PROFILE, ORCHESTRATION + "supplementalID"), "1", "additionalProperties"),
        (DISCARD, (JOB, CODE), GONE, "required"),
        (DISCARD, (JOB, CODE), "ERROR_EXPORTJOB_FAILED", "enum"),
        (DISCARD, (JOB, TYPE), "info", "enum"),
        (DISCARD, (JOB, TYPE), "segmenttrigger-orchestrator", "enum"),
        (DISCARD, (JOB, FAILED), 1, "additionalProperties"),
        (DISCARD, (JOB, SEGMENT), GONE, "oneOf"),
        (JOURNEYED, (OWN + "segments",), LIST[OWN + "segments"], "maxItems"),
        # journeys
        (JOURNEYED, (STEP, ORCHESTRATION + "journeyVersionID"), GONE, "oneOf"),
        (JOURNEYED, (STEP, ORCHESTRATION + "inTest"), GONE, "oneOf"),
        (JOURNEYED, (STEP, ORCHESTRATION + "inTest"), "false", "type"),
        (JOURNEYED, (STEP,), GONE, "required"),
        (QUEUED, (STEP, ORCHESTRATION + "inTest"), False, "oneOf"),
        (QUEUED, (STEP, ORCHESTRATION + "journeyVersionID"), "v12", "oneOf"),
        (JOURNEYED, (JOURNEY,), GONE, "oneOf"),
        (JOURNEYED, (JOURNEY, ORCHESTRATION + "versionID"), GONE, "required"),
        (JOURNEYED, (STEP, ORCHESTRATION + "journeyVersionID"), "v13", "same version"),
        # the step that a job is
        (QUEUED, (STEP,), GONE, "required"),
        (QUEUED, (STEP, EXPORT_JOB), GONE, "required"),
        (QUEUED, (STEP, EXPORT_JOB), "17", "same job"),
        (DISCARD, (STEP, EXPORT_JOB), "17", "same job"),
        (QUEUED, (STEP, PROCESSING_TIME), 1, "additionalProperties"),
        (DONE, (STEP, PROCESSING_TIME), GONE, "required"),
        (DONE, (STEP, PROCESSING_TIME), -1, "minimum"),
        (BROKEN, (STEP, PROCESSING_TIME), 0.5, "type"),
        # the end
        *(
            (event, (OWN + key,), GONE, "required")
            for event in (DONE, BROKEN)
            for key in ("dataset", "attempt", "duration")
        ),
        *((DONE, (OWN + key,), GONE, "required") for key in ("batches", "rows", "bytes")),
        *((BROKEN, (OWN + key,), 0, "additionalProperties") for key in ("rows", "bytes")),
        (BROKEN, (OWN + "batches",), ["b1"], "additionalProperties"),
        (STARTED, (OWN + "dataset",), "audience", "additionalProperties"),
        (DISCARD, (OWN + "attempt",), 1, "additionalProperties"),
        (DONE, (OWN + "dataset",), "", "minLength"),
        (DONE, (OWN + "batches",), [], "minItems"),
        (DONE, (OWN + "batches",), ["b"] * 501, "maxItems"),
        (DONE, (OWN + "batches",), [""], "minLength"),
        (DONE, (OWN + "rows",), -1, "minimum"),
        (DONE, (OWN + "bytes",), "9", "type"),
        (DONE, (OWN + "duration",), -1, "minimum"),
        (DONE, (OWN + "attempt",), -1, "minimum"),
    ],
)
def test_the_contract_refuses(
    event: dict[str, Any], path: tuple[str, ...], value: object, rule: str
) -> None:
    broken = changed(event, *path, to=value)
    findings = judge(broken, Contract.EMITTED).findings
    assert rule in {finding.rule for finding in findings}
    with pytest.raises(InvalidEvent, match=rule):
        demand(broken)


def test_a_refusal_names_every_rule_and_place_in_one_line() -> None:
    with pytest.raises(InvalidEvent) as refusal:
        demand(changed(changed(DONE, JOB, ID), JOB, STATUS, to="finished"))
    assert str(refusal.value) == (
        "this event breaks the contract 'emitted' and was not stored: "
        "segmentExportJob.ID: is missing [required]"
    )
    assert "\n" not in str(refusal.value)


@settings(max_examples=examples(300), deadline=None)
@given(nearly_valid_documents())
def test_a_document_is_valid_exactly_when_nothing_is_found_and_the_form_does_not_matter(
    document: dict[str, Any],
) -> None:
    for contract in Contract:
        uri = judge(document, contract)
        assert (uri.verdict is Verdict.VALID) == (not uri.findings)
        for finding in uri.findings:
            assert len(str(finding).splitlines()) == 1
        if "form" in {finding.rule for finding in uri.findings}:
            continue
        # Without its version, what breaks only this one may pass for an earlier one.
        compact = judge(to_compact(document), contract, CURRENT)
        assert compact.verdict is uri.verdict
        assert [it.rule for it in compact.findings] == [it.rule for it in uri.findings]


@pytest.mark.parametrize("depth", [100, 300, 1000])
def test_a_document_nested_as_deeply_as_a_parser_allows_is_judged(depth: int) -> None:
    nest = orjson.loads("[" * depth + "]" * depth)
    assert judge({JOB: {ID: nest}}).verdict is Verdict.INVALID
    assert judge({JOB: {ID: "1"}, "https://example.com/unknown": nest}).verdict is Verdict.VALID
    assert judge({JOB: {ID: "1"}, "unknown": nest}).verdict is Verdict.INVALID
    home = {"segmentExportJob": {"ID": "1", "unknown": nest}}
    compact = {"_experience": {"journeyOrchestration": {"serviceEvents": home, "unknown": nest}}}
    assert judge(compact).verdict is Verdict.VALID


def test_the_validator_that_decides_speaks_where_the_other_finds_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    everything = jsonschema.Draft6Validator({})
    monkeypatch.setattr(schema, "reference", lambda *_: everything)
    (finding,) = judge({JOB: {TOTAL: -1}}).findings
    assert (finding.path, finding.rule, finding.value) == ((JOB, TOTAL), "minimum", -1)


def test_a_finding_is_one_line_that_cannot_speak_to_the_terminal() -> None:
    hostile = "a\nb\x1b[31m\x85\u202e"
    for broken in (
        {JOB: {ID: {hostile: hostile}}},
        changed(QUEUED, hostile, to=hostile),
        changed(QUEUED, JOB, hostile, to=hostile),
        changed(QUEUED, JOB, SEGMENT, to=hostile * 50),
        changed(QUEUED, "xdm:timestamp", to=hostile),
        changed(JOURNEYED, STEP, ORCHESTRATION + "journeyVersionID", to=hostile),
    ):
        findings = judge(broken, Contract.EMITTED).findings
        assert findings
        assert all(str(finding).isprintable() for finding in findings)


@pytest.mark.parametrize(
    ("text", "exists"),
    [
        ("2026-03-01T12:00:00Z", True),
        ("2026-03-01t12:00:00.123456789z", True),
        ("2026-03-01T12:00:00+14:00", True),
        ("2016-12-31T23:59:60Z", True),
        ("2024-02-29T00:00:00Z", True),
        ("2026-02-29T00:00:00Z", False),
        ("2026-03-01T24:00:00Z", False),
        ("2026-03-01T12:00:00", False),
        ("2026-03-01", False),
        ("20260301T120000Z", False),
        ("2026-03-01T12:00:00Z\n", False),
        ("2026-03-01T12:00:00+25:00", False),
        ("\u0662026-03-01T12:00:00Z", False),
        ("", False),
    ],
)
def test_timestamps_are_those_of_rfc_3339(text: str, exists: bool) -> None:
    document = {JOB: {ID: "1"}, "xdm:timestamp": text}
    assert (judge(document).verdict is Verdict.VALID) is exists


def test_a_path_is_one_readable_word() -> None:
    assert short_path((OWN + "segments", 3, "namespace")) == "segments[3].namespace"
    assert short_path((JOB, ID)) == "segmentExportJob.ID"
    assert short_path(()) == "(document)"
