"""Builds the next snapshot of a profile store: the one writer of its layout.

Work happens in `<store>/.staging-<snapshot id>`, held by a lock on `<store>/.lock`. The
snapshot becomes visible by one rename, after all its files are on disk. Whatever a killed
build left behind is removed by the next one.
"""

import fcntl
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import duckdb

from segexport.database import open_database
from segexport.errors import ProfileStoreBusy, ProfileStoreError
from segexport.modes import make_private
from segexport.profiles.graph import Graph, empty_graph, graph_of
from segexport.profiles.merging import Bucket, Contents, Incoming, merge
from segexport.profiles.moving import Moved
from segexport.profiles.snapshots import (
    Attribute,
    ProfileStore,
    SegmentSize,
    Snapshot,
    next_snapshot_id,
    write_manifest,
)

FRAGMENTS_PER_BUCKET: Final = 131_072
"""What one bucket should hold: a piece of an export that fits well into memory."""

STAGING: Final = ".staging-"
"""What begins the names of folders that nobody needs once whoever made them has ended."""

Progress = Callable[[str, int, int], None]
"""Hears which step a build is at, how much of it is done, and of how much."""


def silent(_step: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What DuckDB may use while it builds: threads and memory (in DuckDB's notation)."""

    threads: int
    memory_limit: str = "2GB"


def buckets_for(fragments: int) -> int:
    """The number of buckets, a power of two, for that many fragments."""
    wanted = -(-fragments // FRAGMENTS_PER_BUCKET)
    return 1 << max(0, wanted - 1).bit_length()


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A snapshot that is being built; nobody else sees it before it is published.

    `base` is the snapshot that it adds to, if any; `staging` a folder that goes away with
    the draft; `connection` is DuckDB with bounded memory that spills there.
    """

    store: Path
    staging: Path
    id: str
    created_at: datetime
    base: Snapshot | None
    connection: duckdb.DuckDBPyConnection

    @property
    def folder(self) -> Path:
        """Where the snapshot's files are written."""
        return self.staging / "snapshot"

    def publish(
        self,
        *,
        buckets: int,
        attributes: Sequence[Attribute],
        event_attributes: Sequence[Attribute] = (),
        incoming: Callable[[int], Incoming],
        graph: Graph | None = None,
        moved: Moved | None = None,
        progress: Progress = silent,
    ) -> Snapshot:
        """Write the buckets one by one, and make them the newest snapshot of the store.

        `incoming` says what is new in a bucket, `graph` is the identity graph, the base's
        unless given, and `moved` are the persons who get another key by it. Raises
        `ProfileStoreError` if two persons share an id.
        """
        folder = self.folder
        contents = []
        for number in range(buckets):
            progress("merging", number, buckets)
            bucket = Bucket(
                number=number,
                of=buckets,
                folder=folder / f"bucket={number:05d}",
                base=self.base,
                moved=moved,
                incoming=incoming(number),
                attributes=attributes,
                event_attributes=event_attributes,
            )
            contents.append(merge(self.connection, bucket))
        progress("merging", buckets, buckets)
        graph = graph or self.graph()
        snapshot = Snapshot(
            id=self.id,
            folder=folder,
            created_at=self.created_at,
            buckets=buckets,
            persons=sum(bucket.persons for bucket in contents),
            fragments=sum(bucket.fragments for bucket in contents),
            attributes=tuple(attributes),
            segments=_segment_sizes(contents),
            namespaces=tuple(sorted(frozenset().union(*(each.namespaces for each in contents)))),
            empty=sum(bucket.empty for bucket in contents),
            events=sum(bucket.events for bucket in contents),
            event_attributes=tuple(event_attributes),
            datasets=tuple(sorted(frozenset().union(*(each.datasets for each in contents)))),
            graph_rows=graph.rows,
        )
        link_or_copy(graph.file, snapshot.graph_file)
        return self.reveal(snapshot)

    def graph(self) -> Graph:
        """The base's identity graph, or an empty one."""
        if self.base:
            return graph_of(self.base)
        return empty_graph(self.connection, self.staging / "empty-graph.parquet")

    def reveal(self, snapshot: Snapshot, go_on: Callable[[], None] = lambda: None) -> Snapshot:
        """Make a snapshot whose files are all in `folder` the newest of the store.

        `go_on` is called before each of them is forced to disk: what it raises ends this.
        """
        _put_on_disk(snapshot, write_manifest(snapshot), go_on)
        self.folder.rename(self.store / self.id)
        _sync(self.store)
        return ProfileStore(self.store).snapshot(self.id)


@contextmanager
def draft(
    store: Path, *, now: datetime, resources: Resources, fresh: bool = False
) -> Iterator[Draft]:
    """A draft of the store's next snapshot; alone, and gone afterwards unless published.

    `fresh` starts from nothing instead of the newest snapshot. `now` is UTC.

    Raises `ProfileStoreBusy` while another build runs, `ProfileStoreCorrupt` if the snapshot
    to add to is damaged, and `ProfileStoreError` if the folder cannot be written or DuckDB
    fails (the disk or its memory is full).
    """
    with ExitStack() as cleanup:
        try:
            make_private(store)
            cleanup.enter_context(_alone(store))
            _sweep(store)
            opened = ProfileStore(store)
            ids = opened.ids()
            base = opened.snapshot(ids[-1]) if ids and not fresh else None
            snapshot_id = next_snapshot_id(ids, now)
            staging = store / f"{STAGING}{snapshot_id}"
            (staging / "spill").mkdir(parents=True)
            cleanup.callback(shutil.rmtree, staging, ignore_errors=True)
            connection = cleanup.enter_context(_connect(staging / "spill", resources))
            yield Draft(
                store=store,
                staging=staging,
                id=snapshot_id,
                created_at=now,
                base=base,
                connection=connection,
            )
        except duckdb.OutOfMemoryException as error:
            raise ProfileStoreError(
                f"no snapshot was made in {store}: {resources.memory_limit} of memory were not "
                "enough; raise exports.memory_limit, or lower exports.threads"
            ) from error
        except RuntimeError as error:
            if str(error) == "Query interrupted":  # DuckDB's word for Ctrl-C during a query
                raise KeyboardInterrupt from error
            raise
        except (OSError, duckdb.Error) as error:
            why = str(error).partition("\n")[0]
            raise ProfileStoreError(
                f"no snapshot was made in {store}: {why}; nothing of it was kept"
            ) from error


def sweep(store: Path) -> None:
    """Remove what a killed build, or a killed erasure, has left behind.

    Raises `ProfileStoreBusy` while a build runs, and `ProfileStoreError`.
    """
    if not store.is_dir():
        return
    try:
        with _alone(store):
            _sweep(store)
    except OSError as error:
        raise ProfileStoreError(
            f"{error.filename or store} cannot be removed ({error.strerror}); check the "
            "permissions of the profile store"
        ) from error


def _sweep(store: Path) -> None:
    for leftover in store.glob(f"{STAGING}*"):
        shutil.rmtree(leftover)


def _connect(spill: Path, resources: Resources) -> duckdb.DuckDBPyConnection:
    connection = open_database(
        threads=resources.threads, memory_limit=resources.memory_limit, spill=spill
    )
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    return connection


@contextmanager
def _alone(store: Path) -> Iterator[None]:
    """Hold the store's lock. The kernel frees it when the process ends, however it ends."""
    with (store / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ProfileStoreBusy(
                f"another load or evaluation is writing to {store}; try again when it has ended"
            ) from error
        yield


def _segment_sizes(contents: Sequence[Contents]) -> Sequence[SegmentSize]:
    sizes: dict[tuple[str, str], Counter[str]] = {}
    for bucket in contents:
        for segment, by_status in bucket.segments.items():
            sizes.setdefault(segment, Counter()).update(by_status)
    return tuple(
        SegmentSize(
            namespace=namespace,
            segment=segment,
            realized=by_status["realized"],
            existing=by_status["existing"],
            exited=by_status["exited"],
        )
        for (namespace, segment), by_status in sorted(sizes.items())
    )


def link_or_copy(file: Path, target: Path) -> None:
    """Give a file that never changes a second name."""
    try:
        os.link(file, target)
    except OSError:  # a file system without hard links, or too many of this file
        shutil.copyfile(file, target)


def _put_on_disk(snapshot: Snapshot, manifest: Path, go_on: Callable[[], None]) -> None:
    for file in (*snapshot.files(), manifest):
        go_on()
        _sync(file)
    for folder in {file.parent for file in snapshot.files()} | {snapshot.folder}:
        _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
