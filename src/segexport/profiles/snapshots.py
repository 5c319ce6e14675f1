"""The profile store: immutable snapshots of profile fragments, bucketed by person.

    <store>/
      catalogue.json                 merge policies and segments that are defined
      <snapshot id>/                 ids sort by age; visible once `snapshot.json` is there
        snapshot.json                the manifest: `Snapshot` without its folder
        graph.parquet                the identity graph
        bucket=00000/persons.parquet
        bucket=00000/fragments.parquet
        bucket=00000/events.parquet
        bucket=00000/memberships.parquet

All rows of one person lie in the one bucket `person_id % buckets`. A person id is a
positive BIGINT made from the person's key; no two keys of a snapshot share an id (a
collision is found when loading, and refused). Times are UTC. Times of ingestion are those
of the load that brought a row.

`graph`, one row an identity, sorted by namespace, id:
  namespace VARCHAR, id VARCHAR, person_key VARCHAR  the person that the identity belongs to,
      whether anything else is known of that person or not; where a colon stands before the
      namespace, a person that the identity used to belong to
`persons`, one row a person, sorted by person_id:
  person_id BIGINT, person_key VARCHAR,
  identity_map MAP(VARCHAR, STRUCT(id VARCHAR, "primary" BOOLEAN)[])  union over fragments
      and events, NULL where none has an identity,
  test_profile BOOLEAN  latest non-null value wins, FALSE if none,
  has_record BOOLEAN  whether there is a fragment; FALSE where only events are known,
  updated_at TIMESTAMP  latest of its fragments; of its events, without any,
  ingested_at TIMESTAMP  when the last of its fragments was; of its events, without any
`fragments`, one row a fragment, sorted by person_id, rank:
  person_id BIGINT, rank BIGINT  total order of the bucket's fragments by (update time, order
      of loading), below 2^40, updated_at TIMESTAMP, ingested_at TIMESTAMP,
  dataset_id VARCHAR  where it came from,
  then one column per leaf attribute, named by its dotted XDM path (`person.name.lastName`)
`events`, one row an event, sorted by person_id, rank:
  person_id BIGINT, rank BIGINT  total order of the bucket's events by (time, order of
      loading), happened_at TIMESTAMP, ingested_at TIMESTAMP,
  then one column per leaf of the events, `_id` and `timestamp` among them
`memberships`, one row per person, namespace and segment (latest qualification wins),
sorted by namespace, segment, person_id:
  person_id BIGINT, namespace VARCHAR, segment VARCHAR,
  status VARCHAR  'realized', 'existing' or 'exited', qualified_at TIMESTAMP
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Any, Final

import orjson

from segexport.errors import ProfileStoreCorrupt, ProfileStoreError, ProfileStoreMissing
from segexport.faults import explaining
from segexport.profiles.catalogue import CATALOGUE, Catalogue, open_catalogue
from segexport.profiles.remembered import Remembered

MANIFEST: Final = "snapshot.json"
GRAPH: Final = "graph.parquet"
RANKS: Final = 1 << 40
"""The ranks of a bucket's fragments and events are below this."""
FORMAT: Final = 2
"""The layout that this version writes and reads."""
BUCKET_FILES: Final = (
    "persons.parquet",
    "fragments.parquet",
    "events.parquet",
    "memberships.parquet",
)

_SNAPSHOT_ID: Final = re.compile(r"[0-9]{8}-[0-9]{8}T[0-9]{6}Z")


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
    """One immutable state of the profile store.

    `persons` counts all, `empty` those among them of whom only events are known. `datasets`
    are those that fragments came from. `graph_rows` counts the identities in the graph.
    `evaluated_for` is the job that has had the segments evaluated, where that made the
    snapshot.
    """

    id: str
    folder: Path
    created_at: datetime
    buckets: int
    persons: int
    fragments: int
    attributes: Sequence[Attribute]
    segments: Sequence[SegmentSize]
    namespaces: Sequence[str]
    empty: int = 0
    events: int = 0
    event_attributes: Sequence[Attribute] = ()
    datasets: Sequence[str] = ()
    evaluated_for: int | None = None
    graph_rows: int = 0

    def persons_file(self, bucket: int) -> Path:
        """The bucket's persons."""
        return self.file(bucket, "persons.parquet")

    def fragments_file(self, bucket: int) -> Path:
        """The bucket's fragments."""
        return self.file(bucket, "fragments.parquet")

    def events_file(self, bucket: int) -> Path:
        """The bucket's events."""
        return self.file(bucket, "events.parquet")

    @property
    def graph_file(self) -> Path:
        """The identity graph."""
        return self.folder / GRAPH

    def memberships_file(self, bucket: int) -> Path:
        """The bucket's memberships."""
        return self.file(bucket, "memberships.parquet")

    def file(self, bucket: int, name: str) -> Path:
        """One of the bucket's files (`BUCKET_FILES`)."""
        return self.folder / f"bucket={bucket:05d}" / name

    def files(self) -> Iterator[Path]:
        """Every file but the manifest."""
        yield self.graph_file
        for bucket in range(self.buckets):
            for name in BUCKET_FILES:
                yield self.file(bucket, name)


class ProfileStore:
    """Opens snapshots, and the catalogue of what is defined.

    Raises `ProfileStoreMissing` where there is no store or no snapshot, and
    `ProfileStoreCorrupt` where a manifest or the catalogue is damaged, or a file that a
    manifest implies is missing, and another `ProfileStoreError` where the system refuses.
    A snapshot is checked when it is first opened; it and the catalogue are remembered until their
    files are replaced. May be used from several threads.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._snapshots = Remembered(_open)
        self._catalogue = Remembered(lambda file: open_catalogue(file.parent))
        self._defined = Catalogue()
        self._defining = Lock()

    @property
    def folder(self) -> Path:
        """Where the store lies."""
        return self._folder

    def latest(self) -> Snapshot:
        """The newest snapshot."""
        with self._reading():
            for name in reversed(self._names()):
                manifest = self._folder / name / MANIFEST
                if manifest.is_file():
                    return self._snapshots.get(manifest)
        raise ProfileStoreMissing(
            f"{self._folder} holds no snapshot of profiles; make one with "
            "`segexport profiles load` or `segexport profiles sample`"
        )

    def snapshot(self, snapshot_id: str) -> Snapshot:
        """The snapshot with this id."""
        manifest = self._folder / snapshot_id / MANIFEST
        with self._reading():
            if _SNAPSHOT_ID.fullmatch(snapshot_id) and manifest.is_file():
                return self._snapshots.get(manifest)
        raise ProfileStoreMissing(
            f"the profile store {self._folder} has no snapshot {snapshot_id!r}; "
            f"it has: {', '.join(self.ids()) or 'none'}"
        )

    def catalogue(self) -> Catalogue:
        """What is defined now.

        Raises `ProfileStoreCorrupt` also where it no longer holds what it has held before, be it
        gone, an older one or another one: definitions never change, so jobs would be refused, or
        done, by what nobody has defined.
        """
        file = self._folder / CATALOGUE
        with self._defining:
            found = self._catalogue.get(file)
            if found is not self._defined:
                if lost := found.lost(self._defined):
                    raise ProfileStoreCorrupt(
                        f"the catalogue {file} has lost what was defined in it ({len(lost)} "
                        f"versions, {lost[0]} among them); bring it back, or start again to go by "
                        "what it says now"
                    )
                self._defined = found
            return found

    def evaluated_for(self, job: int) -> Snapshot | None:
        """The snapshot that was made by evaluating segments for this job, if there is one."""
        for snapshot_id in reversed(self.ids()):
            if _evaluated_for(self._folder / snapshot_id / MANIFEST) == job:
                return self.snapshot(snapshot_id)
        return None

    def ids(self) -> Sequence[str]:
        """The ids of all visible snapshots, oldest first; none where there is no store."""
        with self._reading():
            return tuple(
                name for name in self._names() if (self._folder / name / MANIFEST).is_file()
            )

    def _names(self) -> Sequence[str]:
        """Of all folders that may hold a snapshot, oldest first."""
        with self._reading():
            try:
                names = [entry.name for entry in self._folder.iterdir()]
            except (FileNotFoundError, NotADirectoryError):
                return ()
        return sorted(filter(_SNAPSHOT_ID.fullmatch, names))

    def _reading(self) -> AbstractContextManager[None]:
        return explaining(unreadable, self._folder)


def unreadable(file: str, why: str) -> ProfileStoreError:
    """The error of a file or a folder of a profile store that cannot be read."""
    return ProfileStoreError(
        f"{file} of the profile store cannot be read ({why}); check its permissions, and as which "
        "user this runs"
    )


def next_snapshot_id(ids: Sequence[str], now: datetime) -> str:
    """An id that sorts behind `ids` whatever the clock says, and tells when it was made."""
    number = int(ids[-1].partition("-")[0]) + 1 if ids else 1
    return f"{number:08d}-{now:%Y%m%dT%H%M%SZ}"


def write_manifest(snapshot: Snapshot) -> Path:
    """Write the manifest beside the snapshot's files, whose sizes it records."""
    files = {
        str(path.relative_to(snapshot.folder)): path.stat().st_size for path in snapshot.files()
    }
    document = {
        "format": FORMAT,
        "id": snapshot.id,
        "created_at": snapshot.created_at.isoformat(),
        "buckets": snapshot.buckets,
        "persons": snapshot.persons,
        "fragments": snapshot.fragments,
        "attributes": snapshot.attributes,
        "segments": snapshot.segments,
        "namespaces": snapshot.namespaces,
        "empty": snapshot.empty,
        "events": snapshot.events,
        "event_attributes": snapshot.event_attributes,
        "datasets": snapshot.datasets,
        "evaluated_for": snapshot.evaluated_for,
        "graph_rows": snapshot.graph_rows,
        "files": files,
    }
    manifest = snapshot.folder / MANIFEST
    manifest.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    return manifest


def _evaluated_for(manifest: Path) -> int | None:
    """What the manifest says; nothing if it cannot be read, which matters to who opens it."""
    try:
        found = orjson.loads(manifest.read_bytes())["evaluated_for"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, int) else None


def _open(manifest: Path) -> Snapshot:
    _require_no_link(manifest.parent)
    _require_no_link(manifest)
    try:
        document = orjson.loads(manifest.read_bytes())
        form = int(document["format"])
        if form > FORMAT:
            raise ProfileStoreCorrupt(
                f"{manifest} has format {form}, written by a later version of segexport; "
                f"this one reads {FORMAT}: upgrade segexport"
            )
        if form < FORMAT:
            raise ProfileStoreCorrupt(
                f"{manifest} has format {form}, written by an earlier version of segexport; "
                f"this one reads {FORMAT}: load everything again with --fresh"
            )
        snapshot, files = _snapshot(document, manifest.parent), dict(document["files"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProfileStoreCorrupt(
            f"the manifest {manifest} cannot be read ({error!r}); restore it, or load again"
        ) from error
    for path in (*(snapshot.folder.glob("bucket=*")), *snapshot.files()):
        _require_no_link(path)
    for path in snapshot.files():
        expected = files.get(str(path.relative_to(snapshot.folder)))
        if not path.is_file() or path.stat().st_size != expected:
            raise ProfileStoreCorrupt(
                f"{path} is missing or not the {expected} bytes that {manifest} names; "
                "restore it, or load again"
            )
    return snapshot


def _require_no_link(path: Path) -> None:
    if path.is_symlink():
        raise ProfileStoreCorrupt(
            f"{path} is a symbolic link, and none is followed in a profile store; put in its place "
            "what it leads to, or load again"
        )


def _snapshot(document: dict[str, Any], folder: Path) -> Snapshot:
    if document["id"] != folder.name:
        raise ValueError(f"it belongs to snapshot {document['id']}")
    return Snapshot(
        id=document["id"],
        folder=folder,
        created_at=datetime.fromisoformat(document["created_at"]),
        buckets=int(document["buckets"]),
        persons=int(document["persons"]),
        fragments=int(document["fragments"]),
        attributes=tuple(Attribute(**attribute) for attribute in document["attributes"]),
        segments=tuple(SegmentSize(**segment) for segment in document["segments"]),
        namespaces=tuple(document["namespaces"]),
        empty=int(document["empty"]),
        events=int(document["events"]),
        event_attributes=tuple(Attribute(**each) for each in document["event_attributes"]),
        datasets=tuple(document["datasets"]),
        evaluated_for=document["evaluated_for"],
        graph_rows=int(document.get("graph_rows", 0)),  # none where nobody could load a graph
    )
