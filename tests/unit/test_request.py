"""What a request may say, and how a wrong one is answered."""

import json
from typing import Any

import pytest

from segexport.errors import InvalidRequest
from segexport.jobs.request import MAX_SEGMENTS, ExportRequest, SegmentStatus, parse_request


def body(**changes: Any) -> dict[str, Any]:
    return {
        "fields": "person.name.firstName, personalEmail.address,,person.name.firstName",
        "mergePolicy": {"id": "timestampOrdered-none-mp", "version": 1},
        "filter": {"segments": [{"segmentId": "gold"}]},
        "destination": {"datasetId": "5b7c86968f7b6501e21ba9df"},
        "schema": {"name": "_xdm.context.profile"},
        **changes,
    }


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
            "mergePolicy": {"id": "other"},
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
        (body(evaluationInfo={"segmentation": True}), "evaluationInfo"),
    ],
)
def test_a_wrong_part_is_refused_by_its_path(document: dict[str, Any], path: str) -> None:
    assert paths_of(document) == [path]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', b"\xff"])
def test_what_is_not_a_json_object_is_refused(text: str | bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse_request(text)


def test_requests_are_frozen() -> None:
    request = parse_request(body())
    with pytest.raises(ValueError, match="frozen"):
        request.fields = "other"  # type: ignore[misc]  # what the test is about
    assert isinstance(request, ExportRequest)
