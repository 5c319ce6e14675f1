"""What a request means against a snapshot, and what is wrong with it."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segexport.errors import InvalidRequest
from segexport.exports.plan import Delivery, check_request, plan_export, upper_bound
from segexport.jobs.request import ExportRequest, parse_request
from segexport.profiles.snapshots import Attribute, SegmentSize, Snapshot
from support.people import NOW

PATHS = ("homeAddress.city", "person.name.firstName", "person.name.lastName", "tags")


def snapshot_of(*paths: str, persons: int = 100, buckets: int = 3) -> Snapshot:
    return Snapshot(
        id="00000001-20260301T120000Z",
        folder=Path("/nowhere"),
        created_at=NOW,
        buckets=buckets,
        persons=persons,
        fragments=persons,
        attributes=tuple(Attribute(path, "VARCHAR") for path in paths or PATHS),
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
    plan = plan_export(request_of(), snapshot_of())
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
    plan = plan_export(request_of(fields=fields), snapshot_of())
    assert [attribute.path for attribute in plan.attributes] == expected
    assert plan.identity_map == ("identityMap" in fields)


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
    assert plan_export(request_of(fields=fields), snapshot_of()).identities == parts


def test_attributes_nest_as_their_paths_do() -> None:
    plan = plan_export(request_of(fields="person,tags"), snapshot_of())
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
    assert plan_export(request_of(), snapshot).pieces == pieces


@given(st.integers(1, 200), st.data())
def test_pieces_cover_every_bucket_once_and_in_order(buckets: int, data: st.DataObject) -> None:
    pieces = data.draw(st.integers(1, buckets))
    plan = plan_export(request_of(), snapshot_of(buckets=buckets), pieces=pieces)
    covered = [list(plan.buckets(piece)) for piece in range(plan.pieces)]
    assert [bucket for piece in covered for bucket in piece] == list(range(buckets))
    assert all(covered)


def test_realized_covers_existing_members_too() -> None:
    wanted = segments(("ups", "gold", ["existing", "realized"]), ("AAM", "10300", ["exited"]))
    plan = plan_export(request_of(filter=wanted), snapshot_of())
    assert [segment.standings for segment in plan.segments] == [
        ("existing", "realized"),
        ("exited",),
    ]


def test_a_journey_is_what_profiles_are_judged_by() -> None:
    journey = {"versionId": "v1", "namespace": "Email", "testMode": True}
    plan = plan_export(request_of(journey=journey), snapshot_of())
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
    (problem,) = check_request(request_of(**document), snapshot_of())
    assert problem.path == path
    assert words in problem.message
    with pytest.raises(InvalidRequest):
        plan_export(request_of(**document), snapshot_of())


def test_every_problem_is_named_at_once() -> None:
    request = request_of(fields="nope,person,neither", filter=segments(("ups", "x", ["realized"])))
    paths = [problem.path for problem in check_request(request, snapshot_of())]
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
    (problem,) = check_request(request_of(fields=fields), snapshot_of("loyalty.tier", path))
    assert words in problem.message
    alone = "loyalty" if "cannot" in words else path
    assert not check_request(request_of(fields=alone), snapshot_of("loyalty.tier", path))


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
    problems = check_request(request_of(), snapshot_of(*paths))
    assert any(words in problem.message for problem in problems)
    assert not check_request(request_of(fields=paths[1]), snapshot_of(*paths))
