"""What an export does, as data: one plan, which every engine reads in its own dialect.

A plan is made from a request and a snapshot of the profile store, and holds nothing but
what the two say. Making one is also the check of a request: whatever it names must be
there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

from segexport.errors import InvalidRequest, Problem, UnknownPolicy
from segexport.exports.checking import (
    definition_problems,
    event_problems,
    field_problems,
    segment_problems,
)
from segexport.exports.fields import (
    IDENTITIES,
    IDENTITY_MAP,
    IDENTITY_PARTS,
    PLAIN_EVENT,
    SEGMENT_MEMBERSHIP,
    Tree,
    chosen,
    tree,
)
from segexport.jobs.request import ExportRequest, FileFormat, SegmentFilter, SegmentStatus
from segexport.profiles.catalogue import TIMESTAMP_ORDERED, Catalogue, PolicyDefinition
from segexport.profiles.snapshots import Attribute, SegmentSize, Snapshot

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
    in several of them is exported, or discarded, once in each. With `application`, the id of
    a Pinpoint application, a piece also writes the endpoint definitions of its profiles.
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
    application: str | None = None

    @property
    def batches(self) -> int:
        """How many batches there will be."""
        return len(self.segments) if self.segment_per_batch else 1

    @property
    def tree(self) -> Tree:
        """The attributes as they nest in the exported profiles."""
        return tree(self.attributes)

    def buckets(self, piece: int) -> range:
        """The buckets that a piece covers; the pieces cover all, in order."""
        every = self.snapshot.buckets
        return range(piece * every // self.pieces, (piece + 1) * every // self.pieces)


def check_request(
    request: ExportRequest, snapshot: Snapshot, catalogue: Catalogue
) -> Sequence[Problem]:
    """Everything that the request names and neither the snapshot nor the catalogue has."""
    problems: list[Problem] = []
    try:
        resolve_policy(request, catalogue)
    except InvalidRequest as error:
        problems += error.problems
    if request.evaluation_info.segmentation:
        problems += definition_problems(request, catalogue)
    else:
        problems += segment_problems(request, snapshot, catalogue)
    return [*problems, *field_problems(request, snapshot), *event_problems(request, snapshot)]


def resolve_policy(request: ExportRequest, catalogue: Catalogue) -> PolicyDefinition:
    """The merge policy that the request means.

    Its own; or else that of its segments' definitions; or else, where none has one, the
    latest value wins. Raises `InvalidRequest` if it is unknown, or the definitions disagree.
    """
    named: dict[tuple[str, int | None], list[str]] = {}
    if request.merge_policy:
        named[request.merge_policy.id, request.merge_policy.version] = []
    else:
        for wanted in request.filter.segments:
            found = catalogue.segment(wanted.segment_ns, wanted.segment_id)
            if found:
                key = (found.policy, found.policy_version)
                named.setdefault(key, []).append(f"{wanted.segment_ns}:{wanted.segment_id}")
    if not named:
        return TIMESTAMP_ORDERED
    if len(named) > 1:
        merged = "; ".join(
            f"{policy} version {version} merges {', '.join(segments)}"
            for (policy, version), segments in named.items()
        )
        message = f"name one: the segments are defined over several merge policies ({merged})"
        raise InvalidRequest([Problem("mergePolicy", message)])
    ((policy_id, version),) = named
    try:
        return catalogue.policy(policy_id, version)
    except UnknownPolicy as error:
        raise InvalidRequest([Problem("mergePolicy", str(error))]) from error


def plan_export(
    request: ExportRequest,
    snapshot: Snapshot,
    policy: PolicyDefinition,
    *,
    pieces: int | None = None,
    instances: Path | None = None,
) -> ExportPlan:
    """The plan for a request, cut into `pieces` if that was decided before.

    `policy` is the one that the request means; `instances` are the keys that are in the
    journey, as `Delivery` has them. Raises `InvalidRequest` with everything that the request
    names and the snapshot does not have.
    """
    problems = [
        *segment_problems(request, snapshot, Catalogue()),
        *field_problems(request, snapshot),
        *event_problems(request, snapshot),
    ]
    if problems:
        raise InvalidRequest(problems)
    paths, journey = request.field_paths, request.journey
    when = request.filter.segment_qualification_time
    return ExportPlan(
        snapshot=snapshot,
        pieces=pieces or _pieces(request, snapshot),
        segments=tuple(
            WantedSegment(wanted.segment_ns, wanted.segment_id, standings(wanted))
            for wanted in request.filter.segments
        ),
        qualified=Window(when.start_time, when.end_time) if when else Window(),
        ingested_after=request.filter.from_ingest_timestamp,
        empty_profiles=request.filter.empty_profiles,
        policy=policy,
        attributes=chosen(paths, snapshot.attributes),
        identity_map=not paths or IDENTITY_MAP in paths,
        identities=tuple(
            part for part in IDENTITY_PARTS if {IDENTITIES, f"{IDENTITIES}.{part}"} & set(paths)
        ),
        segment_membership=SEGMENT_MEMBERSHIP in paths,
        events=_events(request, snapshot),
        delivery=Delivery(journey.namespace, journey.test_mode, instances) if journey else None,
        segment_per_batch=request.destination.segment_per_batch,
        format=request.destination.format,
        application=request.pinpoint.application_id if request.pinpoint else None,
    )


def upper_bound(request: ExportRequest, snapshot: Snapshot) -> int:
    """At most so many profiles are selected, with `segmentPerBatch` times the batches of each.

    Exact for one segment that was evaluated and for everyone, where no time is asked for.
    """
    bound = _selected if request.destination.segment_per_batch else _persons
    return bound(request, snapshot)


def standings(wanted: SegmentFilter) -> tuple[str, ...]:
    """The standings that the statuses of a filter cover, once each."""
    return tuple(
        dict.fromkeys(standing for status in wanted.status for standing in STANDINGS[status])
    )


def _everyone(request: ExportRequest, snapshot: Snapshot) -> int:
    return snapshot.persons - (0 if request.filter.empty_profiles else snapshot.empty)


def _selected(request: ExportRequest, snapshot: Snapshot) -> int:
    """Persons who may stand in the segments; those in several are counted by each."""
    everyone = _everyone(request, snapshot)
    if not request.filter.segments:
        return everyone
    pending = request.evaluation_info.segmentation and snapshot.evaluated_for is None
    sizes = _sizes(snapshot)
    standing = (
        sum(int(getattr(size, standing)) for standing in standings(wanted))
        if (size := sizes.get((wanted.segment_ns, wanted.segment_id)))
        else 0
        for wanted in request.filter.segments
    )
    return sum(everyone if pending else min(each, everyone) for each in standing)


def _persons(request: ExportRequest, snapshot: Snapshot) -> int:
    return min(_selected(request, snapshot), _everyone(request, snapshot))


def _pieces(request: ExportRequest, snapshot: Snapshot) -> int:
    by_profiles = -(-_persons(request, snapshot) // PROFILES_PER_PIECE)
    by_buckets = -(-snapshot.buckets // MOST_BUCKETS)
    return min(snapshot.buckets, max(by_profiles, by_buckets, FEWEST_PIECES))


def _sizes(snapshot: Snapshot) -> Mapping[tuple[str, str], SegmentSize]:
    return {(size.namespace, size.segment): size for size in snapshot.segments}


def _events(request: ExportRequest, snapshot: Snapshot) -> NestedEvents | None:
    asked = request.additional_fields.event_list
    if asked is None:
        return None
    later = (request.filter.from_ingest_timestamp, asked.filter.from_ingest_timestamp)
    return NestedEvents(
        chosen(asked.field_paths, snapshot.event_attributes or PLAIN_EVENT),
        after=max((moment for moment in later if moment), default=None),
        before=asked.filter.to_ingest_timestamp,
    )
