"""Loads fragments and events into the store: the next snapshot, and what was refused.

Every record is checked on its own; the good ones are split by bucket and merged, bucket by
bucket, with the snapshot before. No more than some chunks or one bucket is in memory.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from segexport.profiles.attributes import (
    column_in_document,
    flatten,
    join,
    structure,
    tree_of,
)
from segexport.profiles.builder import Draft, Progress, Resources, buckets_for, draft, silent
from segexport.profiles.fragments import EVENT, FRAGMENT, PERSON_ID, UPDATE_TIMES, checked
from segexport.profiles.intake import Intake, Taken
from segexport.profiles.merging import Incoming
from segexport.profiles.snapshots import Attribute, Snapshot
from segexport.profiles.sources import open_source
from segexport.sql import identifier, literal, parquet

_ROWS: Final = 16_384  # in a row group, which is what a thread reads: a bucket keeps several busy


_CHECKED: Final = """(SELECT NULL::BIGINT AS position, NULL::BIGINT AS person_id,
    NULL::VARCHAR AS person_key, NULL::TIMESTAMP AS updated_at,
    NULL::STRUCT(namespace VARCHAR, id VARCHAR, "primary" BOOLEAN)[] AS identities,
    NULL::STRUCT(namespace VARCHAR, segment VARCHAR, status VARCHAR, qualified_at TIMESTAMP)[]
        AS memberships,
    NULL::VARCHAR AS attributes WHERE false)"""
"""What checked records look like, without any."""

DATASET: Final = "profiles"
"""Where fragments come from if nobody says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """What a load did.

    `snapshot` is None where no record was accepted; `rejects` where none was refused.
    `fragments` and `events` were accepted; `refused` counts records by reason
    (`fragments.EXPLANATIONS`).
    """

    snapshot: Snapshot | None
    fragments: int
    events: int
    refused: Mapping[str, int]
    rejects: Path | None

    @property
    def accepted(self) -> int:
        """Fragments and events."""
        return self.fragments + self.events

    @property
    def read(self) -> int:
        """All records of all files; blank lines are none."""
        return self.accepted + sum(self.refused.values())


def load(
    store: Path,
    files: Sequence[Path],
    *,
    events: Sequence[Path] = (),
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
    """Add the fragments in `files` and the events in `events` to the newest snapshot (none if
    `fresh`), as the next one.

    Of two equally old fragments, the one in the later file or line wins. What is refused is
    written to `rejects`, by default `<store>/rejects/<snapshot id>.ndjson`; if everything
    is, there is no new snapshot. `dataset` is where the fragments come from, `ingested_at`
    (UTC) when everything counts as ingested: `now` if nobody says. `update_times` are the
    paths where an update time is looked for; `person_id` is the SQL that makes a person's id.

    Raises `FragmentsUnreadable` if a file cannot be read, `ProfileStoreBusy` while another
    load runs, `ProfileStoreCorrupt` if the newest snapshot is damaged and
    `ProfileStoreError` if persons collide or the disk is full. The store is then as before.
    """
    kinds = (
        (replace(FRAGMENT, times=tuple(update_times)), [open_source(file) for file in files]),
        (EVENT, [open_source(file) for file in events]),
    )
    with draft(store, now=now, resources=resources, fresh=fresh) as snapshot:
        refusals = snapshot.staging / "rejects.ndjson"
        taken = []
        with refusals.open("wb") as file:
            for number, (kind, sources) in enumerate(kinds):
                intake = Intake(
                    snapshot.connection,
                    folder=snapshot.staging / f"checked-{number}",
                    rejects=file,
                    check=partial(checked, kind=kind, person_id=person_id),
                    threads=resources.threads,
                )
                taken.append(intake.take(sources, progress))
        fragments, happened = taken
        refused = fragments.refused + happened.refused
        kept = None
        if refused:
            kept = rejects or store / "rejects" / f"{snapshot.id}.ndjson"
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(refusals, kept)
        accepted = fragments.accepted + happened.accepted
        origin = _Origin(dataset, ingested_at or now)
        return LoadReport(
            snapshot=_publish(snapshot, fragments, happened, origin, progress)
            if accepted
            else None,
            fragments=fragments.accepted,
            events=happened.accepted,
            refused=dict(refused.most_common()),
            rejects=kept,
        )


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where what is loaded comes from, and when it counts as ingested."""

    dataset: str
    ingested_at: datetime

    @property
    def moment(self) -> str:
        """The time as SQL."""
        return f"TIMESTAMP '{self.ingested_at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}'"


@dataclass(frozen=True, slots=True)
class _Split:
    """Checked records of one kind, in a folder split by bucket, and their attributes."""

    folder: Path
    attributes: Sequence[Attribute]

    def rows(self, bucket: int) -> str:
        """The bucket's records, as they stand behind FROM."""
        files = sorted((self.folder / f"bucket={bucket}").glob("*.parquet"))
        return f"(FROM {parquet(files)})" if files else _CHECKED

    def select(self, bucket: int, items: str) -> str:
        """These items of the bucket's records, and a column for each attribute."""
        rows = self.rows(bucket)
        if not self.attributes:
            return f"SELECT {items} FROM {rows}"
        columns = "".join(
            f", {column_in_document(each.path, 'document')} AS {identifier(each.path)}"
            for each in self.attributes
        )
        shape = literal(structure(self.attributes))
        documents = f"SELECT *, from_json(attributes, {shape}) AS document FROM {rows}"
        return f"SELECT {items}{columns} FROM ({documents})"


def _publish(
    snapshot: Draft, fragments: Taken, events: Taken, origin: _Origin, progress: Progress
) -> Snapshot:
    base = snapshot.base
    # Never fewer than before: a bucket of the base may be split, two cannot become one.
    records = fragments.accepted + events.accepted
    if base:
        records += base.fragments + base.events
    buckets = max(buckets_for(records), base.buckets if base else 1)
    of_fragments = _split(
        snapshot, "fragments", fragments, base.attributes if base else (), buckets
    )
    of_events = _split(snapshot, "events", events, base.event_attributes if base else (), buckets)
    return snapshot.publish(
        buckets=buckets,
        attributes=of_fragments.attributes,
        event_attributes=of_events.attributes,
        incoming=_incoming(of_fragments, of_events, origin),
        progress=progress,
    )


def _split(
    snapshot: Draft, name: str, taken: Taken, known: Sequence[Attribute], buckets: int
) -> _Split:
    folder = snapshot.staging / name
    if taken.parts:
        snapshot.connection.execute(f"""
            COPY (SELECT * EXCLUDE (reason, raw), person_id % {buckets} AS bucket
                  FROM {parquet(taken.parts)} WHERE reason IS NULL)
            TO {literal(folder)} (FORMAT parquet, PARTITION_BY (bucket), ROW_GROUP_SIZE {_ROWS})""")
    for part in taken.parts:
        part.unlink()
    return _Split(folder, flatten(join(tree_of(known), taken.attributes)))


def _incoming(fragments: _Split, events: _Split, origin: _Origin) -> Callable[[int], Incoming]:
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
