"""Loads files of profile fragments into the store: the next snapshot, and what was refused.

Every record is checked on its own; the good ones are split by bucket and merged, bucket by
bucket, with the snapshot before. No more than some chunks or one bucket is in memory.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
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
from segexport.profiles.fragments import PERSON_ID, UPDATE_TIMES, checked
from segexport.profiles.intake import Intake, Taken
from segexport.profiles.merging import Incoming
from segexport.profiles.snapshots import Attribute, Snapshot
from segexport.profiles.sources import open_source
from segexport.sql import identifier, literal, parquet

_ROWS: Final = 16_384  # in a row group, which is what a thread reads: a bucket keeps several busy


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """What a load did.

    `snapshot` is None where no fragment was accepted; `rejects` where none was refused.
    `refused` counts records by reason (`fragments.EXPLANATIONS`).
    """

    snapshot: Snapshot | None
    accepted: int
    refused: Mapping[str, int]
    rejects: Path | None

    @property
    def read(self) -> int:
        """All records of all files; blank lines are none."""
        return self.accepted + sum(self.refused.values())


def load(
    store: Path,
    files: Sequence[Path],
    *,
    now: datetime,
    resources: Resources,
    fresh: bool = False,
    update_times: Sequence[str] = UPDATE_TIMES,
    rejects: Path | None = None,
    person_id: str = PERSON_ID,
    progress: Progress = silent,
) -> LoadReport:
    """Add the fragments in `files` to the newest snapshot (none if `fresh`), as the next one.

    Of two equally old fragments, the one in the later file or line wins. What is refused is
    written to `rejects`, by default `<store>/rejects/<snapshot id>.ndjson`; if everything
    is, there is no new snapshot. `update_times` are the paths where an update time is looked
    for; `person_id` is the SQL that makes a person's id.

    Raises `FragmentsUnreadable` if a file cannot be read, `ProfileStoreBusy` while another
    load runs, `ProfileStoreCorrupt` if the newest snapshot is damaged and
    `ProfileStoreError` if persons collide or the disk is full. The store is then as before.
    """
    sources = [open_source(file) for file in files]
    with draft(store, now=now, resources=resources, fresh=fresh) as snapshot:
        refusals = snapshot.staging / "rejects.ndjson"
        with refusals.open("wb") as file:
            intake = Intake(
                snapshot.connection,
                folder=snapshot.staging / "checked",
                rejects=file,
                check=partial(checked, person_id=person_id, update_times=update_times),
                threads=resources.threads,
            )
            taken = intake.take(sources, progress)
        kept = None
        if taken.refused:
            kept = rejects or store / "rejects" / f"{snapshot.id}.ndjson"
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(refusals, kept)
        return LoadReport(
            snapshot=_publish(snapshot, taken, progress) if taken.accepted else None,
            accepted=taken.accepted,
            refused=dict(taken.refused.most_common()),
            rejects=kept,
        )


def _publish(snapshot: Draft, taken: Taken, progress: Progress) -> Snapshot:
    run, base = snapshot.connection.execute, snapshot.base
    fragments = f"(FROM {parquet(taken.parts)} WHERE reason IS NULL)"
    attributes = flatten(join(tree_of(base.attributes if base else ()), taken.attributes))
    # Never fewer than before: a bucket of the base may be split, two cannot become one.
    buckets = max(
        buckets_for(taken.accepted + (base.fragments if base else 0)), base.buckets if base else 1
    )
    split = snapshot.staging / "split"
    run(f"""
        COPY (SELECT * EXCLUDE (reason, raw), person_id % {buckets} AS bucket FROM {fragments})
        TO {literal(split)} (FORMAT parquet, PARTITION_BY (bucket), ROW_GROUP_SIZE {_ROWS})""")
    for part in taken.parts:
        part.unlink()
    return snapshot.publish(
        buckets=buckets,
        attributes=attributes,
        incoming=_incoming(split, attributes),
        progress=progress,
    )


def _incoming(split: Path, attributes: Sequence[Attribute]) -> Callable[[int], Incoming]:
    """What is new in a bucket, read from the files of a folder split by bucket."""
    some_file = next(split.glob("*/*.parquet"))
    columns = "".join(
        f", {column_in_document(attribute.path, 'document')} AS {identifier(attribute.path)}"
        for attribute in attributes
    )

    def incoming(bucket: int) -> Incoming:
        files = sorted((split / f"bucket={bucket}").glob("*.parquet"))
        rows = f"(FROM {parquet(files)})" if files else f"(FROM {parquet([some_file])} LIMIT 0)"
        return Incoming(
            fragments=f"""
                SELECT person_id, updated_at, position AS rank{columns}
                FROM (SELECT *, from_json(attributes, {literal(structure(attributes))}) AS document
                      FROM {rows})""",
            persons=f"SELECT person_id, person_key, identities FROM {rows}",
            memberships=f"""
                SELECT person_id, one.namespace, one.segment, one.status, one.qualified_at, position
                FROM (SELECT person_id, position, unnest(memberships) AS one FROM {rows})""",
        )

    return incoming
