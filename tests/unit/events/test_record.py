"""The Kafka record of an event, as CloudEvents 1.0 binds it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import orjson
import pytest

from segexport.events.record import milliseconds, record_of, store_source
from segexport.events.service_event import timestamp
from segexport.events.vocabulary import Form
from segexport.jobs.job import Scope
from support.events import JOB_ID, SOURCE, STORE, Life, request, voice


def test_the_value_is_the_stored_event_byte_for_byte() -> None:
    for row in Life(request("gold")).completed(discarded=0).rows:
        assert record_of(row, SOURCE).value is row.value


def test_the_key_is_the_digits_of_the_job_so_that_its_events_keep_their_order() -> None:
    rows = Life(request("gold")).completed(discarded=0).rows
    assert {record_of(row, SOURCE).key for row in rows} == {str(JOB_ID).encode()}


def test_the_headers_are_those_of_cloudevents_in_binary_mode() -> None:
    row = Life(request("gold")).rows[0]
    record = record_of(row, SOURCE)
    assert dict(record.headers) == {
        "content-type": b"application/json",
        "ce_specversion": b"1.0",
        "ce_id": str(row.event_id).encode(),
        "ce_source": f"urn:segexport:store:{STORE}".encode(),
        "ce_type": b"segexport.segmentExportJob.queued",
        "ce_time": b"2026-03-01T12:00:00.123456Z",
        "ce_subject": str(JOB_ID).encode(),
        "ce_dataschema": b"urn:segexport:schema:emitted:2",
        "ce_organization": b"acme",
        "ce_sandbox": b"prod",
        "ce_sequence": b"000000000001",
    }
    assert len(dict(record.headers)) == len(record.headers)
    assert orjson.loads(record.value)["@id"] == str(row.event_id)


def test_a_compact_value_names_the_compact_schema() -> None:
    row = Life(request("gold"), voice(form=Form.COMPACT)).rows[0]
    headers = dict(record_of(row, SOURCE).headers)
    assert headers["ce_dataschema"] == b"urn:segexport:schema:emitted:2:compact"


def test_names_beyond_ascii_travel_as_utf_8() -> None:
    row = replace(Life(request("gold")).rows[0], scope=Scope("Käserei", "prüfung"))
    headers = dict(record_of(row, SOURCE).headers)
    assert headers["ce_organization"].decode() == "Käserei"
    assert headers["ce_sandbox"].decode() == "prüfung"


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(2026, 3, 1, 12, 0, 0, 999_999, tzinfo=UTC), 1_772_366_400_999),
        (
            datetime(2026, 3, 1, 13, 0, 0, 1_000, tzinfo=timezone(timedelta(hours=1))),
            1_772_366_400_001,
        ),
    ],
)
def test_milliseconds_are_cut_and_never_rounded_up(moment: datetime, expected: int) -> None:
    assert milliseconds(moment) == expected


def test_a_timestamp_is_utc_with_microseconds_whatever_the_zone() -> None:
    moment = datetime(2026, 3, 1, 13, 0, tzinfo=timezone(timedelta(hours=1)))
    assert timestamp(moment) == "2026-03-01T12:00:00.000000Z"


def test_the_source_is_the_store() -> None:
    assert store_source(STORE) == f"urn:segexport:store:{STORE}"
