"""What earlier versions have stored is still read; what was read is not kept for ever."""

import gc
import tracemalloc
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import orjson
import pytest

from segexport.disclosure import may_name_a_place
from segexport.events.announcement import Voice, announce
from segexport.jobs import job as steps
from segexport.jobs.job import Fault, FaultKind, Job
from segexport.jobs.lifecycle import JobState
from segexport.store.rows import (
    CHANGING_COLUMNS,
    FIXED_COLUMNS,
    PIECE_COLUMNS,
    changing_values,
    failure_words,
    fixed_values,
    piece_values,
    read_job,
    read_piece,
)
from segexport.store.store import FinishedPart, FinishedPiece
from support.job_stories import NOON, PUBLICATION, new_job

MEBIBYTE = 1 << 20
PIECE = FinishedPiece(
    index=3,
    epoch=2,
    parts=(
        FinishedPart(
            selected=9,
            discarded=2,
            data=PUBLICATION.batches[0].files[0],
            endpoints=PUBLICATION.endpoints[0],
            unknown_consents=3,
        ),
    ),
)


def test_a_request_of_before_marks_of_direction_were_refused_is_read() -> None:
    job = new_job()[0].after
    values = [*fixed_values(job), *changing_values(job), None, 0, None]
    place = FIXED_COLUMNS.index("request")
    request = orjson.loads(values[place])
    request["filter"]["segments"] = [{"segmentId": "a\u202eb"}]
    values[place] = orjson.dumps(request).decode()
    (segment,) = read_job(values).request.filter.segments
    assert segment.segment_id == "a\u202eb"


def test_a_piece_of_before_there_were_endpoints_has_none() -> None:
    values = list(piece_values(PIECE, NOON))
    assert read_piece(values) == PIECE
    place = PIECE_COLUMNS.index("parts")
    parts = orjson.loads(values[place])
    for part in parts:
        del part["endpoints"], part["unknown_consents"]
    values[place] = orjson.dumps(parts).decode()
    (part,) = PIECE.parts
    assert read_piece(values) == replace(
        PIECE, parts=(replace(part, endpoints=None, unknown_consents=0),)
    )


def stored_with(fault: dict[str, str | None]) -> Job:
    """A job as it is read when its fault is stored so."""
    job = new_job()[0].after
    values = [*fixed_values(job), *changing_values(job), None, 0, None]
    values[len(FIXED_COLUMNS) + CHANGING_COLUMNS.index("fault")] = orjson.dumps(fault).decode()
    return read_job(values)


def test_a_fault_is_read_as_it_was_stored() -> None:
    fault = Fault(FaultKind.FAILED, "the dataset is full", "/srv/data has no room")
    job = replace(new_job()[0].after, fault=fault)
    assert read_job([*fixed_values(job), *changing_values(job), None, 0, None]).fault == fault


@pytest.mark.parametrize("kind", [FaultKind.FAILED, FaultKind.UNREACHABLE, FaultKind.DEADLINE])
def test_words_of_before_there_were_two_kinds_are_for_everybody_only_without_a_place(
    kind: FaultKind,
) -> None:
    harmless = "not finished by 2026-03-01 12:00:00+00:00"
    assert stored_with({"kind": kind, "message": harmless}).fault == Fault(kind, harmless)
    for place in ("/srv/data/persons.parquet", "my data/bucket=1", "master:7077", "jobs.sqlite"):
        job = stored_with({"kind": kind, "message": f"no {place}"})
        assert job.fault is not None
        assert not may_name_a_place(job.fault.message)
        assert f"segexport status {job.id}" in job.fault.message
        assert job.fault.detail == f"no {place}"


def test_the_reason_of_a_cancel_is_whatever_was_given() -> None:
    fault = stored_with({"kind": "cancelled", "message": "see https://acme.example/7"}).fault
    assert fault == Fault(FaultKind.CANCELLED, "see https://acme.example/7")


def test_a_failure_of_before_there_were_two_kinds_of_words_names_no_place() -> None:
    assert failure_words("a query of the export went wrong") == "a query of the export went wrong"
    told = failure_words("/srv/data/persons.parquet cannot be read")
    assert told
    assert not may_name_a_place(told)


def test_a_publication_of_before_there_were_endpoints_has_none() -> None:
    job = replace(new_job()[0].after, publication=PUBLICATION)
    values = [*fixed_values(job), *changing_values(job), None, 0, None]
    assert read_job(values).publication == PUBLICATION
    place = len(FIXED_COLUMNS) + CHANGING_COLUMNS.index("publication")
    publication = orjson.loads(values[place])
    del publication["endpoints"], publication["unknown_consents"]
    values[place] = orjson.dumps(publication).decode()
    assert read_job(values).publication == replace(PUBLICATION, endpoints=(), unknown_consents=0)


def test_a_job_that_an_earlier_version_was_publishing_is_finished_with_an_event_of_today() -> None:
    job = new_job()[0].after
    moment = NOON + timedelta(seconds=5)
    job = replace(
        job,
        state=JobState.COMPLETING,
        updated_at=moment,
        started_at=NOON,
        attempts=3,
        events=2,
        publication=PUBLICATION,
    )
    values = [*fixed_values(job), *changing_values(job), None, 0, None]
    request = orjson.loads(values[FIXED_COLUMNS.index("request")])
    request["journey"] = {"versionId": "v1", "namespace": "ECID"}
    values[FIXED_COLUMNS.index("request")] = orjson.dumps(request).decode()
    place = len(FIXED_COLUMNS) + CHANGING_COLUMNS.index("publication")
    publication = orjson.loads(values[place])
    del publication["endpoints"]
    values[place] = orjson.dumps(publication).decode()
    transition = steps.complete(read_job(values), moment)
    *_, finished = announce(transition, Voice.of(uuid4(), 1, dialect="xdm", form="compact"))[1]
    document = orjson.loads(finished.value)
    orchestration = document["_experience"]["journeyOrchestration"]
    assert orchestration["journey"] == {"versionID": "v1"}
    assert orchestration["stepEvents"] == {
        "exportJobID": str(job.id),
        "journeyVersionID": "v1",
        "inTest": False,
        "processingTime": 5_000,
    }
    told = document["_segexport"]
    assert (told["batches"], told["rows"], told["bytes"]) == (["b-1"], 90, 4_000_000_001)
    assert (told["dataset"], told["attempt"], told["duration"]) == ("audience", 3, 5_000)


def test_of_the_requests_of_jobs_that_are_read_some_megabytes_are_kept() -> None:
    """Jobs of many segments, each with a dataset of its own: the largest that are kept."""
    job = new_job()[0].after
    values = [*fixed_values(job), *changing_values(job), None, 0, None]
    place = FIXED_COLUMNS.index("request")
    request = orjson.loads(values[place])
    request["filter"]["segments"] = [
        {"segmentId": f"segment-{number}", "status": ["realized", "existing"]}
        for number in range(50)
    ]
    tracemalloc.start()
    try:
        for number in range(1_500):
            request["destination"]["datasetId"] = f"dataset-{number}"
            values[place] = orjson.dumps(request).decode()
            assert read_job(values).request.destination.dataset_id == f"dataset-{number}"
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 1000 < len(values[place]) < 4096
    assert kept < 12 * MEBIBYTE
