"""What is defined beside the profiles: merge policies and segments.

    <store>/catalogue.json

A definition never changes: defining an id again makes its next version, so that a job that
names a version means the same for ever.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import orjson

from segexport.errors import (
    ProfileStoreCorrupt,
    ProfileStoreError,
    UnknownPolicy,
    UnknownSegment,
)
from segexport.faults import explaining
from segexport.validation import repeated_name, shown

CATALOGUE: Final = "catalogue.json"
FORMAT: Final = 1
"""The form of the file that this version writes and reads."""


class Merging(StrEnum):
    """Which fragment's value an attribute of the merged profile takes."""

    TIMESTAMP_ORDERED = "timestampOrdered"  # the latest that is not null
    DATASET_PRECEDENCE = "dataSetPrecedence"  # by the order of datasets, then the latest
    NONE = "none"  # the latest fragment stands alone, with its nulls


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDefinition:
    """One version of a merge policy.

    `datasets` is the order of precedence: fragments of the first come before those of the
    second, and so on; those of datasets that are not named come last.
    """

    id: str
    version: int
    merging: Merging
    datasets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentDefinition:
    """One version of a segment: who is in it, said as a predicate over merged attributes."""

    namespace: str
    segment: str
    version: int
    predicate: str
    policy: str  # the merge policy's id …
    policy_version: int  # … and version


TIMESTAMP_ORDERED: Final = PolicyDefinition(
    id="timestampOrdered-none-mp", version=1, merging=Merging.TIMESTAMP_ORDERED
)
"""The policy of whoever names none; the id stands in the documented examples."""
NOT_MERGED: Final = PolicyDefinition(id="none-none-mp", version=1, merging=Merging.NONE)
BUILT_IN: Final = (TIMESTAMP_ORDERED, NOT_MERGED)
"""Policies that every catalogue has."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All versions of everything that is defined, oldest first."""

    policies: Sequence[PolicyDefinition] = BUILT_IN
    segments: Sequence[SegmentDefinition] = ()

    def policy(self, policy_id: str, version: int | None = None) -> PolicyDefinition:
        """A version of a policy, by default its newest. Raises `UnknownPolicy`."""
        known = [each for each in self.policies if each.id == policy_id]
        if not known:
            ids = ", ".join(sorted({each.id for each in self.policies}))
            raise UnknownPolicy(f"there is no merge policy {policy_id!r}; there are: {ids}")
        if version is None:
            return known[-1]
        for each in known:
            if each.version == version:
                return each
        raise UnknownPolicy(
            f"merge policy {policy_id!r} has no version {version}; it has 1 to {known[-1].version}"
        )

    def segment(self, namespace: str, segment: str) -> SegmentDefinition | None:
        """The newest definition of a segment, if it has one."""
        for each in reversed(self.segments):
            if (each.namespace, each.segment) == (namespace, segment):
                return each
        return None

    def definition(self, namespace: str, segment: str) -> SegmentDefinition:
        """The newest definition of a segment. Raises `UnknownSegment`."""
        found = self.segment(namespace, segment)
        if found is None:
            raise UnknownSegment(
                f"no segment {segment!r} is defined in namespace {namespace!r}; define it with "
                "`segexport segments define`; `segexport segments list` shows what there is"
            )
        return found

    def lost(self, before: "Catalogue") -> Sequence[PolicyDefinition | SegmentDefinition]:
        """What an earlier catalogue says that this one does not: nothing, as none ever changes."""
        policies, segments = set(self.policies), set(self.segments)
        return [
            *(each for each in before.policies if each not in policies),
            *(each for each in before.segments if each not in segments),
        ]

    @property
    def newest_segments(self) -> Sequence[SegmentDefinition]:
        """The newest definition of each segment, by namespace and segment."""
        newest = {(each.namespace, each.segment): each for each in self.segments}
        return tuple(newest[name] for name in sorted(newest))


def open_catalogue(store: Path) -> Catalogue:
    """What is defined in a profile store; only what is built in, where nothing is.

    Raises `ProfileStoreCorrupt` if the catalogue's file is damaged, and another
    `ProfileStoreError` if the system refuses to read it.
    """
    file = store / CATALOGUE
    with explaining(_refused, file):
        try:
            written = file.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return Catalogue()
    try:
        if (name := repeated_name(written)) is not None:
            raise ValueError(f"an object has the name {shown(name)} twice")  # noqa: TRY301
        document = orjson.loads(written)
        form = int(document["format"])
        if form > FORMAT:
            raise ProfileStoreCorrupt(
                f"{file} has format {form}, written by a later version of segexport; this one "
                f"reads {FORMAT}: upgrade segexport"
            )
        return _read(document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProfileStoreCorrupt(
            f"the catalogue {file} cannot be read ({error!r}); restore it from a copy, or remove "
            "it and define policies and segments again"
        ) from error


def catalogue_document(catalogue: Catalogue) -> dict[str, Any]:
    """What `open_catalogue` reads: all that is not built in."""
    return {
        "format": FORMAT,
        "policies": [policy_document(each) for each in catalogue.policies if each not in BUILT_IN],
        "segments": [segment_document(each) for each in catalogue.segments],
    }


def policy_document(policy: PolicyDefinition) -> dict[str, Any]:
    """A merge policy as JSON."""
    return {
        "id": policy.id,
        "version": policy.version,
        "merging": policy.merging.value,
        "datasets": list(policy.datasets),
    }


def segment_document(segment: SegmentDefinition) -> dict[str, Any]:
    """A segment as JSON, with the names that requests use."""
    return {
        "segmentNs": segment.namespace,
        "segmentId": segment.segment,
        "version": segment.version,
        "predicate": segment.predicate,
        "mergePolicy": {"id": segment.policy, "version": segment.policy_version},
    }


def _read(document: dict[str, Any]) -> Catalogue:
    policies = [
        PolicyDefinition(
            id=str(one["id"]),
            version=int(one["version"]),
            merging=Merging(one["merging"]),
            datasets=tuple(map(str, one["datasets"])),
        )
        for one in document["policies"]
    ]
    segments = [
        SegmentDefinition(
            namespace=str(one["segmentNs"]),
            segment=str(one["segmentId"]),
            version=int(one["version"]),
            predicate=str(one["predicate"]),
            policy=str(one["mergePolicy"]["id"]),
            policy_version=int(one["mergePolicy"]["version"]),
        )
        for one in document["segments"]
    ]
    _require_dense([((each.id,), each.version) for each in (*BUILT_IN, *policies)])
    _require_dense([((each.namespace, each.segment), each.version) for each in segments])
    defined = {(each.id, each.version) for each in (*BUILT_IN, *policies)}
    for segment in segments:
        if (segment.policy, segment.policy_version) not in defined:
            raise ValueError(f"segment {segment.segment!r} has a merge policy that is not defined")
    return Catalogue((*BUILT_IN, *policies), tuple(segments))


def _require_dense(versions: Sequence[tuple[Hashable, int]]) -> None:
    """Versions of an id go 1, 2, 3, … in the order of the file."""
    seen: Counter[Hashable] = Counter()
    for name, version in versions:
        seen[name] += 1
        if version != seen[name]:
            raise ValueError(f"version {version} of {name} stands where {seen[name]} should")


def _refused(file: str, why: str) -> ProfileStoreError:
    return ProfileStoreError(
        f"the catalogue {file} cannot be read ({why}); check its permissions, and as which user "
        "this runs"
    )
