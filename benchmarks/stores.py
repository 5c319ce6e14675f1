"""Profile stores to measure on: the sample, and others that are made of it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from segexport.database import open_database
from segexport.profiles.builder import Resources, link_or_copy
from segexport.profiles.sample import build_sample
from segexport.profiles.snapshots import Snapshot, write_manifest
from segexport.settings import Settings
from segexport.sql import literal, parquet


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
            database.execute(f"COPY ({other[target]}) TO {literal(target)} (FORMAT parquet)")
        else:
            link_or_copy(source, target)
    write_manifest(snapshot)
    return snapshot
