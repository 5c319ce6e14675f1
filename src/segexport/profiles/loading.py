"""Loads records into the store: the next snapshot, and what was refused.

Every record is checked on its own; the good ones are split by bucket, as the identity graph
joins them, and merged, bucket by bucket, with the snapshot before. No more than some chunks
or one bucket is in memory.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from segexport.profiles.builder import Draft, Progress, Resources, buckets_for, draft, silent
from segexport.profiles.fragments import EVENT, FRAGMENT, PERSON_ID, UPDATE_TIMES, checked
from segexport.profiles.graph import Graph, grown, rows_checked
from segexport.profiles.intake import Intake, Taken
from segexport.profiles.merging import Incoming
from segexport.profiles.moving import moved
from segexport.profiles.snapshots import Snapshot
from segexport.profiles.sources import Source, open_source
from segexport.profiles.splitting import Split, split
from segexport.sql import literal

DATASET: Final = "profiles"
"""Where fragments come from if nobody says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """What a load did.

    `snapshot` is None where no record was accepted; `rejects` where none was refused.
    `fragments`, `events` and `graph_rows` were accepted; `refused` counts records by reason
    (`refusals.EXPLANATIONS`). `moved` counts persons who were there before, and whom the
    graph has joined to others.
    """

    snapshot: Snapshot | None
    fragments: int
    events: int
    graph_rows: int
    moved: int
    refused: Mapping[str, int]
    rejects: Path | None

    @property
    def accepted(self) -> int:
        """Fragments, events and rows of the identity graph."""
        return self.fragments + self.events + self.graph_rows

    @property
    def read(self) -> int:
        """All records of all files; blank lines are none."""
        return self.accepted + sum(self.refused.values())


def load(
    store: Path,
    files: Sequence[Path],
    *,
    events: Sequence[Path] = (),
    graph: Sequence[Path] = (),
    now: datetime,
    resources: Resources,
    fresh: bool = False,
    dataset: str = DATASET,
    ingested_at: datetime | None = None,
    update_times: Sequence[str] = UPDATE_TIMES,
    rejects: Path | None = None,
    person_id: str = PERSON_ID,
    progress: Progress = silent,
) -> LoadReport:
    """Add the fragments in `files`, the events in `events` and the rows of the identity graph
    in `graph` to the newest snapshot (none if `fresh`), as the next one.

    The new rows count for all records, those of the newest snapshot as well. Of two equally
    old fragments, the one in the later file or line wins. What is refused is written to
    `rejects`, by default `<store>/rejects/<snapshot id>.ndjson`; if everything is, there is
    no new snapshot. `dataset` is where the fragments come from, `ingested_at` (UTC) when
    everything counts as ingested: `now` if nobody says. `update_times` are the paths where
    an update time is looked for; `person_id` is the SQL that makes a person's id.

    Raises `FragmentsUnreadable` if a file cannot be read, `ProfileStoreBusy` while another
    load runs, `ProfileStoreCorrupt` if the newest snapshot is damaged, `GraphContradiction`
    if `graph` gives an identity to two persons and `ProfileStoreError` if persons collide or
    the disk is full. The store is then as before.
    """
    of_fragments = replace(FRAGMENT, times=tuple(update_times))
    kinds = (
        _Kind([*map(open_source, files)], partial(checked, kind=of_fragments, person_id=person_id)),
        _Kind([*map(open_source, events)], partial(checked, kind=EVENT, person_id=person_id)),
        _Kind([*map(open_source, graph)], rows_checked, has_attributes=False),
    )
    with draft(store, now=now, resources=resources, fresh=fresh) as snapshot:
        refusals = snapshot.staging / "rejects.ndjson"
        taken = []
        with refusals.open("wb") as file:
            for number, kind in enumerate(kinds):
                intake = Intake(
                    snapshot.connection,
                    folder=snapshot.staging / f"checked-{number}",
                    rejects=file,
                    check=kind.check,
                    threads=resources.threads,
                    has_attributes=kind.has_attributes,
                )
                taken.append(intake.take(kind.sources, progress))
        fragments, happened, rows = taken
        joining = _Joining(snapshot.graph(), person_id)
        if rows.accepted:
            joining = replace(joining, graph=_grown(snapshot, rows, graph))
        refused = fragments.refused + happened.refused + rows.refused
        kept = None
        if refused:
            kept = rejects or store / "rejects" / f"{snapshot.id}.ndjson"
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(refusals, kept)
        origin = _Origin(dataset, ingested_at or now)
        made, movers = None, 0
        if any(each.accepted for each in taken):
            made, movers = _published(
                snapshot,
                fragments,
                happened,
                origin=origin,
                joining=joining,
                progress=progress,
            )
        return LoadReport(
            snapshot=made,
            fragments=fragments.accepted,
            events=happened.accepted,
            graph_rows=rows.accepted,
            moved=movers,
            refused=dict(refused.most_common()),
            rejects=kept,
        )


@dataclass(frozen=True, slots=True)
class _Kind:
    """Files of one kind of records, and the query that checks them (see `Intake`)."""

    sources: Sequence[Source]
    check: Callable[[str], str]
    has_attributes: bool = True


@dataclass(frozen=True, slots=True)
class _Joining:
    """What makes records one person's: the identity graph, and the SQL that makes an id."""

    graph: Graph
    person_id: str


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where what is loaded comes from, and when it counts as ingested."""

    dataset: str
    ingested_at: datetime

    @property
    def moment(self) -> str:
        """The time as SQL."""
        return f"TIMESTAMP '{self.ingested_at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}'"


def _grown(snapshot: Draft, rows: Taken, files: Sequence[Path]) -> Graph:
    return grown(
        snapshot.connection,
        snapshot.graph(),
        parts=rows.parts,
        sources=files,
        file=snapshot.staging / "graph.parquet",
    )


def _published(
    snapshot: Draft,
    fragments: Taken,
    events: Taken,
    *,
    origin: _Origin,
    joining: _Joining,
    progress: Progress,
) -> tuple[Snapshot, int]:
    """The snapshot, and how many persons of the base have moved."""
    base = snapshot.base
    # Never fewer than before: a bucket of the base may be split, two cannot become one.
    records = fragments.accepted + events.accepted
    if base:
        records += base.fragments + base.events
    buckets = max(buckets_for(records), base.buckets if base else 1)
    known = (base.attributes, base.event_attributes) if base else ((), ())
    names = ("fragments.parquet", "events.parquet")
    held = [
        [base.file(bucket, name) for bucket in range(base.buckets)] if base else []
        for name in names
    ]
    of_fragments, of_events = (
        split(
            snapshot.connection,
            taken,
            known=attributes,
            held=files,
            buckets=buckets,
            graph=joining.graph,
            person_id=joining.person_id,
            folder=snapshot.staging / name,
        )
        for name, taken, attributes, files in zip(
            ("fragments", "events"), (fragments, events), known, held, strict=True
        )
    )
    moving = None
    if base and joining.graph.changed:
        progress("moving", 0, 1)
        moving = moved(
            snapshot.connection,
            base,
            joining.graph,
            person_id=joining.person_id,
            buckets=buckets,
            folder=snapshot.staging / "moved",
        )
        progress("moving", 1, 1)
    made = snapshot.publish(
        buckets=buckets,
        attributes=of_fragments.attributes,
        event_attributes=of_events.attributes,
        incoming=_incoming(of_fragments, of_events, origin),
        graph=joining.graph,
        moved=moving,
        progress=progress,
    )
    return made, moving.persons if moving else 0


def _incoming(fragments: Split, events: Split, origin: _Origin) -> Callable[[int], Incoming]:
    """What is new in a bucket."""

    def incoming(bucket: int) -> Incoming:
        persons = "SELECT person_id, person_key, identities FROM "
        return Incoming(
            fragments=fragments.select(
                bucket,
                f"person_id, updated_at, {origin.moment} AS ingested_at, "
                f"{literal(origin.dataset)} AS dataset_id, position AS rank",
            ),
            events=events.select(
                bucket,
                f"person_id, updated_at AS happened_at, {origin.moment} AS ingested_at, "
                "position AS rank",
            ),
            persons=f"{persons}{fragments.rows(bucket)} UNION ALL {persons}{events.rows(bucket)}",
            memberships=f"""
                SELECT person_id, one.namespace, one.segment, one.status, one.qualified_at, position
                FROM (SELECT person_id, position, unnest(memberships) AS one
                      FROM {fragments.rows(bucket)})""",
        )

    return incoming
