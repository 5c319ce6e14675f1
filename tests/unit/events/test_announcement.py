"""What the world is told of each step of a job's life."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid5

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from segexport.errors import InvalidEvent
from segexport.events.announcement import MAX_REASON, Voice, announce
from segexport.events.contract import Contract, Verdict, judge
from segexport.events.record import record_of
from segexport.events.vocabulary import (
    ORCHESTRATION,
    OWN,
    SEGMENT_EXPORT_JOB,
    SERVICE_EVENTS,
    Dialect,
    Form,
)
from segexport.events.xdm import to_uri
from segexport.jobs import job as steps
from segexport.jobs.job import Fault, FaultKind
from segexport.jobs.publication import Counts, DataFile, Publication, PublishedBatch
from segexport.jobs.reading import parse_request
from segexport.jobs.request import MAX_SEGMENTS
from segexport.kafka.topics import BROKER_DEFAULT_MAX_BYTES
from support.events import (
    EVERY_VOICE,
    JOB_ID,
    NOW,
    SCOPE,
    SOURCE,
    STORE,
    Life,
    discard_file,
    request,
    voice,
)

CODES = [
    (FaultKind.FAILED, "ERROR_EXPORTJOB_FAILED"),
    (FaultKind.CANCELLED, "ERROR_EXPORTJOB_FAILED"),
    (FaultKind.UNREACHABLE, "ERROR_EXPORTJOB_APICALL"),
    (FaultKind.DEADLINE, "ERROR_EXPORTJOB_APICALL_TIMEOUT"),
]

TYPE = "segexport.segmentExportJob."
GOLD = {"exportSegmentID": "gold"}


def job_of(document: dict[str, Any]) -> dict[str, Any]:
    """The event's object with short keys."""
    job = document[SEGMENT_EXPORT_JOB]
    return {key.removeprefix(SERVICE_EVENTS): value for key, value in job.items()}


def own_of(document: dict[str, Any]) -> dict[str, Any]:
    """Our own keys, without their prefix."""
    return {key.removeprefix(OWN): it for key, it in document.items() if key.startswith(OWN)}


def data_file(rows: int, size: int) -> DataFile:
    """A file that nobody reads."""
    return DataFile(name="part.parquet", rows=rows, size=size, sha256="ab" * 32)


@pytest.mark.parametrize(("dialect", "form"), EVERY_VOICE)
def test_each_milestone_has_its_event_in_every_dialect_and_form(
    dialect: Dialect, form: Form
) -> None:
    life = Life(request("gold"), voice(dialect, form)).completed(total=100, discarded=40)
    assert [(row.type, row.sequence) for row in life.rows] == [
        (TYPE + "queued", 1),
        (TYPE + "started", 2),
        (TYPE + "discarded", 3),
        (TYPE + "finished", 43),
    ]
    assert life.job.events == 43
    documents = life.documents
    if form is Form.COMPACT:
        assert all(row.value.startswith(b'{"_id"') for row in life.rows if not row.discards)
        documents = [to_uri(document) for document in documents]
    info = "info" if dialect is Dialect.XDM else "segmenttrigger-orchestrator"
    code = {} if dialect is Dialect.XDM else {"eventCode": "INFO_EXPORTJOB_SUCCEEDED"}
    shared = {"ID": str(JOB_ID), "eventType": info, **GOLD}
    assert [job_of(document) for document in documents] == [
        {**shared, "status": "queued"},
        {**shared, "status": "started", "exportCountTotal": 100},
        {
            **shared,
            "status": "finished",
            "exportCountTotal": 100,
            "exportCountRealized": 60,
            "exportCountFailed": 40,
            **code,
        },
    ]
    for document in documents:
        assert judge(document, Contract.EMITTED).verdict is Verdict.VALID


@pytest.mark.parametrize(("dialect", "form"), EVERY_VOICE)
@pytest.mark.parametrize(("kind", "code"), CODES)
def test_a_job_that_failed_before_it_started_has_the_same_code_in_every_dialect(
    dialect: Dialect, form: Form, kind: FaultKind, code: str
) -> None:
    life = Life(request("gold"), voice(dialect, form)).step(steps.claim)
    if kind is FaultKind.CANCELLED:
        life.step(steps.cancel, Fault(kind, "not needed"))
    else:
        life.step(steps.fail, Fault(kind, "it is away"))
    life.step(steps.clean_up)
    document = life.documents[-1] if form is Form.URI else to_uri(life.documents[-1])
    finished = job_of(document)
    assert finished["eventCode"] == code
    assert document[OWN + "fault"] == kind
    counts = [finished["exportCount" + it] for it in ("Total", "Realized", "Failed")]
    assert counts == [0, 0, 0]


@pytest.mark.parametrize(("dialect", "form"), EVERY_VOICE)
@pytest.mark.parametrize(("kind", "code"), CODES)
def test_a_job_that_failed_is_finished_with_an_error_its_code_and_its_reason(
    dialect: Dialect, form: Form, kind: FaultKind, code: str
) -> None:
    life = Life(request("gold"), voice(dialect, form)).failed(kind, "the disk is full")
    document = life.documents[-1] if form is Form.URI else to_uri(life.documents[-1])
    error = "error" if dialect is Dialect.XDM else "segmenttrigger-orchestrator"
    if dialect is Dialect.JOURNEY_OPTIMIZER:  # its queries look for no other code after `started`
        code = "ERROR_EXPORTJOB_FAILED"
    assert job_of(document) == {
        "ID": str(JOB_ID),
        "status": "finished",
        "eventType": error,
        "eventCode": code,
        "exportCountTotal": 100,
        "exportCountRealized": 0,
        "exportCountFailed": 100,
        **GOLD,
    }
    assert document[OWN + "fault"] == kind
    assert document[OWN + "reason"] == "the disk is full"


def test_a_job_cancelled_before_it_started_counts_nobody() -> None:
    life = Life(request("gold")).step(steps.cancel, Fault(FaultKind.CANCELLED, "not needed"))
    finished = job_of(life.documents[-1])
    counts = [finished["exportCount" + it] for it in ("Total", "Realized", "Failed")]
    assert counts == [0, 0, 0]
    assert [row.sequence for row in life.rows] == [1, 2]


def test_a_step_without_a_milestone_announces_nothing() -> None:
    life = Life(request("gold"))
    life.step(steps.claim)
    assert len(life.rows) == 1
    assert life.job.events == 1


def test_started_is_announced_once_although_the_job_is_tried_again() -> None:
    life = Life(request("gold")).started()
    life.step(steps.postpone, until=NOW).started(estimate=120)
    assert [row.type for row in life.rows] == [TYPE + "queued", TYPE + "started"]


def test_without_discards_finished_follows_at_once() -> None:
    life = Life(request("gold")).completed(discarded=0)
    assert [row.sequence for row in life.rows] == [1, 2, 3]


def test_one_segment_is_named_with_its_namespace_and_others_are_listed() -> None:
    one = Life(request("crm/gold")).documents[0]
    assert job_of(one)["exportSegmentID"] == "gold"
    assert one[OWN + "segmentNamespace"] == "crm"
    assert OWN + "segments" not in one
    two = Life(request("gold", "crm/new")).documents[0]
    assert "exportSegmentID" not in job_of(two)
    assert two[OWN + "segments"] == [
        {"namespace": "ups", "segment": "gold"},
        {"namespace": "crm", "segment": "new"},
    ]
    everybody = Life(request()).documents[0]
    assert everybody[OWN + "segments"] == []


def test_the_journey_stands_in_both_places_where_dashboards_look() -> None:
    document = Life(request("gold", journey=True)).documents[0]
    assert document[ORCHESTRATION + "journey"] == {
        ORCHESTRATION + "versionID": "v12",
        ORCHESTRATION + "ID": "j1",
        ORCHESTRATION + "name": "Grüße",
    }
    assert document[ORCHESTRATION + "stepEvents"] == {
        ORCHESTRATION + "exportJobID": str(JOB_ID),
        ORCHESTRATION + "journeyVersionID": "v12",
        ORCHESTRATION + "inTest": False,
    }


def test_every_event_names_its_job_where_step_events_do_and_says_whether_it_is_a_test() -> None:
    tried = request("gold", journey=True, test_mode=True)
    for document in Life(tried).completed().documents:
        step = document[ORCHESTRATION + "stepEvents"]
        assert step[ORCHESTRATION + "exportJobID"] == job_of(document)["ID"] == str(JOB_ID)
        assert step[ORCHESTRATION + "inTest"] is True
    for document in Life(request("gold")).completed().documents:
        step = document[ORCHESTRATION + "stepEvents"]
        assert step[ORCHESTRATION + "exportJobID"] == str(JOB_ID)
        assert ORCHESTRATION + "inTest" not in step


def test_the_end_says_what_was_published_where_and_how_long_it_took() -> None:
    life = Life(request("gold", "crm/new")).started()
    life.step(steps.postpone, until=life.job.updated_at).later(timedelta(minutes=1))
    life.step(steps.claim).step(steps.initialize, snapshot="s").step(
        steps.start, pieces=1, estimate=100
    )
    life.step(
        steps.publish,
        Publication(
            batches=(
                PublishedBatch(
                    id="b2",
                    files=(data_file(30, 1_000), data_file(20, 500)),
                    counts=Counts(total=50, realized=50, failed=0),
                    segment=0,
                ),
                PublishedBatch(
                    id="b1",
                    files=(data_file(7, 3),),
                    counts=Counts(total=7, realized=7, failed=0),
                    segment=1,
                ),
            ),
            endpoints=(data_file(99, 99_999),),
        ),
    ).step(steps.complete)
    finished = life.documents[-1]
    assert own_of(finished) == {
        "sequence": 3,
        "segments": [
            {"namespace": "ups", "segment": "gold"},
            {"namespace": "crm", "segment": "new"},
        ],
        "dataset": "audience",
        "attempt": 2,
        "duration": 69_000,
        "batches": ["b2", "b1"],
        "rows": 57,
        "bytes": 1_503,
    }
    step = finished[ORCHESTRATION + "stepEvents"]
    assert step[ORCHESTRATION + "processingTime"] == 66_000
    for earlier in life.documents[:-1]:
        assert own_of(earlier).keys() == {"sequence", "segments"}
        assert ORCHESTRATION + "processingTime" not in earlier[ORCHESTRATION + "stepEvents"]


def test_an_end_without_success_names_its_dataset_and_nothing_that_was_published() -> None:
    never = Life(request("gold")).later(timedelta(hours=1))
    never.step(steps.cancel, Fault(FaultKind.CANCELLED, "not needed"))
    ran = Life(request("gold")).failed()
    for life, attempt, duration, processing in (
        (never, 0, 3_601_000, None),
        (ran, 1, 5_000, 2_000),
    ):
        finished = life.documents[-1]
        told = own_of(finished)
        assert (told["dataset"], told["attempt"], told["duration"]) == (
            "audience",
            attempt,
            duration,
        )
        assert told.keys().isdisjoint({"batches", "rows", "bytes"})
        step = finished[ORCHESTRATION + "stepEvents"]
        assert step.get(ORCHESTRATION + "processingTime") == processing


@pytest.mark.parametrize(("dialect", "form"), EVERY_VOICE)
def test_the_largest_events_fit_into_a_record_of_a_broker_that_nobody_has_configured(
    dialect: Dialect, form: Form
) -> None:
    widest = "\U0001f600"
    segments = [
        {"segmentId": f"{number:03}" + 125 * widest, "segmentNs": 128 * widest}
        for number in range(MAX_SEGMENTS)
    ]
    names = dict.fromkeys(("versionId", "namespace", "id", "name"), 128 * widest)
    largest = parse_request(
        {
            "destination": {"datasetId": "d" * 128, "segmentPerBatch": True},
            "filter": {"segments": segments},
            "journey": names,
        }
    )
    batches = tuple(
        PublishedBatch(
            id=f"{number:032}",
            files=(data_file(10**9, 10**12),),
            counts=Counts(total=10**8, realized=10**8, failed=0),
            segment=number,
        )
        for number in range(MAX_SEGMENTS)
    )
    done = Life(largest, voice(dialect, form), retry_of=2**53 - 1).started()
    done.step(steps.publish, Publication(batches=batches)).step(steps.complete)
    failed = Life(largest, voice(dialect, form), retry_of=2**53 - 1).failed(message=2_000 * widest)
    for row in (*done.rows, *failed.rows):
        record = record_of(row, SOURCE)
        headers = sum(len(name) + len(value) for name, value in record.headers)
        assert len(record.value) + headers < BROKER_DEFAULT_MAX_BYTES * 0.6


def test_a_retry_names_the_job_that_it_repeats() -> None:
    for document in Life(request("gold"), retry_of=17).completed().documents:
        assert document[OWN + "retryOf"] == "17"


def test_ids_depend_on_the_store_its_life_the_job_and_the_place_and_on_nothing_else() -> None:
    rows = Life(request("gold")).completed().rows
    again = Life(request("gold")).completed().rows
    assert [row.event_id for row in rows] == [row.event_id for row in again]
    assert len({row.event_id for row in rows}) == len(rows)
    namespace = uuid5(STORE, "1")
    assert rows[0].event_id == uuid5(namespace, f"{JOB_ID}/1")
    assert orjson.loads(rows[0].value)["@id"] == str(rows[0].event_id)
    restored = Voice.of(STORE, 2, dialect="xdm", form="uri")
    assert Life(request("gold"), restored).rows[0].event_id != rows[0].event_id


def test_an_event_happens_when_the_job_changed() -> None:
    life = Life(request("gold")).started()
    assert [row.occurred_at for row in life.rows] == [NOW, NOW + timedelta(seconds=3)]
    assert [document["xdm:timestamp"] for document in life.documents] == [
        "2026-03-01T12:00:00.123456Z",
        "2026-03-01T12:00:03.123456Z",
    ]


def test_the_rows_belong_to_the_jobs_scope() -> None:
    assert {row.scope for row in Life(request("gold")).completed().rows} == {SCOPE}


def test_a_completed_job_whose_failures_are_not_its_discards_is_not_announced() -> None:
    life = Life(request("gold")).started()
    counts = Counts(total=100, realized=60, failed=40)
    wrong = Publication(
        batches=(PublishedBatch(id="b", files=(), counts=counts),), discards=discard_file(39)
    )
    life.step(steps.publish, wrong)
    with pytest.raises(InvalidEvent, match="40 profiles as failed but has 39 discards"):
        life.step(steps.complete)


def test_an_event_that_breaks_the_contract_is_not_announced_and_the_rule_is_named() -> None:
    life = Life(request("gold"))
    life.step(steps.claim).step(steps.initialize, snapshot="s")
    with pytest.raises(InvalidEvent, match=r"exportCountTotal: must not be above .* \[maximum\]"):
        life.step(steps.start, pieces=1, estimate=100_000_000_001)


def test_announcing_changes_neither_the_transition_that_came_in_nor_its_other_facts() -> None:
    transition = steps.submit(request("gold"), job_id=JOB_ID, scope=SCOPE, request_id="r", now=NOW)
    announced, _ = announce(transition, voice())
    assert transition.after.events == 0
    assert announced == replace(transition, after=replace(transition.after, events=1))


@settings(deadline=None)
@given(st.text(st.characters(codec=None)))
@example("")
@example(" \n")
@example("a file named \udcff, as the file system wrote it")
def test_any_text_of_a_fault_fits_into_an_event(message: str) -> None:
    document = Life(request("gold")).failed(message=message).documents[-1]
    assert 1 <= len(document[OWN + "reason"]) <= MAX_REASON
    assert judge(document, Contract.EMITTED).verdict is Verdict.VALID


def test_a_very_long_reason_is_cut() -> None:
    document = Life(request("gold")).failed(message="x" * 5000).documents[-1]
    assert document[OWN + "reason"] == "x" * (MAX_REASON - 1) + "…"


def test_a_voice_is_made_of_the_words_of_the_settings() -> None:
    spoken = Voice.of(STORE, 3, dialect="journey-optimizer", form="compact")
    assert spoken == Voice(Dialect.JOURNEY_OPTIMIZER, Form.COMPACT, uuid5(STORE, "3"))
    assert isinstance(spoken.namespace, UUID)
