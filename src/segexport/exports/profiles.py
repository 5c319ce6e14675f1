"""The profile store: immutable snapshots of profile fragments, bucketed by person.

    <store>/
      <snapshot id>/                 ids sort by age; visible once `snapshot.json` is there
        snapshot.json                the manifest: `Snapshot` without its folder
        bucket=00000/persons.parquet
        bucket=00000/fragments.parquet
        bucket=00000/memberships.parquet

All rows of one person lie in the one bucket `person_id % buckets`. A person id is a
positive BIGINT made from the person's key; no two keys of a snapshot share an id (a
collision is found when loading, and refused).

`persons`, one row a person, sorted by person_id:
  person_id BIGINT, person_key VARCHAR,
  identity_map MAP(VARCHAR, STRUCT(id VARCHAR, "primary" BOOLEAN)[])  union over fragments,
      NULL where no fragment has an identity,
  test_profile BOOLEAN  latest non-null value wins, FALSE if none,
  updated_at TIMESTAMP  latest of its fragments, UTC
`fragments`, one row a fragment, sorted by person_id, rank:
  person_id BIGINT, rank BIGINT  total order of the bucket's fragments by (update time, order
      of loading), updated_at TIMESTAMP,
  then one column per leaf attribute, named by its dotted XDM path (`person.name.lastName`)
`memberships`, one row per person, namespace and segment (latest qualification wins),
sorted by namespace, segment, person_id:
  person_id BIGINT, namespace VARCHAR, segment VARCHAR,
  status VARCHAR  'realized', 'existing' or 'exited', qualified_at TIMESTAMP
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Attribute:
    """A leaf attribute of the snapshot: its dotted XDM path and DuckDB type."""

    path: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentSize:
    """A segment of the snapshot and how many persons stand in it, by status."""

    namespace: str
    segment: str
    realized: int
    existing: int
    exited: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One immutable state of the profile store."""

    id: str
    folder: Path
    created_at: datetime
    buckets: int
    persons: int
    fragments: int
    attributes: Sequence[Attribute]
    segments: Sequence[SegmentSize]
    namespaces: Sequence[str]

    def persons_file(self, bucket: int) -> Path:
        """The bucket's persons."""
        return self._bucket(bucket) / "persons.parquet"

    def fragments_file(self, bucket: int) -> Path:
        """The bucket's fragments."""
        return self._bucket(bucket) / "fragments.parquet"

    def memberships_file(self, bucket: int) -> Path:
        """The bucket's memberships."""
        return self._bucket(bucket) / "memberships.parquet"

    def _bucket(self, bucket: int) -> Path:
        return self.folder / f"bucket={bucket:05d}"


class ProfileStore:
    """Opens snapshots.

    Raises `ProfileStoreMissing` where there is no store or no snapshot, and
    `ProfileStoreCorrupt` where a manifest cannot be read or a file that it implies is
    missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def latest(self) -> Snapshot:
        """The newest snapshot."""
        raise NotImplementedError

    def snapshot(self, snapshot_id: str) -> Snapshot:
        """The snapshot with this id."""
        raise NotImplementedError
