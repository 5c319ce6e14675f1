"""An export done slowly and obviously in Python: what engines are compared with."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segexport.jobs.request import ExportRequest
from support.people import ATTRIBUTES, Person

Discard = tuple[str | None, str | None, int, str]
"""(segment namespace, segment, person id, code)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an export should come to. `profiles` and `discards` by person id."""

    profiles: Sequence[Mapping[str, Any]]
    discards: Sequence[Discard]
    namespaces: Mapping[str, int]


def plain_export(request: ExportRequest, people: Sequence[Person]) -> Outcome:
    """Export `people` as the request says. Knows the attributes of `support.people`."""
    selected = [
        (person, segment)
        for person in sorted(people, key=lambda person: person.id)
        for segment in [selecting_segment(request, person)]
        if segment is not None
    ]
    codes = judge(request, [person for person, _ in selected])
    delivered = [person for person, _ in selected if codes[person.id] is None]
    return Outcome(
        profiles=[profile(request, person) for person in delivered],
        discards=[
            (*segment, person.id, code)
            for person, segment in selected
            if (code := codes[person.id]) is not None
        ],
        namespaces=Counter(ns for person in delivered for ns in person.identities or {}),
    )


def selecting_segment(
    request: ExportRequest, person: Person
) -> tuple[str | None, str | None] | None:
    """The first segment of the request that the person stands in as asked."""
    if not request.filter.segments:
        return (None, None)
    for wanted in request.filter.segments:
        standing = person.memberships.get((wanted.segment_ns, wanted.segment_id))
        for status in wanted.status:
            if standing == status or (status == "realized" and standing == "existing"):
                return (wanted.segment_ns, wanted.segment_id)
    return None


def judge(request: ExportRequest, selected: Sequence[Person]) -> Mapping[int, str | None]:
    """Why each selected person cannot be delivered, None where it can."""
    journey = request.journey
    if journey is None:
        return {person.id: None for person in selected}
    codes: dict[int, str | None] = {}
    taken = set()
    for person in sorted(selected, key=lambda person: person.id):
        key = key_of(person, journey.namespace)
        if not person.identities:
            codes[person.id] = "ERROR_INSTANCE_NO_IDENTITY_MAP"
        elif key is None:
            codes[person.id] = "ERROR_INSTANCE_BAD_NAMESPACE"
        elif journey.test_mode and not person.test:
            codes[person.id] = "ERROR_INSTANCE_NOT_A_TEST_PROFILE"
        elif key in taken:
            codes[person.id] = "ERROR_INSTANCE_DUPLICATION"
        else:
            taken.add(key)
            codes[person.id] = None
    return codes


def key_of(person: Person, namespace: str) -> str | None:
    """The person's key in a journey's namespace: the primary identity, else the first by id."""
    named = [one for one in (person.identities or {}).get(namespace, ()) if one.id]
    primary = [one for one in named if one.primary]
    ids = sorted(one.id for one in primary or named)
    return ids[0] if ids else None


def profile(request: ExportRequest, person: Person) -> Mapping[str, Any]:
    """The exported profile: the latest value of each attribute, nested, and what else is asked."""
    paths = request.field_paths
    exported: dict[str, Any] = {"person_id": person.id}
    for attribute in ATTRIBUTES:
        path = attribute.path
        if paths and not any(path == asked or path.startswith(asked + ".") for asked in paths):
            continue
        values = [f[path] for f in person.fragments if f.get(path) is not None]
        *parents, leaf = path.split(".")
        place = exported
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = values[-1] if values else None
    identities = person.identities
    if not paths or "identityMap" in paths:
        exported["identityMap"] = identities and {
            namespace: [{"id": one.id, "primary": one.primary} for one in ones]
            for namespace, ones in identities.items()
        }
    parts = [
        part for part in ("id", "namespace") if {"identities", f"identities.{part}"} & set(paths)
    ]
    if parts:
        exported["identities"] = (
            None
            if identities is None
            else [
                {part: {"id": one.id, "namespace": namespace}[part] for part in parts}
                for namespace, ones in identities.items()
                for one in ones
            ]
        )
    if "segmentMembership" in paths:
        nested: dict[str, dict[str, str]] = {}
        for (namespace, segment), standing in person.memberships.items():
            nested.setdefault(namespace, {})[segment] = standing
        exported["segmentMembership"] = nested or None
    return exported
