"""Takes persons out of the profile store, and out of what it keeps beside its snapshots.

Snapshots do not change, so an erasure makes the next one without the persons: files that
hold none of them are linked, the others are written anew. Older snapshots that hold them
are deleted, unless an unfinished job works on one.
"""

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import duckdb
import orjson

from segexport.errors import ProfileStoreError
from segexport.profiles.builder import STAGING, Draft, Resources, draft, link_or_copy
from segexport.profiles.graph import rows_that_count
from segexport.profiles.snapshots import ProfileStore, Snapshot
from segexport.profiles.subjects import Identity, Subject, person_ids
from segexport.sql import file_to_write, literal, parquet

_SIZES: Final = ("realized", "existing", "exited")


@dataclass(frozen=True, slots=True)
class ErasedSnapshots:
    """What an erasure has done to snapshots.

    `made` is the newest one now; None where the newest held none of the persons. Its identity
    graph has `graph_rows` less. `deleted` held some of them and are gone. `in_use` hold some
    and stay, for unfinished jobs.
    """

    made: Snapshot | None
    graph_rows: int
    deleted: Sequence[str]
    in_use: Sequence[str]


class Unfinished:
    """Remembers, for an identity, which persons an erasure is not done with yet.

    When the store has forgotten them, nothing else would lead from the identity to the ids
    that batches and discards carry. Kept are ids alone, under a hash of the identity.
    """

    def __init__(self, store: Path, identity: Identity) -> None:
        name = hashlib.sha256(str(identity).encode()).hexdigest()
        self._file = store / "erasures" / f"{name}.json"

    def begin(self, persons: Collection[int]) -> frozenset[int]:
        """All persons that are still to be erased: these, and those remembered."""
        with suppress(FileNotFoundError):
            persons = {*persons, *orjson.loads(self._file.read_bytes())}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        written = self._file.with_suffix(".next")
        written.write_bytes(orjson.dumps(sorted(persons)))
        written.rename(self._file)
        return frozenset(persons)

    def end(self) -> None:
        """Everything is erased."""
        self._file.unlink(missing_ok=True)


def erase_from_snapshots(
    store: Path,
    subjects: Sequence[Subject],
    *,
    now: datetime,
    resources: Resources,
    in_use: Collection[str],
) -> ErasedSnapshots:
    """Make a newest snapshot without these persons, and delete the older ones that hold them.

    `in_use` are the ids of snapshots that unfinished jobs work on. Raises what `draft`
    raises; the store is then as it was.
    """
    made, graph_rows = None, 0
    # Looked for under the draft's lock: a load that ended meanwhile would be lost otherwise.
    with draft(store, now=now, resources=resources) as successor:
        ids = person_ids(store, subjects)
        opened = ProfileStore(store)
        holding = [
            snapshot
            for snapshot in map(opened.snapshot, opened.ids())
            if _holds(successor.connection, snapshot, ids, subjects)
        ]
        if holding and successor.base and holding[-1].id == successor.base.id:
            made = _without(successor, holding[-1], ids, subjects)
            graph_rows = holding[-1].graph_rows - made.graph_rows
        deleted = [snapshot for snapshot in holding if snapshot.id not in in_use]
        for snapshot in deleted:
            _delete(store, snapshot)
    return ErasedSnapshots(
        made=made,
        graph_rows=graph_rows,
        deleted=[snapshot.id for snapshot in deleted],
        in_use=[snapshot.id for snapshot in holding if snapshot.id in in_use],
    )


def erase_from_rejects(store: Path, subjects: Sequence[Subject]) -> int:
    """Delete refused records that name an identity of these persons; how many they were.

    Only files in the store's own folder of rejects are looked through.
    """
    quoted = [
        orjson.dumps(orjson.dumps(identity.id).decode())[1:-1]
        for subject in subjects
        for identity in subject.identities
    ]
    erased = 0
    for leftover in (store / "rejects").glob("*.rewritten"):  # of an erasure that was killed
        leftover.unlink()
    for file in sorted((store / "rejects").glob("*.ndjson")):
        with file.open("rb") as lines:
            matching = sum(any(each in line for each in quoted) for line in lines)
        if not matching:
            continue
        erased += matching
        rewritten = file.with_suffix(".rewritten")
        with file.open("rb") as lines, rewritten.open("wb") as kept:
            kept.writelines(line for line in lines if not any(each in line for each in quoted))
            kept.flush()
            os.fsync(kept.fileno())
        rewritten.rename(file)
    return erased


def _holds(
    database: duckdb.DuckDBPyConnection,
    snapshot: Snapshot,
    ids: Collection[int],
    subjects: Sequence[Subject],
) -> bool:
    buckets = sorted({person_id % snapshot.buckets for person_id in ids})
    files = [snapshot.persons_file(bucket) for bucket in buckets]
    query = (
        f"SELECT 1 FROM {parquet(files)} WHERE person_id IN ({_listed(ids)}) UNION ALL "
        f"SELECT 1 FROM {parquet([snapshot.graph_file])} WHERE {_of_graph(subjects)} LIMIT 1"
    )
    return database.execute(query).fetchone() is not None


def _without(
    successor: Draft, base: Snapshot, ids: Collection[int], subjects: Sequence[Subject]
) -> Snapshot:
    """The next snapshot: the base without these persons."""
    touched = {person_id % base.buckets for person_id in ids}
    removed = _removed(successor.connection, base, touched, ids)
    of_graph = f"(FROM {parquet([base.graph_file])} WHERE {_of_graph(subjects)})"
    snapshot = replace(
        base,
        id=successor.id,
        folder=successor.folder,
        created_at=successor.created_at,
        persons=base.persons - removed.total("persons"),
        empty=base.empty - removed.total("empty"),
        fragments=base.fragments - removed.total("fragments"),
        events=base.events - removed.total("events"),
        graph_rows=base.graph_rows - rows_that_count(successor.connection, of_graph),
        segments=tuple(
            replace(
                size,
                **{
                    status: getattr(size, status)
                    - removed.segments[size.namespace, size.segment, status]
                    for status in _SIZES
                },
            )
            for size in base.segments
        ),
    )
    for old, new in zip(base.files(), snapshot.files(), strict=True):
        new.parent.mkdir(parents=True, exist_ok=True)
        if old == base.graph_file:
            rest = f"NOT ({_of_graph(subjects)})"
        elif old.parent in {base.persons_file(bucket).parent for bucket in touched}:
            rest = f"person_id NOT IN ({_listed(ids)})"
        else:
            link_or_copy(old, new)
            continue
        successor.connection.execute(
            f"COPY (SELECT * FROM {parquet([old])} WHERE {rest}) "
            f"TO {file_to_write(new)} (FORMAT parquet)"
        )
    return successor.reveal(snapshot)


@dataclass(frozen=True, slots=True)
class _Removed:
    """How many rows of each kind an erasure removes."""

    rows: Counter[str]
    segments: Counter[tuple[str, str, str]]

    def total(self, kind: str) -> int:
        return self.rows[kind]


def _removed(
    connection: duckdb.DuckDBPyConnection,
    base: Snapshot,
    buckets: Collection[int],
    ids: Collection[int],
) -> _Removed:
    these = f"WHERE person_id IN ({_listed(ids)})"

    def count(files: Sequence[Path], what: str = "count(*)") -> int:
        found: Any = connection.execute(f"SELECT {what} FROM {parquet(files)} {these}").fetchone()
        return int(found[0])

    persons = [base.persons_file(bucket) for bucket in buckets]
    memberships = [base.memberships_file(bucket) for bucket in buckets]
    segments = connection.execute(
        f"SELECT namespace, segment, status, count(*) FROM {parquet(memberships)} {these} "
        "GROUP BY ALL"
    ).fetchall()
    return _Removed(
        rows=Counter(
            persons=count(persons),
            empty=count(persons, "count(*) FILTER (NOT has_record)"),
            fragments=count([base.fragments_file(bucket) for bucket in buckets]),
            events=count([base.events_file(bucket) for bucket in buckets]),
        ),
        segments=Counter(
            {(namespace, segment, status): size for namespace, segment, status, size in segments}
        ),
    )


def _delete(store: Path, snapshot: Snapshot) -> None:
    """Make a snapshot invisible, then remove its files; a `sweep` does what is left of it."""
    doomed = store / f"{STAGING}{snapshot.id}"
    try:
        snapshot.folder.rename(doomed)
        shutil.rmtree(doomed)
    except OSError as error:
        raise ProfileStoreError(
            f"snapshot {snapshot.id} cannot be deleted ({error}); check the permissions of "
            f"{store}, and erase again"
        ) from error


def _of_graph(subjects: Sequence[Subject]) -> str:
    """SQL for whether a row of the graph says something of these persons, as they are or were."""
    return " OR ".join(
        f"person_key = {literal(subject.person_key)} OR ("
        f"list_contains({_texts(subject.former_keys)}, person_key) AND "
        f"list_contains({_texts(map(str, subject.identities))}, "
        "ltrim(namespace, ':') || ':' || id))"
        for subject in subjects
    )


def _texts(words: Iterable[str]) -> str:
    return f"[{', '.join(map(literal, sorted(words)))}]::VARCHAR[]"


def _listed(ids: Collection[int]) -> str:
    return ", ".join(map(str, sorted(ids)))
