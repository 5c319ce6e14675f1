"""Evaluates segments by their definitions: the next snapshot, with new memberships.

Nothing else changes: persons, fragments, events and the identity graph are the base's own
files, by hard link where the file system has them. Bucket by bucket, all definitions at
once, so that no more than one bucket is in memory.

| before | in the segment now | stands there as | qualified |
|---|---|---|---|
| not at all, or `exited` | yes | `realized` | now |
| `realized`, `existing` | yes | `existing` | as before |
| `realized`, `existing` | no | `exited` | now |
| `exited` | no | `exited` | as before |
"""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from segexport.errors import (
    ExportCancelled,
    InvalidDefinition,
    InvalidPredicate,
    ProfileStoreError,
)
from segexport.profiles.builder import Draft, Progress, Resources, draft, link_or_copy, silent
from segexport.profiles.catalogue import PolicyDefinition, SegmentDefinition, open_catalogue
from segexport.profiles.leaves import leaf_at
from segexport.profiles.precedence import merged_value
from segexport.profiles.predicate import Predicate, parse_predicate
from segexport.profiles.predicate_terms import MERGED
from segexport.profiles.snapshots import ProfileStore, SegmentSize, Snapshot
from segexport.sql import file_to_write, identifier, literal, parquet


def evaluate(
    store: Path,
    definitions: Sequence[SegmentDefinition],
    *,
    now: datetime,
    resources: Resources,
    job: int | None = None,
    progress: Progress = silent,
) -> Snapshot:
    """Evaluate these segments; see `Evaluation.run`."""
    evaluation = Evaluation(store, definitions, now=now, resources=resources, job=job)
    return evaluation.run(progress)


class Evaluation:
    """One evaluation of segments: runs in one thread, may be interrupted from another.

    `now` is when those qualify who come to stand in a segment, or leave it. With a `job` it
    happens once, however often it is run: the job's snapshot is found again.
    """

    def __init__(
        self,
        store: Path,
        definitions: Sequence[SegmentDefinition],
        *,
        now: datetime,
        resources: Resources,
        job: int | None = None,
    ) -> None:
        self._store = store
        self._definitions = tuple(definitions)
        self._now = now
        self._resources = resources
        self._job = job
        self._interrupted = threading.Event()
        self._connection: duckdb.DuckDBPyConnection | None = None

    def interrupt(self) -> None:
        """Stop `run`. A query that is about to begin may slip through: call it again."""
        self._interrupted.set()
        connection = self._connection
        if connection is not None:
            with suppress(duckdb.Error):  # it has ended meanwhile
                connection.interrupt()

    def run(self, progress: Progress = silent) -> Snapshot:
        """Make the next snapshot.

        Raises `InvalidDefinition` if a predicate does not fit the newest snapshot,
        `ExportCancelled` when interrupted, `ProfileStoreBusy` while a load runs, and what
        else `builder.draft` raises. The store is then as before.
        """
        profiles = ProfileStore(self._store)
        profiles.latest()  # where there is none, a store is not begun
        try:
            if self._job is not None and (made := profiles.evaluated_for(self._job)):
                return made
            with draft(self._store, now=self._now, resources=self._resources) as begun:
                # Only one that holds the lock knows that nobody else makes it meanwhile.
                if self._job is not None and (made := profiles.evaluated_for(self._job)):
                    return made
                self._connection = begun.connection
                try:
                    return self._written(begun, progress)
                finally:
                    self._connection = None
        except (ProfileStoreError, duckdb.Error) as error:
            if self._interrupted.is_set():
                raise ExportCancelled("the evaluation of segments was interrupted") from error
            raise

    def _written(self, begun: Draft, progress: Progress) -> Snapshot:
        base = begun.base
        assert base is not None  # noqa: S101  (`latest` has found it)
        segments = self._parsed(base)
        sizes: dict[tuple[str, str], Counter[str]] = {one.name: Counter() for one in segments}
        begun.connection.execute(_create_evaluated(segments))
        for file in base.files():
            self._go_on()
            copy = begun.folder / file.relative_to(base.folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if file.name != "memberships.parquet":
                link_or_copy(file, copy)
        made = replace(
            base,
            id=begun.id,
            folder=begun.folder,
            created_at=begun.created_at,
            evaluated_for=self._job,
        )
        for bucket in range(base.buckets):
            self._go_on()
            progress("evaluating", bucket, base.buckets)
            target = made.memberships_file(bucket)
            begun.connection.execute(_create_inside(base, bucket, segments))
            begun.connection.execute(_copy_memberships(base, bucket, self._now, target))
            for namespace, segment, status, count in begun.connection.execute(
                _count(target)
            ).fetchall():
                sizes[namespace, segment][status] += count
        progress("evaluating", base.buckets, base.buckets)
        return begun.reveal(replace(made, segments=_sizes(base, sizes)), self._go_on)

    def _parsed(self, base: Snapshot) -> Sequence["_Segment"]:
        catalogue = open_catalogue(self._store)
        segments = []
        for number, definition in enumerate(self._definitions):
            try:
                predicate = parse_predicate(definition.predicate, base.attributes)
            except InvalidPredicate as error:
                raise InvalidDefinition(
                    f"segment {definition.segment!r} of namespace {definition.namespace!r}, "
                    f"version {definition.version}, does not fit snapshot {base.id}: {error}; "
                    "define it anew, or load what it needs"
                ) from error
            policy = catalogue.policy(definition.policy, definition.policy_version)
            name = (definition.namespace, definition.segment)
            segments.append(_Segment(number, name, predicate, policy))
        return segments

    def _go_on(self) -> None:
        if self._interrupted.is_set():
            raise ExportCancelled("the evaluation of segments was interrupted")


@dataclass(frozen=True, slots=True)
class _Segment:
    number: int
    name: tuple[str, str]
    predicate: Predicate
    policy: PolicyDefinition


def _create_evaluated(segments: Sequence[_Segment]) -> str:
    """Creates `evaluated`: number, namespace and segment of each definition."""
    values = ", ".join(
        f"({one.number}, {literal(one.name[0])}, {literal(one.name[1])})" for one in segments
    )
    return f"""
        CREATE TEMP TABLE evaluated AS
        SELECT * FROM (VALUES {values}) AS listed(number, namespace, segment)"""


def _create_inside(base: Snapshot, bucket: int, segments: Sequence[_Segment]) -> str:
    """Creates `inside`: who is in which segment now, person_id and number."""
    by_policy: dict[PolicyDefinition, list[_Segment]] = {}
    for one in segments:
        by_policy.setdefault(one.policy, []).append(one)
    queries = (_inside(base, bucket, policy, group) for policy, group in by_policy.items())
    return f"CREATE OR REPLACE TEMP TABLE inside AS {' UNION ALL '.join(queries)}"


def _inside(
    base: Snapshot, bucket: int, policy: PolicyDefinition, segments: Iterable[_Segment]
) -> str:
    paths = sorted({path for one in segments for path in one.predicate.attributes})
    columns = "".join(
        f", {merged_value(policy, _read(base, path))} AS {identifier(path)}" for path in paths
    )
    standing = ", ".join(f"CASE WHEN {one.predicate.sql} THEN {one.number} END" for one in segments)
    # Persons without a fragment take part: nothing is known of them.
    return f"""
        SELECT person_id, number
        FROM (SELECT persons.person_id, unnest([{standing}]) AS number
              FROM {parquet([base.persons_file(bucket)])} AS persons
              LEFT JOIN (SELECT person_id{columns}
                         FROM {parquet([base.fragments_file(bucket)])}
                         GROUP BY person_id) AS {MERGED} USING (person_id))
        WHERE number IS NOT NULL"""


def _read(base: Snapshot, path: str) -> str:
    """What a fragment has at a path: its own column, or JSON that lies within another one."""
    leaf = leaf_at(path, base.attributes, identifier)
    return leaf.json if leaf and leaf.inside else identifier(path)


def _copy_memberships(base: Snapshot, bucket: int, now: datetime, target: Path) -> str:
    before = parquet([base.memberships_file(bucket)])
    moment = f"TIMESTAMP {literal(now.astimezone(UTC).replace(tzinfo=None).isoformat(' '))}"
    return f"""
        COPY (
          WITH stood AS (
            SELECT person_id, number, status = 'exited' AS was_out, qualified_at
            FROM {before} JOIN evaluated USING (namespace, segment)
          ), standing AS (
            SELECT person_id, number,
                   CASE WHEN is_in AND NOT was_out THEN 'existing'
                        WHEN is_in THEN 'realized' ELSE 'exited' END AS status,
                   CASE WHEN coalesce(is_in, false) <> was_out THEN qualified_at
                        ELSE {moment} END AS qualified_at
            FROM stood FULL JOIN (SELECT *, true AS is_in FROM inside) USING (person_id, number)
          )
          SELECT person_id, namespace, segment, status, qualified_at
          FROM {before} ANTI JOIN evaluated USING (namespace, segment)
          UNION ALL
          SELECT person_id, namespace, segment, status, qualified_at
          FROM standing JOIN evaluated USING (number)
          ORDER BY namespace, segment, person_id
        ) TO {file_to_write(target)} (FORMAT parquet)"""


def _count(memberships: Path) -> str:
    return f"""
        SELECT namespace, segment, status, count(*)
        FROM {parquet([memberships])} SEMI JOIN evaluated USING (namespace, segment) GROUP BY ALL"""


def _sizes(
    base: Snapshot, evaluated: Mapping[tuple[str, str], Counter[str]]
) -> Sequence[SegmentSize]:
    """The base's segments, with new sizes of those that were evaluated, empty ones included."""
    sizes = {(one.namespace, one.segment): one for one in base.segments}
    for (namespace, segment), by_status in evaluated.items():
        sizes[namespace, segment] = SegmentSize(
            namespace=namespace,
            segment=segment,
            realized=by_status["realized"],
            existing=by_status["existing"],
            exited=by_status["exited"],
        )
    return tuple(sizes[name] for name in sorted(sizes))
