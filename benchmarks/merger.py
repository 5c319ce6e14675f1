"""The merge of a full export in Polars, on the same store: a peer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import polars as pl

from segexport.profiles.snapshots import Snapshot


class Merger:
    """Merges a snapshot, lazily, on Polars' streaming engine.

    Columns stay flat, as they are stored. Nothing is counted, checked, forced to disk or
    published.
    """

    def __init__(self, snapshot: Snapshot, target: Path) -> None:
        buckets = range(snapshot.buckets)
        self._persons = [snapshot.persons_file(bucket) for bucket in buckets]
        self._fragments = [snapshot.fragments_file(bucket) for bucket in buckets]
        self._attributes = [attribute.path for attribute in snapshot.attributes]
        self._target = target

    def merge(self) -> int:
        """Merge everyone, write one file, and return the profiles in it.

        Fragments are stored in the order of their ranks, so that the last value is the latest.
        """
        persons = pl.scan_parquet(self._persons, hive_partitioning=False)
        fragments = pl.scan_parquet(self._fragments, hive_partitioning=False)
        latest = pl.col(self._attributes).last(ignore_nulls=True)
        profiles = persons.select("person_id", "identity_map").join(
            fragments.group_by("person_id").agg(latest), on="person_id"
        )
        profiles.sink_parquet(self._target, compression="snappy")  # DuckDB's own default
        return int(pl.scan_parquet(self._target).select(pl.len()).collect().item())


@asynccontextmanager
async def merger(snapshot: Snapshot, target: Path) -> AsyncIterator[Merger]:
    """Merges a snapshot into the file `target`, over and over."""
    yield Merger(snapshot, target)
