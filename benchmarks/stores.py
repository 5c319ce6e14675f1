"""Profile stores to measure on: the sample, and others that are made of it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import duckdb

from segexport.database import open_database
from segexport.profiles.builder import Resources, link_or_copy
from segexport.profiles.sample import build_sample
from segexport.profiles.snapshots import SegmentSize, Snapshot, write_manifest
from segexport.settings import Settings
from segexport.sql import file_to_write, parquet

LARGE_SHARE: Final = 0.6
SMALL_SEGMENTS: Final = 10
"""So many segments are small, and as many empty."""
SMALL_MEMBERS: Final = 10


def sample(settings: Settings, profiles: int) -> Snapshot:
    """The sample: 1.3 fragments a person, 20 memberships each."""
    return build_sample(
        settings.profiles_folder,
        profiles=profiles,
        seed=1,
        now=datetime.now(UTC),
        resources=Resources(
            threads=settings.exports.threads, memory_limit=settings.exports.memory_limit
        ),
    )


def merged(sampled: Snapshot, settings: Settings) -> Snapshot:
    """The persons of a sample with one fragment each: there is nothing left to merge."""
    with _database(settings) as database:
        return _changed(
            sampled,
            settings,
            database,
            Snapshot.fragments_file,
            lambda bucket: (
                f"FROM {parquet([sampled.fragments_file(bucket)])} WHERE dataset_id = 'crm'"
            ),
            fragments=sampled.persons,
        )


def skewed(sampled: Snapshot, settings: Settings) -> tuple[Snapshot, Sequence[SegmentSize]]:
    """A sample with segments of very different sizes beside its own, and these segments.

    The first has 60 % of all persons; ten have ten members each, scattered over the store;
    ten are empty.
    """
    buckets = range(sampled.buckets)
    everyone = parquet([*map(sampled.persons_file, buckets)])
    large = f"hash(person_id) % 1000 < {round(1000 * LARGE_SHARE)}"
    with _database(settings) as database:
        database.execute(
            f"""CREATE TABLE members AS
                SELECT person_id, 'large' AS segment FROM {everyone} WHERE {large}
                UNION ALL
                SELECT person_id, 'small-' || place % {SMALL_SEGMENTS}
                FROM (SELECT person_id, row_number() OVER (ORDER BY hash(person_id, 1)) AS place
                      FROM {everyone})
                WHERE place <= {SMALL_SEGMENTS * SMALL_MEMBERS}"""
        )
        sizes = database.execute("SELECT segment, count(*) FROM members GROUP BY ALL ORDER BY ALL")
        counts = dict(sizes.fetchall())
        names = [*counts, *(f"empty-{number}" for number in range(SMALL_SEGMENTS))]
        segments = [
            SegmentSize(
                namespace="skew",
                segment=name,
                realized=counts.get(name, 0),
                existing=0,
                exited=0,
            )
            for name in names
        ]

        def memberships(bucket: int) -> str:
            return f"""
                SELECT * FROM (
                    FROM {parquet([sampled.memberships_file(bucket)])}
                    UNION ALL
                    SELECT person_id, 'skew', segment, 'realized', TIMESTAMP '2026-01-01'
                    FROM members WHERE person_id % {sampled.buckets} = {bucket})
                ORDER BY namespace, segment, person_id"""

        snapshot = _changed(
            sampled,
            settings,
            database,
            Snapshot.memberships_file,
            memberships,
            segments=(*sampled.segments, *segments),
        )
    return snapshot, segments


def _database(settings: Settings) -> duckdb.DuckDBPyConnection:
    return open_database(
        threads=settings.exports.threads,
        memory_limit=settings.exports.memory_limit,
        spill=settings.data / "spill",
    )


def _changed(
    sampled: Snapshot,
    settings: Settings,
    database: duckdb.DuckDBPyConnection,
    file_of: Callable[[Snapshot, int], Path],
    rows: Callable[[int], str],
    **facts: Any,
) -> Snapshot:
    """A snapshot in the store of the settings that has other rows in one file of each bucket."""
    snapshot = replace(sampled, folder=settings.profiles_folder / sampled.id, **facts)
    other = {file_of(snapshot, bucket): rows(bucket) for bucket in range(snapshot.buckets)}
    for source, target in zip(sampled.files(), snapshot.files(), strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target in other:
            database.execute(f"COPY ({other[target]}) TO {file_to_write(target)} (FORMAT parquet)")
        else:
            link_or_copy(source, target)
    write_manifest(snapshot)
    return snapshot
