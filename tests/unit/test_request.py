"""What a request may say, and how a wrong one is answered."""

import json
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

import jsonschema_rs
import pytest

from segexport.errors import InvalidRequest
from segexport.jobs.reading import MAX_LOOKED_AT, draft_request, parse_request
from segexport.jobs.request import MAX_SEGMENTS, ExportRequest, SegmentStatus


def body(**changes: Any) -> dict[str, Any]:
    return {
        "fields": "person.name.firstName, personalEmail.address,,person.name.firstName",
        "mergePolicy": {"id": "timestampOrdered-none-mp", "version": 1},
        "filter": {"segments": [{"segmentId": "gold"}]},
        "destination": {"datasetId": "5b7c86968f7b6501e21ba9df"},
        "schema": {"name": "_xdm.context.profile"},
        **changes,
    }


T1, T2 = "2018-02-01T00:00:00Z", "2018-03-01T00:00:00Z"
EVENTS = "additionalFields.eventList"
WINDOW = f"{EVENTS}.filter"
WINDOWS = "filter.segmentQualificationTime"
EVALUATION = "evaluationInfo.segmentation"


def qualified(**times: str) -> dict[str, Any]:
    return {"segments": [{"segmentId": "s"}], "segmentQualificationTime": times}


def ingested(**times: str) -> dict[str, Any]:
    return {"eventList": {"filter": times}}


def paths_of(document: dict[str, Any]) -> list[str]:
    with pytest.raises(InvalidRequest) as refused:
        parse_request(document)
    return [problem.path for problem in refused.value.problems]


def test_defaults_are_those_of_the_documented_api() -> None:
    request = parse_request(
        {"destination": {"datasetId": "d"}, "filter": {"segments": [{"segmentId": "s"}]}}
    )
    (segment,) = request.filter.segments
    assert (segment.segment_ns, segment.status) == ("ups", (SegmentStatus.REALIZED,))
    assert request.merge_policy is None
    assert request.field_paths == ()


def test_fields_are_split_trimmed_and_named_once() -> None:
    assert parse_request(body()).field_paths == ("person.name.firstName", "personalEmail.address")


def test_a_single_status_may_stand_without_a_list() -> None:
    request = parse_request(body(filter={"segments": [{"segmentId": "s", "status": "exited"}]}))
    assert request.filter.segments[0].status == (SegmentStatus.EXITED,)


@pytest.mark.parametrize("as_json", [True, False])
def test_a_null_is_what_is_left_out(as_json: bool) -> None:
    nothing = dict.fromkeys(
        ("fields", "mergePolicy", "filter", "additionalFields", "schema", "evaluationInfo")
    )
    destination = {"datasetId": "d", "segmentPerBatch": None, "format": None}
    deep = {
        "filter": {
            "segments": [{"segmentId": "s", "segmentNs": None, "status": None}],
            "segmentQualificationTime": None,
            "emptyProfiles": None,
        },
        "additionalFields": {"eventList": {"fields": None, "filter": None}},
        "destination": destination,
    }
    plain = {
        "filter": {"segments": [{"segmentId": "s"}]},
        "additionalFields": {"eventList": {}},
        "destination": {"datasetId": "d"},
    }
    for nulls, left_out in ((nothing | {"destination": destination}, {}), (deep, plain)):
        given: Any = json.dumps(nulls) if as_json else nulls
        assert parse_request(given) == parse_request({"destination": {"datasetId": "d"}} | left_out)


def test_a_null_makes_no_word_known_and_none_that_is_required_given() -> None:
    document = body(destination={"datasetId": None}, filters=None)
    assert sorted(paths_of(document)) == ["destination.datasetId", "filters"]


def test_the_dataset_may_be_spelled_as_in_either_documented_response() -> None:
    request = parse_request(body(destination={"dataSetId": "d", "segmentPerBatch": False}))
    assert request == parse_request(body(destination={"datasetId": "d"}))
    assert request.document()["destination"]["datasetId"] == "d"
    both = body(destination={"dataSetId": "d", "datasetId": "e"})
    assert paths_of(both) == ["destination.dataSetId"]


def test_a_request_survives_the_way_through_its_document() -> None:
    request = parse_request(body(journey={"versionId": "v1", "namespace": "Email"}))
    assert parse_request(json.dumps(request.document())) == request


@pytest.mark.parametrize(("count", "single"), [(0, False), (1, True), (2, False)])
def test_the_only_segment_is_known_only_when_there_is_one(count: int, single: bool) -> None:
    request = parse_request(
        body(filter={"segments": [{"segmentId": f"s{n}"} for n in range(count)]})
    )
    assert (request.only_segment is not None) is single


def test_all_problems_are_named_at_once_with_their_paths() -> None:
    assert paths_of(
        {
            "filter": {"segments": [{"segmentId": ""}, {"segmentNs": "ups"}], "more": 1},
            "mergePolicy": {"id": "", "version": 1},
            "journey": {"versionId": "v" * 200, "namespace": "Email"},
        }
    ) == [
        "mergePolicy.id",
        "filter.segments.0.segmentId",
        "filter.segments.1.segmentId",
        "filter.more",
        "destination",
        "journey.versionId",
    ]


@pytest.mark.parametrize(
    ("part", "paths"),
    [
        ({"filter": {"more": 1, **qualified(startTime=T2, endTime=T1)}}, {WINDOWS, "filter.more"}),
        ({"filter": {"segments": [{"segmentId": "a"}] * 2, "more": 1}}, {"filter", "filter.more"}),
        ({"filter": {"segmentQualificationTime": {"more": 1}}}, {"filter", f"{WINDOWS}.more"}),
        ({"filter": 3, "evaluationInfo": {"segmentation": 3}}, {"filter", EVALUATION}),
        ({"filter": {"segments": [3]}, "fields": 3}, {"filter.segments.0", "fields"}),
        (
            {"filter": {"segments": [{"segmentId": "a", "segmentNs": 3}, {"segmentId": "a"}]}},
            {"filter.segments.0.segmentNs"},
        ),
        ({"filter": {"segments": [{}, {}]}}, {f"filter.segments.{n}.segmentId" for n in (0, 1)}),
        (
            {
                "pinpoint": {"applicationId": "shop", "roleArn": "", "s3UrlPrefix": "x"},
                "fields": "person",
            },
            {"pinpoint.roleArn", "pinpoint.s3UrlPrefix", ""},
        ),
        ({"mergePolicy": {"version": 0}}, {"mergePolicy.id", "mergePolicy.version"}),
        ({"journey": {"versionId": "a\u202eb"}}, {"journey.versionId", "journey.namespace"}),
        (
            {"additionalFields": ingested(fromIngestTimestamp=T2, toIngestTimestamp=T1)},
            {WINDOW},
        ),
    ],
)
@pytest.mark.parametrize("as_json", [True, False])
def test_what_is_wrong_with_one_part_hides_nothing_of_the_others(
    part: dict[str, Any], paths: set[str], *, as_json: bool
) -> None:
    given = {"destination": {"datasetId": "../etc"}, **part}
    with pytest.raises(InvalidRequest) as refused:
        parse_request(json.dumps(given) if as_json else given)
    told = [problem.path for problem in refused.value.problems]
    assert set(told) == paths | {"destination.datasetId"}


def test_two_things_that_contradict_a_request_are_both_told() -> None:
    asked = pinpoint(segmentId="s") | {
        "fields": "person",
        "destination": {"datasetId": "d", "segmentPerBatch": True},
    }
    with pytest.raises(InvalidRequest) as refused:
        parse_request(asked)
    assert [problem.path for problem in refused.value.problems] == ["", ""]


def test_a_long_document_that_is_wrong_is_looked_at_once() -> None:
    long = json.dumps({"more": "x" * MAX_LOOKED_AT, "destination": {"datasetId": "d"}})
    assert draft_request(long).rest is None
    assert [problem.path for problem in draft_request(long).problems] == ["more"]
    short = draft_request(json.dumps({"more": "x", "destination": {"datasetId": "d"}}))
    assert short.rest == parse_request({"destination": {"datasetId": "d"}})


def test_what_is_said_twice_does_not_hide_what_is_wrong() -> None:
    with pytest.raises(InvalidRequest, match=r"more: is there twice.*datasetId: must be letters"):
        parse_request('{"more": 1, "more": 2, "destination": {"datasetId": "../etc"}}')


def test_two_spellings_of_one_word_are_refused_with_the_true_reason() -> None:
    both = body(destination={"dataSetId": "d", "datasetId": "e"})
    with pytest.raises(InvalidRequest, match="dataSetId: is another spelling of datasetId"):
        parse_request(both)


HIDDEN = (
    *("\u202e", "\u202a", "\u2066", "\u2069", "\u200e", "\u200f", "\u061c", "\u2028", "\u2029"),
    *("\u200b", "\u2060", "\ufeff", "\u00ad", "\ufff9", "\x00", "\x1b", "\x9b"),
)


@pytest.mark.parametrize("letter", [*HIDDEN, "\udcff"], ids=ascii)
def test_a_character_that_does_not_show_is_refused_with_its_place_and_number(letter: str) -> None:
    name = f"ab{letter}c"
    document = pinpoint(roleArn=name, segmentId=name) | {
        "filter": {"segments": [{"segmentId": name, "segmentNs": name}]},
        "mergePolicy": {"id": name},
        "schema": {"name": name},
        "journey": {"versionId": name, "namespace": name, "id": name, "name": name},
        "additionalFields": {"eventList": {"fields": name}},
        "fields": f" {name}",
    }
    with pytest.raises(InvalidRequest) as refused:
        parse_request(document)
    told = {problem.path: problem.message for problem in refused.value.problems}
    told.pop("", None)  # a request for Pinpoint has no fields
    assert set(told) == {
        *("filter.segments.0.segmentId", "filter.segments.0.segmentNs", "mergePolicy.id"),
        *("schema.name", f"{EVENTS}.fields", "fields", "pinpoint.roleArn", "pinpoint.segmentId"),
        *(f"journey.{part}" for part in ("versionId", "namespace", "id", "name")),
    }
    for path, words in told.items():
        place = 4 if path == "fields" else 3
        assert words.startswith(f"its character {place} is U+{ord(letter):04X} (")


@pytest.mark.parametrize(
    "name",
    [
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, with a non-joiner
        "\u0915\u094d\u200d\u0937",  # Hindi, with a joiner
        "\U0001f468\u200d\U0001f469\u200d\U0001f467\ufe0f",
        "\u65e5\u672c\u3000\u8a9e\u00a0",
        "\ue000",
    ],
    ids=ascii,
)
def test_what_words_are_spelled_with_is_taken(name: str) -> None:
    request = parse_request(body(filter={"segments": [{"segmentId": name}]}))
    assert request.filter.segments[0].segment_id == name


def test_fields_may_stand_on_several_lines() -> None:
    assert parse_request(body(fields="a,\r\n\tb")).field_paths == ("a", "b")


@pytest.mark.parametrize(
    ("document", "path"),
    [
        (body(destination={"datasetId": "../etc"}), "destination.datasetId"),
        (body(destination={"datasetId": ".hidden"}), "destination.datasetId"),
        (body(filter={"segments": [{"segmentId": "a\x00b"}]}), "filter.segments.0.segmentId"),
        (body(filter={"segments": [{"segmentId": "x" * 129}]}), "filter.segments.0.segmentId"),
        (body(fields="x" * 16_385), "fields"),
        (
            body(filter={"segments": [{"segmentId": "s", "status": ["left"]}]}),
            "filter.segments.0.status.0",
        ),
        (body(filter={"segments": [{"segmentId": "s"}, {"segmentId": "s"}]}), "filter"),
        (
            body(filter={"segments": [{"segmentId": f"{n}"} for n in range(MAX_SEGMENTS + 1)]}),
            "filter.segments",
        ),
        (body(mergePolicy={"id": "timestampOrdered", "version": 0}), "mergePolicy.version"),
        (body(evaluationInfo={"segmentation": "perhaps"}), "evaluationInfo.segmentation"),
        (body(evaluationInfo={"evaluate": True}), "evaluationInfo.evaluate"),
        (body(additionalFields={"eventList": {"fields": "x" * 16_385}}), EVENTS + ".fields"),
        (body(additionalFields={"eventList": {"filter": {"since": "2018"}}}), f"{WINDOW}.since"),
        (body(destination={"datasetId": "d", "format": "csv"}), "destination.format"),
        (body(destination={"datasetId": "d", "segmentPerBatch": True}, filter={}), ""),
        (body(filter={"segmentQualificationTime": {"startTime": T1}}), "filter"),
        (
            body(filter=qualified(startTime=T2, endTime=T1)),
            "filter.segmentQualificationTime",
        ),
        (
            body(filter=qualified(startTime=T1, endTime=T1)),
            "filter.segmentQualificationTime",
        ),
        (
            body(filter=qualified(startTime=T1, endTime="2018-02-01T01:00:00+02:00")),
            "filter.segmentQualificationTime",
        ),
        (body(additionalFields=ingested(fromIngestTimestamp=T2, toIngestTimestamp=T1)), WINDOW),
        (body(additionalFields=ingested(fromIngestTimestamp=T1, toIngestTimestamp=T1)), WINDOW),
    ],
)
def test_a_wrong_part_is_refused_by_its_path(document: dict[str, Any], path: str) -> None:
    assert paths_of(document) == [path]


def test_the_documented_request_is_understood_whole() -> None:
    request = parse_request(
        body(
            filter=qualified(startTime="2018-01-01T00:00:00Z", endTime=T1)
            | {"fromIngestTimestamp": "2018-01-01T00:00:00Z", "emptyProfiles": True},
            additionalFields={
                "eventList": {
                    "fields": " _id, web , _id",
                    "filter": {"fromIngestTimestamp": T1, "toIngestTimestamp": T2},
                }
            },
            destination={"datasetId": "d", "segmentPerBatch": False},
            evaluationInfo={"segmentation": True},
        )
    )
    events = request.additional_fields.event_list
    assert events is not None
    assert events.field_paths == ("_id", "web")
    assert events.filter.to_ingest_timestamp == datetime(2018, 3, 1, tzinfo=UTC)
    assert request.filter.empty_profiles
    assert request.evaluation_info.segmentation
    assert parse_request(json.dumps(request.document())) == request


@pytest.mark.parametrize("name", ["startTime", "endTime"])
def test_one_side_of_a_window_may_stay_open(name: str) -> None:
    when = parse_request(body(filter=qualified(**{name: T1}))).filter.segment_qualification_time
    assert when is not None
    assert [when.start_time, when.end_time].count(None) == 1


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2018-01-01T00:00:00Z", datetime(2018, 1, 1, tzinfo=UTC)),
        ("2018-01-01t00:00:00.5z", datetime(2018, 1, 1, microsecond=500_000, tzinfo=UTC)),
        ("2018-01-01T00:00:00.123456789+02:00", datetime(2017, 12, 31, 22, 0, 0, 123_456, UTC)),
    ],
)
def test_times_are_rfc_3339_and_kept_in_utc(text: str, moment: datetime) -> None:
    filtered = parse_request(body(filter={"fromIngestTimestamp": text})).filter
    assert filtered.from_ingest_timestamp == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2018-01-01",
        "2018-01-01T00:00:00",
        "2018-01-01 00:00:00Z",
        "2018-01-01T00:00Z",
        "20180101T000000Z",
        "2018-13-01T00:00:00Z",
        "2018-02-30T00:00:00Z",
        "2018-01-01T00:00:00+0200",
        "0001-01-01T00:00:00+14:00",
        "٢٠١٨-01-01T00:00:00Z",
        1514764800000,
        True,
    ],
)
def test_what_is_no_rfc_3339_date_time_is_refused(text: object) -> None:
    assert paths_of(body(filter={"fromIngestTimestamp": text})) == ["filter.fromIngestTimestamp"]


def test_a_merge_policy_can_be_named_afterwards_and_changes_nothing_else() -> None:
    request = parse_request(body(mergePolicy=None))
    decided = request.with_policy("none-none-mp", 2)
    assert decided.document()["mergePolicy"] == {"id": "none-none-mp", "version": 2}
    assert decided.model_copy(update={"merge_policy": None}) == request


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', b"\xff"])
def test_what_is_not_a_json_object_is_refused(text: str | bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse_request(text)


def test_requests_are_frozen() -> None:
    request = parse_request(body())
    with pytest.raises(ValueError, match="frozen"):
        request.fields = "other"  # type: ignore[misc]  # what the test is about
    assert isinstance(request, ExportRequest)


# Pinpoint


def pinpoint(**changes: Any) -> dict[str, Any]:
    part = {"applicationId": "shop", "roleArn": "arn:x", "s3UrlPrefix": "s3://bucket/x"}
    return body(fields=" , ", pinpoint=part | changes)


def test_a_pinpoint_job_is_kept_as_it_came_but_for_the_slash_at_the_end() -> None:
    request = parse_request(pinpoint(segmentId="s", segmentVersion=3))
    assert request.document()["pinpoint"] == {
        "applicationId": "shop",
        "roleArn": "arn:x",
        "s3UrlPrefix": "s3://bucket/x/",
        "segmentId": "s",
        "segmentVersion": 3,
    }
    assert parse_request(request.document()) == request


@pytest.mark.parametrize(
    "url",
    [
        *("bucket/x", "https://bucket/x", "s3://", "s3:///x", "s3://B/x", "s3://bucket/x?y"),
        *("s3://bucket/../x", "s3://bucket/a//b", "s3://bucket/x/.", "s3://bucket//"),
        *("s3://bucket/a\nb", f"s3://bucket/{'x' * 1024}"),
    ],
)
def test_a_prefix_leads_below_a_bucket_and_nowhere_else(url: str) -> None:
    assert paths_of(pinpoint(s3UrlPrefix=url)) == ["pinpoint.s3UrlPrefix"]


@pytest.mark.parametrize(
    "changes",
    [
        {"fields": "person"},
        {"destination": {"datasetId": "d", "segmentPerBatch": True}},
    ],
)
def test_endpoints_need_whole_profiles_once(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="pinpoint"):
        parse_request(pinpoint() | changes)


@pytest.mark.parametrize(
    "part", [{"applicationId": "../x"}, {"roleArn": "x" * 2_049}, {"segmentVersion": -1}]
)
def test_every_word_of_a_pinpoint_job_is_bounded(part: dict[str, Any]) -> None:
    assert paths_of(pinpoint(**part)) == [f"pinpoint.{next(iter(part))}"]


# The schema


@pytest.mark.parametrize(
    ("given", "accepted"),
    [
        ({}, True),
        ({"fields": None, "filter": None, "schema": None, "journey": None}, True),
        ({"filter": {"segments": None, "emptyProfiles": None}}, True),
        ({"filter": {"segments": [{"segmentId": "a", "segmentNs": None, "status": None}]}}, True),
        ({"filter": {"segments": [{"segmentId": "a", "status": "exited"}]}}, True),
        ({"filter": {"segments": [{"segmentId": "a", "status": ["exited"]}]}}, True),
        ({"filter": {"segments": [{"segmentId": "a", "status": []}]}}, False),
        ({"filter": {"segments": [{"segmentId": "a", "status": "gone"}]}}, False),
        ({"filter": {"segments": [{"segmentId": "a", "status": ["exited"] * 11}]}}, False),
        ({"filter": {"segments": [{"segmentId": None}]}}, False),
        ({"filter": {"segments": [{"segment_id": "a"}]}}, False),
        ({"filter": {"emptyProfiles": True}}, True),
        ({"filter": {"emptyProfiles": "true"}}, False),
        ({"filter": {"emptyProfiles": 1}}, False),
        ({"destination": {"dataSetId": "a"}}, True),
        ({"destination": {"datasetId": "a", "dataSetId": "a"}}, False),
        ({"destination": {"datasetId": None}}, False),
        ({"destination": {"dataset_id": "a"}}, False),
        ({"destination": {"datasetId": "a", "format": None}}, True),
        ({"mergePolicy": {"id": "a", "version": 1}}, True),
        ({"mergePolicy": {"id": "a", "version": 1.0}}, True),
        ({"mergePolicy": {"id": "a", "version": "1"}}, False),
        ({"mergePolicy": {"id": "a", "version": True}}, False),
        ({"mergePolicy": {"id": "a", "version": 0}}, False),
        ({"mergePolicy": {"id": "a\n"}}, False),
        ({"mergePolicy": {"id": "a\u202e"}}, False),
        ({"mergePolicy": {"id": "a\u200d"}}, True),
        ({"fields": "a,\nb"}, True),
        ({"fields": "a\u2066"}, False),
        ({"fields": "a\x00"}, False),
        (pinpoint(s3UrlPrefix="s3://bucket/a/b"), True),
        (pinpoint(s3UrlPrefix="s3://bucket"), True),
        (pinpoint(s3UrlPrefix="s3://bucket/a//b"), False),
        (pinpoint(s3UrlPrefix="s3://bucket/../b"), False),
        (pinpoint(s3UrlPrefix="s3://bucket/."), False),
        (pinpoint(s3UrlPrefix="s3://bucket/a\u00adb"), False),
        (pinpoint(s3UrlPrefix="s3://bucket/..a"), True),
        (pinpoint(s3UrlPrefix="s3://bucket/a\n"), False),
    ],
)
def test_the_schema_and_the_parser_agree(given: dict[str, Any], *, accepted: bool) -> None:
    document = {"destination": {"datasetId": "a"}, **given}
    validator = jsonschema_rs.Draft202012Validator(ExportRequest.model_json_schema())
    assert validator.is_valid(document) is accepted
    with nullcontext() if accepted else pytest.raises(InvalidRequest):
        parse_request(json.dumps(document))


def test_of_very_many_problems_the_first_are_told() -> None:
    segments = [{"status": "gone"}] * MAX_SEGMENTS
    with pytest.raises(InvalidRequest) as caught:
        parse_request(body(filter={"segments": segments}))
    *told, rest = caught.value.problems
    assert len(told) == 100
    assert rest.message == f"and {2 * MAX_SEGMENTS - 100} more"


def test_what_is_said_twice_is_refused() -> None:
    text = '{"destination": {"datasetId": "a", "datasetId": "b"}}'
    with pytest.raises(InvalidRequest, match="datasetId: is there twice"):
        parse_request(text)
