"""What a request means against a snapshot, and what is wrong with it."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segexport.errors import InvalidRequest
from segexport.exports.plan import (
    Delivery,
    NestedEvents,
    Window,
    check_request,
    plan_export,
    resolve_policy,
    upper_bound,
)
from segexport.jobs.reading import parse_request
from segexport.jobs.request import ExportRequest
from segexport.profiles.catalogue import (
    BUILT_IN,
    TIMESTAMP_ORDERED,
    Catalogue,
    Merging,
    PolicyDefinition,
    SegmentDefinition,
)
from segexport.profiles.snapshots import Attribute, SegmentSize, Snapshot
from support.people import NOW

PATHS = ("homeAddress.city", "person.name.firstName", "person.name.lastName", "tags")


EVENT_PATHS = ("_id", "timestamp", "web.name", "web.views")
CRM_FIRST = PolicyDefinition(
    id="crm-first", version=1, merging=Merging.DATASET_PRECEDENCE, datasets=("crm",)
)
WEB_FIRST = replace(CRM_FIRST, version=2, datasets=("web",))


def catalogue_of(**segments: PolicyDefinition) -> Catalogue:
    """A catalogue in which these segments of the namespace `ups` are defined."""
    return Catalogue(
        policies=(*BUILT_IN, CRM_FIRST, WEB_FIRST),
        segments=tuple(
            SegmentDefinition(
                namespace="ups",
                segment=segment,
                version=1,
                predicate="true",
                policy=policy.id,
                policy_version=policy.version,
            )
            for segment, policy in segments.items()
        ),
    )


EVALUATE = {"segmentation": True}


def snapshot_of(*paths: str, persons: int = 100, buckets: int = 3) -> Snapshot:
    return Snapshot(
        id="00000001-20260301T120000Z",
        folder=Path("/nowhere"),
        created_at=NOW,
        buckets=buckets,
        persons=persons,
        fragments=persons,
        attributes=tuple(Attribute(path, "VARCHAR") for path in paths or PATHS),
        event_attributes=tuple(Attribute(path, "VARCHAR") for path in EVENT_PATHS),
        segments=(
            SegmentSize(namespace="ups", segment="gold", realized=10, existing=30, exited=5),
            SegmentSize(namespace="AAM", segment="10300", realized=60, existing=20, exited=0),
        ),
        namespaces=("Email",),
    )


def request_of(**document: Any) -> ExportRequest:
    return parse_request({"destination": {"datasetId": "d"}} | document)


def segments(*wanted: tuple[str, str, list[str]]) -> dict[str, Any]:
    return {
        "segments": [
            {"segmentNs": namespace, "segmentId": segment, "status": status}
            for namespace, segment, status in wanted
        ]
    }


def test_without_fields_all_attributes_and_the_identity_map_are_exported() -> None:
    plan = plan_export(request_of(), snapshot_of(), TIMESTAMP_ORDERED)
    assert [attribute.path for attribute in plan.attributes] == list(PATHS)
    assert (plan.identity_map, plan.identities, plan.segment_membership) == (True, (), False)
    assert plan.pieces == 3


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("person.name.lastName", ["person.name.lastName"]),
        ("person", ["person.name.firstName", "person.name.lastName"]),
        ("tags, person.name", ["person.name.firstName", "person.name.lastName", "tags"]),
        ("identityMap", []),
    ],
)
def test_a_field_is_an_attribute_or_the_beginning_of_some(fields: str, expected: list[str]) -> None:
    plan = plan_export(request_of(fields=fields), snapshot_of(), TIMESTAMP_ORDERED)
    assert [attribute.path for attribute in plan.attributes] == expected
    assert plan.identity_map == ("identityMap" in fields)


def test_what_lies_in_an_attribute_of_json_is_asked_for_with_the_whole() -> None:
    attributes = (Attribute("homeAddress", "JSON"), Attribute("homeAddresses.city", "VARCHAR"))
    snapshot = replace(snapshot_of(), attributes=attributes)
    with pytest.raises(InvalidRequest) as refused:
        plan_export(request_of(fields="homeAddress.city"), snapshot, TIMESTAMP_ORDERED)
    (problem,) = refused.value.problems
    assert "'homeAddress' is one value, a map or of mixed types" in problem.message


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ("identities", ("id", "namespace")),
        ("identities.id", ("id",)),
        ("identities.namespace,identities.id", ("id", "namespace")),
        ("tags", ()),
    ],
)
def test_identities_are_asked_for_by_their_parts(fields: str, parts: tuple[str, ...]) -> None:
    assert (
        plan_export(request_of(fields=fields), snapshot_of(), TIMESTAMP_ORDERED).identities == parts
    )


def test_attributes_nest_as_their_paths_do() -> None:
    plan = plan_export(request_of(fields="person,tags"), snapshot_of(), TIMESTAMP_ORDERED)
    first, last, tags = plan.attributes
    assert plan.tree == {"person": {"name": {"firstName": first, "lastName": last}}, "tags": tags}


@pytest.mark.parametrize(
    ("persons", "buckets", "pieces"),
    [
        (100, 1, 1),
        (100, 3, 3),
        (100, 8, 4),
        (1_000_000, 16, 16),  # everyone: a piece has a bucket's 62 500
        (300_000, 16, 5),
        (100, 1024, 64),
    ],
)
def test_pieces_select_neither_too_little_nor_too_much(
    persons: int, buckets: int, pieces: int
) -> None:
    snapshot = snapshot_of(persons=persons, buckets=buckets)
    assert plan_export(request_of(), snapshot, TIMESTAMP_ORDERED).pieces == pieces


@given(st.integers(1, 200), st.data())
def test_pieces_cover_every_bucket_once_and_in_order(buckets: int, data: st.DataObject) -> None:
    pieces = data.draw(st.integers(1, buckets))
    plan = plan_export(request_of(), snapshot_of(buckets=buckets), TIMESTAMP_ORDERED, pieces=pieces)
    covered = [list(plan.buckets(piece)) for piece in range(plan.pieces)]
    assert [bucket for piece in covered for bucket in piece] == list(range(buckets))
    assert all(covered)


def test_realized_covers_existing_members_too() -> None:
    wanted = segments(("ups", "gold", ["existing", "realized"]), ("AAM", "10300", ["exited"]))
    plan = plan_export(request_of(filter=wanted), snapshot_of(), TIMESTAMP_ORDERED)
    assert [segment.standings for segment in plan.segments] == [
        ("existing", "realized"),
        ("exited",),
    ]


def test_a_journey_is_what_profiles_are_judged_by() -> None:
    journey = {"versionId": "v1", "namespace": "Email", "testMode": True}
    plan = plan_export(request_of(journey=journey), snapshot_of(), TIMESTAMP_ORDERED)
    assert plan.delivery == Delivery("Email", test_mode=True)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([], 100),
        ([("ups", "gold", ["realized"])], 40),
        ([("ups", "gold", ["existing"])], 30),
        ([("ups", "gold", ["realized", "existing"])], 40),
        ([("ups", "gold", ["exited", "realized"])], 45),
        ([("ups", "gold", ["realized"]), ("AAM", "10300", ["realized"])], 100),
    ],
)
def test_the_upper_bound_follows_from_the_sizes_of_the_segments(
    wanted: list[tuple[str, str, list[str]]], expected: int
) -> None:
    request = request_of(filter=segments(*wanted))
    assert upper_bound(request, snapshot_of()) == expected


@pytest.mark.parametrize(
    ("document", "path", "words"),
    [
        (
            {"filter": segments(("ups", "golf", ["realized"]))},
            "filter.segments.0.segmentId",
            "did you mean 'gold'?",
        ),
        (
            {"filter": segments(("ups", "gold", ["realized"]), ("ups", "10300", ["realized"]))},
            "filter.segments.1.segmentId",
            "known in namespace 'AAM'",
        ),
        (
            {"filter": segments(("zz", "qqq", ["realized"]))},
            "filter.segments.0.segmentId",
            "segexport profiles show",
        ),
        ({"fields": "person.nam"}, "fields", "did you mean 'person.name"),
        ({"fields": "person.name.last"}, "fields", "person.name.last"),
        ({"fields": "identities.xid"}, "fields", "did you mean 'identities.id'"),
        ({"fields": "segmentMembership.ups"}, "fields", "segmentMembership"),
        ({"fields": "0"}, "fields", "dotted path"),
    ],
)
def test_what_the_snapshot_does_not_have_is_named_with_a_hint(
    document: dict[str, Any], path: str, words: str
) -> None:
    (problem,) = check_request(request_of(**document), snapshot_of(), Catalogue())
    assert problem.path == path
    assert words in problem.message
    with pytest.raises(InvalidRequest):
        plan_export(request_of(**document), snapshot_of(), TIMESTAMP_ORDERED)


def test_every_problem_is_named_at_once() -> None:
    request = request_of(fields="nope,person,neither", filter=segments(("ups", "x", ["realized"])))
    paths = [problem.path for problem in check_request(request, snapshot_of(), Catalogue())]
    assert paths == ["filter.segments.0.segmentId", "fields", "fields"]


@pytest.mark.parametrize(
    ("path", "fields", "words"),
    [
        ("IdentityMap", "", "differ only in case"),
        ("IDENTITYMAP.x", "IDENTITYMAP,identityMap", "differ only in case"),
        ("segmentmembership", "segmentmembership,segmentMembership", "differ only in case"),
        ("identities", "identities", "cannot be both"),
        ("identities.id", "identities.id", "cannot be both"),
    ],
)
def test_attributes_that_are_called_like_what_stands_beside_them_are_refused(
    path: str, fields: str, words: str
) -> None:
    (problem,) = check_request(
        request_of(fields=fields), snapshot_of("loyalty.tier", path), Catalogue()
    )
    assert words in problem.message
    alone = "loyalty" if "cannot" in words else path
    assert not check_request(
        request_of(fields=alone), snapshot_of("loyalty.tier", path), Catalogue()
    )


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (("person.name", "Person.name"), "differ only in case"),
        (("a.b", "a.B"), "differ only in case"),
        (("a", "a.b"), "lies below"),
        (("A", "a.b"), "differ only in case"),
    ],
)
def test_attributes_that_cannot_lie_in_one_table_are_refused(
    paths: tuple[str, ...], words: str
) -> None:
    problems = check_request(request_of(), snapshot_of(*paths), Catalogue())
    assert any(words in problem.message for problem in problems)
    assert not check_request(request_of(fields=paths[1]), snapshot_of(*paths), Catalogue())


@pytest.mark.parametrize(
    ("asked", "segments", "expected"),
    [
        (None, {}, TIMESTAMP_ORDERED),
        (None, {"other": CRM_FIRST}, TIMESTAMP_ORDERED),
        (None, {"gold": CRM_FIRST}, CRM_FIRST),
        (None, {"gold": CRM_FIRST, "silver": CRM_FIRST}, CRM_FIRST),
        ({"id": "crm-first"}, {}, WEB_FIRST),
        ({"id": "crm-first", "version": 1}, {"gold": WEB_FIRST}, CRM_FIRST),
        ({"id": "none-none-mp"}, {"gold": CRM_FIRST, "silver": WEB_FIRST}, BUILT_IN[1]),
    ],
)
def test_a_merge_policy_is_the_requests_else_that_of_the_segments_else_the_latest_value(
    asked: dict[str, Any] | None, segments: dict[str, PolicyDefinition], expected: PolicyDefinition
) -> None:
    filtered = {"segments": [{"segmentId": "gold"}, {"segmentId": "silver"}]}
    request = request_of(filter=filtered, mergePolicy=asked)
    assert resolve_policy(request, catalogue_of(**segments)) == expected


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"id": "unheard-of"}, ["no merge policy 'unheard-of'", "crm-first"]),
        ({"id": "crm-first", "version": 7}, ["no version 7", "1 to 2"]),
        (None, ["ups:gold", "ups:silver", "crm-first version 1", "crm-first version 2"]),
    ],
)
def test_a_merge_policy_that_is_unknown_or_undecided_is_a_problem_of_its_own(
    asked: dict[str, Any] | None, words: list[str]
) -> None:
    filtered = {"segments": [{"segmentId": "gold"}, {"segmentId": "silver"}]}
    request = request_of(filter=filtered, mergePolicy=asked, evaluationInfo=EVALUATE)
    catalogue = catalogue_of(gold=CRM_FIRST, silver=WEB_FIRST)
    (problem,) = check_request(request, snapshot_of(), catalogue)
    assert problem.path == "mergePolicy"
    assert all(word in problem.message for word in words)


def test_segments_that_are_to_be_evaluated_need_a_definition_and_no_snapshot() -> None:
    wanted = {"segments": [{"segmentId": "new"}, {"segmentId": "gold"}, {"segmentId": "bronz"}]}
    request = request_of(filter=wanted, evaluationInfo=EVALUATE)
    catalogue = catalogue_of(new=CRM_FIRST, bronze=CRM_FIRST)
    gold, bronze = check_request(request, snapshot_of(), catalogue)
    assert (gold.path, bronze.path) == (
        "filter.segments.1.segmentId",
        "filter.segments.2.segmentId",
    )
    assert "segexport segments define" in gold.message
    assert "did you mean 'bronze'?" in bronze.message


def test_an_evaluation_of_everything_needs_something_that_is_defined() -> None:
    request = request_of(evaluationInfo=EVALUATE)
    (problem,) = check_request(request, snapshot_of(), catalogue_of())
    assert problem.path == "evaluationInfo.segmentation"
    assert not check_request(request, snapshot_of(), catalogue_of(new=CRM_FIRST))


def test_a_segment_that_was_never_evaluated_is_told_from_an_unknown_one() -> None:
    request = request_of(filter={"segments": [{"segmentId": "new"}]})
    (problem,) = check_request(request, snapshot_of(), catalogue_of(new=CRM_FIRST))
    assert problem.path == "filter.segments.0.segmentId"
    assert "set evaluationInfo.segmentation" in problem.message


def test_a_segment_is_planned_once_it_is_evaluated_even_if_nobody_is_in_it() -> None:
    wanted = {"segments": [{"segmentId": "new"}]}
    request = request_of(filter=wanted, evaluationInfo=EVALUATE)
    with pytest.raises(InvalidRequest):
        plan_export(request, snapshot_of(), TIMESTAMP_ORDERED)
    evaluated = replace(snapshot_of(), evaluated_for=7)
    assert plan_export(request, evaluated, TIMESTAMP_ORDERED).segments[0].segment == "new"
    assert upper_bound(request, snapshot_of()) == 100
    assert upper_bound(request, evaluated) == 0


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, 90),
        ({"filter": {"emptyProfiles": True}}, 100),
        ({"filter": segments(("ups", "gold", ["realized"]), ("AAM", "10300", ["realized"]))}, 90),
    ],
)
def test_the_upper_bound_leaves_empty_profiles_out_unless_they_are_asked_for(
    document: dict[str, Any], expected: int
) -> None:
    assert upper_bound(request_of(**document), replace(snapshot_of(), empty=10)) == expected


def test_the_upper_bound_of_a_batch_for_each_segment_counts_a_profile_for_each() -> None:
    wanted = segments(("ups", "gold", ["realized"]), ("AAM", "10300", ["realized"]))
    request = request_of(filter=wanted, destination={"datasetId": "d", "segmentPerBatch": True})
    assert upper_bound(request, snapshot_of()) == 120
    plan = plan_export(request, snapshot_of(), TIMESTAMP_ORDERED)
    assert plan.batches == 2


EARLY, LATE = "2018-01-01T00:00:00Z", "2018-02-01T00:00:00Z"
EARLY_MOMENT, LATE_MOMENT = datetime(2018, 1, 1, tzinfo=UTC), datetime(2018, 2, 1, tzinfo=UTC)


def test_times_of_a_request_become_those_of_the_plan() -> None:
    wanted = segments(("ups", "gold", ["realized"])) | {
        "segmentQualificationTime": {"startTime": EARLY, "endTime": LATE},
        "fromIngestTimestamp": LATE,
        "emptyProfiles": True,
    }
    plan = plan_export(request_of(filter=wanted), snapshot_of(), TIMESTAMP_ORDERED)
    assert plan.qualified == Window(EARLY_MOMENT, LATE_MOMENT)
    assert plan.ingested_after == LATE_MOMENT
    assert plan.empty_profiles
    assert plan.events is None


@pytest.mark.parametrize(
    ("profiles", "events", "after"),
    [
        (None, None, None),
        (EARLY, None, EARLY_MOMENT),
        (None, EARLY, EARLY_MOMENT),
        (EARLY, LATE, LATE_MOMENT),
        (LATE, EARLY, LATE_MOMENT),
    ],
)
def test_events_are_later_than_either_time_of_ingestion(
    profiles: str | None, events: str | None, after: datetime | None
) -> None:
    request = request_of(
        filter={"fromIngestTimestamp": profiles},
        additionalFields={
            "eventList": {"fields": "web", "filter": {"fromIngestTimestamp": events}}
        },
    )
    plan = plan_export(request, snapshot_of(), TIMESTAMP_ORDERED)
    web = tuple(Attribute(path, "VARCHAR") for path in EVENT_PATHS[2:])
    assert plan.events == NestedEvents(web, after=after)


def test_a_store_without_events_exports_empty_lists_of_them() -> None:
    request = request_of(additionalFields={"eventList": {}})
    snapshot = replace(snapshot_of(), event_attributes=())
    plan = plan_export(request, snapshot, TIMESTAMP_ORDERED)
    assert plan.events is not None
    assert [attribute.path for attribute in plan.events.attributes] == ["_id", "timestamp"]


def test_a_field_that_events_do_not_have_is_named_with_a_hint() -> None:
    request = request_of(additionalFields={"eventList": {"fields": "web,web.veiws"}})
    (problem,) = check_request(request, snapshot_of(), Catalogue())
    assert problem.path == "additionalFields.eventList.fields"
    assert "did you mean 'web.views'?" in problem.message


@pytest.mark.parametrize(
    ("field", "words"), [("person_id", "first column"), ("eventList", "additionalFields")]
)
def test_what_has_its_own_word_is_no_field_and_says_so(field: str, words: str) -> None:
    (problem,) = check_request(request_of(fields=field), snapshot_of(), Catalogue())
    assert words in problem.message


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("Person_ID", "differ only in case"),
        ("eventList.x", "cannot be both"),
        ("EVENTLIST", "differ only in case"),
    ],
)
def test_attributes_called_like_the_person_id_or_the_events_are_refused(
    path: str, words: str
) -> None:
    request = request_of(additionalFields={"eventList": {}})
    (problem,) = check_request(request, snapshot_of("loyalty.tier", path), Catalogue())
    assert problem.path == "fields"
    assert words in problem.message
    without = request_of(fields="loyalty", additionalFields={"eventList": {}})
    assert not check_request(without, snapshot_of("loyalty.tier", path), Catalogue())


def test_the_keys_of_live_instances_belong_to_what_a_journey_demands() -> None:
    request = request_of(journey={"versionId": "v1", "namespace": "Email"})
    live = Path("/nowhere/live.parquet")
    plan = plan_export(request, snapshot_of(), TIMESTAMP_ORDERED, instances=live)
    assert plan.delivery == Delivery("Email", test_mode=False, instances=live)
