"""What is said of people does not depend on the types that somebody else's values have."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
from hypothesis import given, settings
from hypothesis import strategies as st

from segexport.exports.engines.duckdb import DuckDBEngine
from segexport.exports.plan import plan_export
from segexport.jobs.reading import parse_request
from segexport.profiles.catalogue import BUILT_IN, PolicyDefinition
from segexport.profiles.definitions import define_segment
from segexport.profiles.evaluation import evaluate
from segexport.profiles.snapshots import ProfileStore, Snapshot
from segexport.sql import parquet
from support.endpoints import APPLICATION, read_endpoints
from support.examples import examples
from support.fragments import NOW, RESOURCES, Document, load_records

ODD: Final = "odd@example.com"
VALUES: Final[Mapping[str, Sequence[Any]]] = {
    **{
        f"consents.marketing.{name}.val": ("y", "n", "dn", "u")
        for name in ("any", "email", "push", "sms")
    },
    "homeAddress.city": ("Bern", "Lyon"),
    "homeAddress.postalCode": ("3011", "0012"),
    "homeAddress.state": ("BE",),
    "homeAddress.stateProvince": ("CH-BE", "CH-ZH"),
    "loyalty.active": (True, False),
    "loyalty.points": (1, 5, 2**53 + 1),
    "loyalty.scores": ([1, 2], [], [3]),
    "loyalty.share": (0.25, 1.5),
    "loyalty.tags": (["a"], [], ["a", "b"]),
    "preferredLanguage": ("de-CH", "en-GB"),
    "timeZone": ("Europe/Zurich",),
}
"""Attributes, with values of the one type that each has."""
PARENTS: Final = ("consents", "consents.marketing", "consents.marketing.email", "homeAddress")
PREDICATES: Final = (
    "consents.marketing.email.val IN ('n', 'dn')",
    "NOT (consents.marketing.any.val = 'y')",
    "homeAddress.city LIKE 'B%'",
    "homeAddress.stateProvince IS NULL",
    "upper(preferredLanguage) >= 'E'",
    "coalesce(loyalty.active, FALSE)",
    "loyalty.active IS NOT TRUE",
    "loyalty.points = 9007199254740993 OR loyalty.points < 5",
    "loyalty.points / 2 > loyalty.share",
    "contains(loyalty.scores, 2)",
    "contains(loyalty.tags, 'b') OR length(loyalty.tags) = 1",
)
PEOPLE: Final = st.lists(
    st.lists(
        st.dictionaries(st.sampled_from(sorted(VALUES)), st.integers(0, 3), max_size=9),
        min_size=1,
        max_size=3,
    ),
    min_size=1,
    max_size=4,
)
"""The fragments of people: by their paths, which of the values stand there."""
STRANGE: Final = st.sampled_from(
    ["odd", 7, 1.5, True, ["x"], [7], ["x", 7], [{"x": "y"}], {"x": "y"}]
)


@dataclass(frozen=True)
class Told:
    """What is told of everybody but the odd one, without what is null or empty."""

    endpoints: Sequence[Mapping[str, Any]]
    profiles: Sequence[Mapping[str, Any]]
    members: Mapping[str, Sequence[str]]


@given(
    people=PEOPLE,
    path=st.sampled_from(sorted(VALUES)),
    strange=STRANGE,
    policy=st.sampled_from(BUILT_IN),
    later=st.booleans(),
)
@settings(max_examples=examples(8), deadline=None)
def test_one_odd_value_changes_nothing_for_anybody_else(
    people: Sequence[Sequence[Mapping[str, int]]],
    path: str,
    strange: Any,
    policy: PolicyDefinition,
    *,
    later: bool,
) -> None:
    plain, mixed = told_without_and_with(odd_one(path, strange), people, policy, later=later)
    assert mixed == plain


@given(
    people=PEOPLE,
    path=st.sampled_from(PARENTS),
    strange=st.just({"a.b": 1}) | STRANGE.filter(lambda value: not isinstance(value, dict)),
    policy=st.sampled_from(BUILT_IN),
    later=st.booleans(),
)
@settings(max_examples=examples(8), deadline=None)
def test_one_odd_value_above_others_changes_no_consent_address_or_segment(
    people: Sequence[Sequence[Mapping[str, int]]],
    path: str,
    strange: Any,
    policy: PolicyDefinition,
    *,
    later: bool,
) -> None:
    """In profiles, what lies below becomes one attribute of type JSON."""
    plain, mixed = told_without_and_with(odd_one(path, strange), people, policy, later=later)
    assert mixed.members == plain.members
    assert known(mixed.endpoints) == known(plain.endpoints)


def test_the_odd_value_is_no_consent(tmp_path: Path) -> None:
    everybody = [*documents([[{}]]), odd_one("consents.marketing.email.val", True)]
    store = tmp_path / "profiles"
    load_records(store, everybody)
    endpoints, unknown = endpoints_of(ProfileStore(store).latest(), BUILT_IN[0], tmp_path)
    assert [one["OptOut"] for one in endpoints if one["Address"] == ODD] == ["ALL"]
    assert unknown == 1


def documents(people: Sequence[Sequence[Mapping[str, int]]]) -> list[Document]:
    """The fragments, and one of somebody who has every attribute, so that all are known."""
    everything = dict.fromkeys(VALUES, 0)
    return [
        {
            "personID": f"person {number}",
            "updatedAt": f"2026-01-0{day}T00:00:00Z",
            "identityMap": {
                name: [{"id": f"{name} of {number}"}] for name in ("Email", "Phone", "APNS")
            },
            **nested({path: VALUES[path][at % len(VALUES[path])] for path, at in one.items()}),
        }
        for number, fragments in enumerate([[everything], *people])
        for day, one in enumerate(fragments, start=1)
    ]


def odd_one(path: str, value: Any) -> Document:
    return {
        "personID": "odd",
        "updatedAt": "2026-01-01T00:00:00Z",
        "identityMap": {"Email": [{"id": ODD}]},
        **nested({path: value}),
    }


def nested(values: Mapping[str, Any]) -> Document:
    document: Document = {}
    for path, value in values.items():
        *above, name = path.split(".")
        inner = document
        for step in above:
            inner = inner.setdefault(step, {})
        inner[name] = value
    return document


def told_without_and_with(
    odd: Document,
    people: Sequence[Sequence[Mapping[str, int]]],
    policy: PolicyDefinition,
    *,
    later: bool,
) -> tuple[Told, Told]:
    """What is told of people who are usual, without the odd one, and with it beside them."""
    usual = documents(people)
    return told([usual], policy), told([usual, [odd]] if later else [[odd, *usual]], policy)


def told(loads: Sequence[Sequence[Document]], policy: PolicyDefinition) -> Told:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        store = folder / "profiles"
        for load in loads:
            assert load_records(store, load).accepted == len(load)
        definitions = [
            define_segment(store, f"s{number}", text, policy=policy.id)
            for number, text in enumerate(PREDICATES)
        ]
        snapshot = evaluate(store, definitions, now=NOW, resources=RESOURCES)
        endpoints, _ = endpoints_of(snapshot, policy, folder)
        lines = [json.loads(line) for line in (folder / "data").read_text().splitlines()]
        profiles = [one for one in lines if ODD not in str(one["identityMap"])]
        return Told(
            endpoints=sorted(
                (one for one in endpoints if one["Address"] != ODD), key=lambda one: one["Address"]
            ),
            profiles=sorted(map(without_nothing, profiles), key=lambda one: one["person_id"]),
            members=members_of(snapshot),
        )


def endpoints_of(
    snapshot: Snapshot, policy: PolicyDefinition, folder: Path
) -> tuple[Sequence[Mapping[str, Any]], int]:
    """The endpoints of everybody, and how many have a consent that is unknown.

    The profiles are left in `data`.
    """
    request = parse_request(
        {
            "destination": {"datasetId": "d", "format": "ndjson"},
            "pinpoint": {
                "applicationId": APPLICATION,
                "roleArn": "arn:aws:iam::111122223333:role/export",
                "s3UrlPrefix": "s3://bucket/",
            },
        }
    )
    engine = DuckDBEngine(spill=folder / "spill", threads=2, memory_limit="512MB")
    run = engine.begin(plan_export(request, snapshot, policy, pieces=1))
    try:
        run.run_piece(0, data=[folder / "data"], discards=folder / "discards")
        written = run.write_endpoints(folder / "data", folder / "endpoints")
    finally:
        run.close()
        engine.close()
    found, _ = read_endpoints((folder / "endpoints").read_bytes())
    return found, written.unknown_consents


def members_of(snapshot: Snapshot) -> Mapping[str, Sequence[str]]:
    """Who is in each segment, by the keys of the persons."""
    found: dict[str, list[str]] = {}
    with duckdb.connect() as database:
        for bucket in range(snapshot.buckets):
            rows = database.execute(
                "SELECT segment, person_key "
                f"FROM {parquet([snapshot.memberships_file(bucket)])} "
                f"JOIN {parquet([snapshot.persons_file(bucket)])} USING (person_id) "
                "WHERE person_key <> 'odd' ORDER BY segment, person_key"
            ).fetchall()
            for segment, person in rows:
                found.setdefault(segment, []).append(person)
    return {segment: sorted(persons) for segment, persons in found.items()}


def known(endpoints: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Endpoints without what is told of all attributes alike."""
    return [
        {name: value for name, value in one.items() if name not in {"Metrics", "User"}}
        for one in endpoints
    ]


def without_nothing(value: Any) -> Any:
    """A value without members that are null or empty, at whatever depth."""
    if not isinstance(value, dict):
        return value
    kept = {name: without_nothing(below) for name, below in value.items()}
    return {name: below for name, below in kept.items() if below not in (None, {})}
