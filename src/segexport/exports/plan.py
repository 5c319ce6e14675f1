"""What an export does, as data: one plan, which every engine reads in its own dialect.

A plan is made from a request and a snapshot of the profile store, and holds nothing but
what the two say. Making one is also the check of a request: whatever it names must be
there.
"""

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

from segexport.errors import InvalidRequest, Problem
from segexport.jobs.request import ExportRequest, FileFormat, SegmentFilter, SegmentStatus
from segexport.profiles.catalogue import TIMESTAMP_ORDERED, PolicyDefinition
from segexport.profiles.snapshots import Attribute, SegmentSize, Snapshot

IDENTITY_MAP: Final = "identityMap"
"""The identities of a profile by namespace, as XDM keeps them."""
PERSON_ID: Final = "person_id"
"""The store's id of the person, the first column of every batch: that of the discard events."""
EVENT_LIST: Final = "eventList"
"""The events of a profile."""
IDENTITIES: Final = "identities"
"""The same identities as a flat list, resolved through the identity map."""
IDENTITY_PARTS: Final = ("id", "namespace")
"""What can be asked of an identity in the flat list, in the order of its columns."""
SEGMENT_MEMBERSHIP: Final = "segmentMembership"
"""The profile's standing in every segment, exported whole."""

STANDINGS: Mapping[SegmentStatus, tuple[str, ...]] = MappingProxyType(
    {
        SegmentStatus.REALIZED: ("realized", "existing"),
        SegmentStatus.EXISTING: ("existing",),
        SegmentStatus.EXITED: ("exited",),
    }
)
"""The standings in the profile store that a status of a request covers."""

PROFILES_PER_PIECE: Final = 65_536
"""A piece should select about so many profiles: small files cost their writer and every
reader more than they hold."""
FEWEST_PIECES: Final = 4
"""A job is cut into at least so many, so that they can run side by side and be kept."""
MOST_BUCKETS: Final = 16
"""A piece covers no more buckets than this, however little it selects: it is what is lost
when a worker is."""

Tree: TypeAlias = Mapping[str, "Attribute | Tree"]
"""Attributes as they nest: `person.name.lastName` is at ["person"]["name"]["lastName"]."""


@dataclass(frozen=True, slots=True)
class WantedSegment:
    """Persons who stand in this segment in one of these ways are selected."""

    namespace: str
    segment: str
    standings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """Times from `start` on and before `end`, UTC; None leaves a side open."""

    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class NestedEvents:
    """The events of a profile, oldest first, as a list of structs of these attributes.

    Only those ingested later than `after` and before `before`, UTC.
    """

    attributes: tuple[Attribute, ...]
    after: datetime | None = None
    before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a journey demands of a profile; a profile that falls short is discarded.

    A profile's key is its primary identity in `namespace`, or else the first by id. In
    `test_mode` only test profiles are delivered. `instances` is a Parquet file whose one
    column `key` VARCHAR, without duplicates, has the keys that are in the journey already.
    """

    namespace: str
    test_mode: bool
    instances: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportPlan:
    """One export of one snapshot, in so many `pieces`, each of which covers some buckets.

    Selects the persons of `segments` (who came to stand there in the window `qualified`),
    everyone if there are none; of them those with a record, or all if `empty_profiles`, and
    those of whom something was ingested later than `ingested_after`. Exports, in this order,
    the column `person_id`, the tree of `attributes` (merged as the policy says), then what
    is asked for beside attributes: `identity_map`, the parts of `identities`,
    `segment_membership`, `events`. With `delivery`, profiles that it does not allow become
    discards. With `segment_per_batch`, there is a batch for each segment, and whoever stands
    in several of them is exported, or discarded, once in each.
    """

    snapshot: Snapshot
    pieces: int
    segments: tuple[WantedSegment, ...] = ()
    qualified: Window = Window()
    ingested_after: datetime | None = None
    empty_profiles: bool = False
    policy: PolicyDefinition = TIMESTAMP_ORDERED
    attributes: tuple[Attribute, ...] = ()
    identity_map: bool = False
    identities: tuple[str, ...] = ()
    segment_membership: bool = False
    events: NestedEvents | None = None
    delivery: Delivery | None = None
    segment_per_batch: bool = False
    format: FileFormat = FileFormat.PARQUET

    @property
    def batches(self) -> int:
        """How many batches there will be."""
        return len(self.segments) if self.segment_per_batch else 1

    @property
    def tree(self) -> Tree:
        """The attributes as they nest in the exported profiles."""
        return _tree(self.attributes)

    def buckets(self, piece: int) -> range:
        """The buckets that a piece covers; the pieces cover all, in order."""
        every = self.snapshot.buckets
        return range(piece * every // self.pieces, (piece + 1) * every // self.pieces)


def check_request(request: ExportRequest, snapshot: Snapshot) -> Sequence[Problem]:
    """Everything that the request names and the snapshot does not have."""
    return [*_segment_problems(request, snapshot), *_field_problems(request, snapshot)]


def plan_export(
    request: ExportRequest, snapshot: Snapshot, *, pieces: int | None = None
) -> ExportPlan:
    """The plan for a request, cut into `pieces` if that was decided before.

    Raises `InvalidRequest` with what `check_request` finds.
    """
    problems = check_request(request, snapshot)
    if problems:
        raise InvalidRequest(problems)
    paths = request.field_paths
    journey = request.journey
    return ExportPlan(
        snapshot=snapshot,
        pieces=pieces or _pieces(request, snapshot),
        segments=tuple(
            WantedSegment(wanted.segment_ns, wanted.segment_id, standings(wanted))
            for wanted in request.filter.segments
        ),
        attributes=_attributes(paths, snapshot),
        identity_map=not paths or IDENTITY_MAP in paths,
        identities=tuple(
            part for part in IDENTITY_PARTS if {IDENTITIES, f"{IDENTITIES}.{part}"} & set(paths)
        ),
        segment_membership=SEGMENT_MEMBERSHIP in paths,
        delivery=Delivery(journey.namespace, journey.test_mode) if journey else None,
    )


def upper_bound(request: ExportRequest, snapshot: Snapshot) -> int:
    """At most so many profiles are selected; exact for one segment, and for everyone.

    Persons who stand in several of the segments are counted by each of them.
    """
    if not request.filter.segments:
        return snapshot.persons
    sizes = _sizes(snapshot)
    selected = sum(
        int(getattr(sizes[wanted.segment_ns, wanted.segment_id], standing))
        for wanted in request.filter.segments
        for standing in standings(wanted)
    )
    return min(selected, snapshot.persons)


def standings(wanted: SegmentFilter) -> tuple[str, ...]:
    """The standings that the statuses of a filter cover, once each."""
    return tuple(
        dict.fromkeys(standing for status in wanted.status for standing in STANDINGS[status])
    )


def _pieces(request: ExportRequest, snapshot: Snapshot) -> int:
    by_profiles = -(-upper_bound(request, snapshot) // PROFILES_PER_PIECE)
    by_buckets = -(-snapshot.buckets // MOST_BUCKETS)
    return min(snapshot.buckets, max(by_profiles, by_buckets, FEWEST_PIECES))


def _sizes(snapshot: Snapshot) -> Mapping[tuple[str, str], SegmentSize]:
    return {(size.namespace, size.segment): size for size in snapshot.segments}


def _segment_problems(request: ExportRequest, snapshot: Snapshot) -> Iterator[Problem]:
    sizes = _sizes(snapshot)
    for index, wanted in enumerate(request.filter.segments):
        if (wanted.segment_ns, wanted.segment_id) in sizes:
            continue
        elsewhere = sorted(ns for ns, segment in sizes if segment == wanted.segment_id)
        known = [segment for ns, segment in sizes if ns == wanted.segment_ns]
        if elsewhere:
            hint = f"it is known in namespace {', '.join(map(repr, elsewhere))}"
        else:
            hint = _like(wanted.segment_id, known) or (
                "see the snapshot's segments with `segexport profiles show`"
            )
        yield Problem(
            f"filter.segments.{index}.segmentId",
            f"no segment {wanted.segment_id!r} in namespace {wanted.segment_ns!r} "
            f"of the profile store; {hint}",
        )


def _field_problems(request: ExportRequest, snapshot: Snapshot) -> Iterator[Problem]:
    beside = {IDENTITY_MAP, SEGMENT_MEMBERSHIP, IDENTITIES}
    beside |= {f"{IDENTITIES}.{part}" for part in IDENTITY_PARTS}
    leaves = [attribute.path for attribute in snapshot.attributes]
    for path in request.field_paths:
        if path not in beside and not any(_covers(path, leaf) for leaf in leaves):
            hint = _like(path, [*leaves, *sorted(beside)]) or "give the dotted path of an attribute"
            yield Problem("fields", f"the profile store has no field {path!r}; {hint}")
    chosen = _attributes(request.field_paths, snapshot)
    beside_chosen = _beside(request.field_paths)
    yield from (Problem("fields", message) for message in _clashes(chosen, beside_chosen))


def _beside(paths: Sequence[str]) -> frozenset[str]:
    """The columns that an export of these paths has beside attributes."""
    asked = {path.partition(".")[0] for path in paths} if paths else {IDENTITY_MAP}
    return frozenset(asked & {IDENTITY_MAP, IDENTITIES, SEGMENT_MEMBERSHIP})


def _attributes(paths: Sequence[str], snapshot: Snapshot) -> tuple[Attribute, ...]:
    return tuple(
        attribute
        for attribute in snapshot.attributes
        if not paths or any(_covers(path, attribute.path) for path in paths)
    )


def _covers(path: str, leaf: str) -> bool:
    return leaf == path or leaf.startswith(f"{path}.")


def _like(name: str, known: Sequence[str]) -> str | None:
    close = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else None


def _clashes(attributes: Sequence[Attribute], beside: Collection[str]) -> Iterator[str]:
    """Attributes that cannot lie in one table: names there are compared without case."""
    spelled = {name.lower(): name for name in beside}
    leaves = {attribute.path.lower(): attribute.path for attribute in attributes}
    for attribute in attributes:
        steps = attribute.path.split(".")
        for length in range(1, len(steps) + 1):
            path = ".".join(steps[:length])
            other = spelled.setdefault(path.lower(), path)
            if path in beside:
                yield f"{path!r} is an attribute as well as the profile's own; it cannot be both"
            elif other != path:
                yield f"{other!r} and {path!r} differ only in case; ask for one of them"
            elif length < len(steps) and path.lower() in leaves:
                yield f"{path!r} has a value of its own and {attribute.path!r} lies below it"


def _tree(attributes: Sequence[Attribute]) -> Tree:
    root: dict[str, Attribute | Tree] = {}
    for attribute in attributes:
        *parents, leaf = attribute.path.split(".")
        node = root
        for parent in parents:
            below = node.setdefault(parent, {})
            assert isinstance(below, dict)  # noqa: S101  (`check_request` refuses clashes)
            node = below
        node[leaf] = attribute
    return root
