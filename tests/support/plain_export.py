"""An export done slowly and obviously in Python: what engines are compared with."""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from segexport.jobs.request import ExportRequest, FileFormat
from segexport.profiles.catalogue import TIMESTAMP_ORDERED, Merging, PolicyDefinition
from segexport.profiles.snapshots import Attribute
from support.people import ATTRIBUTES, EVENT_ATTRIBUTES, Event, Fragment, Person

Discard = tuple[str | None, str | None, int, str]
"""(segment namespace, segment, person id, code)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a batch should hold: its profiles, and how many of them have each namespace."""

    profiles: Sequence[Mapping[str, Any]]
    namespaces: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an export should come to. Discards are by person id, then by segment."""

    batches: Sequence[Batch]
    discards: Sequence[Discard]

    @property
    def profiles(self) -> Sequence[Mapping[str, Any]]:
        """The profiles of the only batch."""
        (batch,) = self.batches
        return batch.profiles


def plain_export(
    request: ExportRequest,
    people: Sequence[Person],
    policy: PolicyDefinition = TIMESTAMP_ORDERED,
    live: Collection[str] = (),
) -> Outcome:
    """Export `people` as the request says. Knows the attributes of `support.people`.

    `live` are the keys that are in the journey already.
    """
    in_order = sorted(people, key=lambda person: person.id)
    positions = {person.id: selecting(request, person) for person in in_order}
    selected = [person for person in in_order if positions[person.id]]
    codes = judge(request, selected, live)
    per_batch = request.destination.segment_per_batch
    batches = []
    for batch in range(len(request.filter.segments) if per_batch else 1):
        delivered = [
            person
            for person in selected
            if codes[person.id] is None and (not per_batch or batch in positions[person.id])
        ]
        batches.append(
            Batch(
                [profile(request, person, policy) for person in delivered],
                Counter(ns for person in delivered for ns in person.identities or {}),
            )
        )
    discards = [
        (*named(request, position), person.id, code)
        for person in selected
        for position in (positions[person.id] if per_batch else positions[person.id][:1])
        if (code := codes[person.id]) is not None
    ]
    return Outcome(batches, discards)


def selecting(request: ExportRequest, person: Person) -> Sequence[int | None]:
    """The positions of the segments that select the person; None for everyone."""
    since = request.filter.from_ingest_timestamp
    if not person.has_record and not request.filter.empty_profiles:
        return []
    if since is not None and not person.ingested > since:
        return []
    if not request.filter.segments:
        return [None]
    when = request.filter.segment_qualification_time
    found = []
    for position, wanted in enumerate(request.filter.segments):
        standing = person.standings.get((wanted.segment_ns, wanted.segment_id))
        if standing is None:
            continue
        if when and when.start_time and standing.qualified < when.start_time:
            continue
        if when and when.end_time and standing.qualified >= when.end_time:
            continue
        asked = {status.value for status in wanted.status}
        if standing.status in asked or (standing.status == "existing" and "realized" in asked):
            found.append(position)
    return found


def named(request: ExportRequest, position: int | None) -> tuple[str | None, str | None]:
    """The namespace and the id of the segment at a position."""
    if position is None:
        return (None, None)
    segment = request.filter.segments[position]
    return (segment.segment_ns, segment.segment_id)


def judge(
    request: ExportRequest, selected: Sequence[Person], live: Collection[str]
) -> Mapping[int, str | None]:
    """Why each selected person, by id, cannot be delivered, None where it can."""
    journey = request.journey
    if journey is None:
        return {person.id: None for person in selected}
    codes: dict[int, str | None] = {}
    taken = set(live)
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


def merged(policy: PolicyDefinition, fragments: Sequence[Fragment], path: str) -> Any:
    """The value of an attribute that the policy lets win, of fragments from old to new."""
    if policy.merging is Merging.NONE:
        return fragments[-1].values.get(path) if fragments else None
    if policy.merging is Merging.DATASET_PRECEDENCE:
        others = [one for one in fragments if one.dataset not in policy.datasets]
        tiers = [[one for one in fragments if one.dataset == name] for name in policy.datasets]
        tiers.append(others)
    else:
        tiers = [list(fragments)]
    for tier in tiers:
        values = [one.values[path] for one in tier if one.values.get(path) is not None]
        if values:
            return values[-1]
    return None


def nested(
    paths: Sequence[str], attributes: Sequence[Attribute], values: Mapping[str, Any]
) -> dict[str, Any]:
    """The values of the attributes that the paths ask for, nested by the dots of their names."""
    found: dict[str, Any] = {}
    for attribute in attributes:
        path = attribute.path
        if paths and not any(path == asked or path.startswith(asked + ".") for asked in paths):
            continue
        *parents, leaf = path.split(".")
        place = found
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = values.get(path)
    return found


def profile(request: ExportRequest, person: Person, policy: PolicyDefinition) -> Mapping[str, Any]:
    """The exported profile: what merging makes of each attribute, and what else is asked."""
    paths = request.field_paths
    values = {one.path: merged(policy, person.known, one.path) for one in ATTRIBUTES}
    exported = {"person_id": person.id, **nested(paths, ATTRIBUTES, values)}
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
        standings: dict[str, dict[str, Any]] = {}
        for (namespace, segment), standing in person.standings.items():
            standings.setdefault(namespace, {})[segment] = {
                "status": standing.status,
                "lastQualificationTime": standing.qualified.astimezone(UTC).replace(tzinfo=None),
            }
        exported["segmentMembership"] = standings or None
    asked = request.additional_fields.event_list
    if asked:
        exported["eventList"] = [
            nested(asked.field_paths, EVENT_ATTRIBUTES, event.values)
            for event in person.happened
            if is_asked(request, event)
        ]
    plain = request.destination.format is FileFormat.PARQUET
    return exported if plain else as_json(exported | {"person_id": str(person.id)})


def is_asked(request: ExportRequest, event: Event) -> bool:
    """Whether an event was ingested when the request wants it to have been."""
    asked = request.additional_fields.event_list
    assert asked is not None
    for after in (request.filter.from_ingest_timestamp, asked.filter.from_ingest_timestamp):
        if after is not None and not event.ingested > after:
            return False
    before = asked.filter.to_ingest_timestamp
    return before is None or event.ingested < before


def as_json(value: Any) -> Any:
    """A value as JSON has it: times are strings, and what is no finite number is null."""
    if isinstance(value, datetime):
        return f"{value.isoformat(timespec='microseconds')}Z"
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: as_json(below) for key, below in value.items()}
    return [as_json(below) for below in value] if isinstance(value, list) else value
