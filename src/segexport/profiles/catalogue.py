"""What is defined beside the profiles: merge policies and segments.

    <store>/catalogue.json

A definition never changes: defining an id again makes its next version, so that a job that
names a version means the same for ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from segexport.errors import UnknownPolicy


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


def open_catalogue(store: Path) -> Catalogue:
    """What is defined in a profile store: what is built in."""
    del store
    return Catalogue()
