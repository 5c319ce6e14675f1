"""Exports through a real worker against DuckDB's COPY of as many rows, and against Polars.

    python benchmarks/exports.py [--profiles 1000000] [--runs 5] [--folder DIR]

`against_copy.py` says what is compared. Polars does the merge alone, see `merger.py`; that its
values are those of the export is checked. One segment is measured twice: in a store of 1.3
fragments a profile, which are merged when they are read, and in one where each profile has one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import stores
from against_copy import against_copy
from apart import apart
from command import run
from exporter import SCOPE, Wanted
from merger import merger
from segexport.database import open_database
from segexport.exports.dataset import Datasets
from segexport.profiles.snapshots import SegmentSize, Snapshot
from segexport.settings import Settings
from segexport.sql import identifier, parquet

FULL: Final = 1.6
MERGED_BEFORE: Final = 1.5
MERGED_WHEN_READ: Final = 2.0
TEN_BATCHES: Final = 1.7
"""Aims: the most that an export should take, in times of the copy."""

SHARE: Final = 0.1
"""The one segment is the one whose size is nearest to this share of all profiles."""


async def measure(folder: Path, profiles: int, runs: int) -> None:
    """Make both stores, and print all comparisons."""
    settings = Settings(data=folder / "sampled")
    snapshot = stores.sample(settings, profiles)
    segments = _segments(snapshot)
    merged_file = folder / "merged.parquet"
    async with against_copy(settings, runs=runs) as sides:
        async with apart(merger, snapshot, merged_file) as merging:
            await sides.full(
                "full export",
                Wanted("full"),
                at_most=FULL,
                others={"Polars, merge only": lambda: merging.run("merge")},
            )
        _require_same(settings, snapshot, merged_file)
        await sides.one("one segment, merged when read", segments[0], at_most=MERGED_WHEN_READ)
        await sides.several("ten segments, a batch each", segments, at_most=TEN_BATCHES)
        await sides.full("full export for a journey", Wanted("journey", namespace="Email"))

    settings = Settings(data=folder / "merged")
    stores.merged(snapshot, settings)
    async with against_copy(settings, runs=runs) as sides:
        await sides.one("one segment, merged before", segments[0], at_most=MERGED_BEFORE)


def _segments(snapshot: Snapshot) -> Sequence[SegmentSize]:
    """Ten segments, those nearest to the wanted size first."""
    wanted = SHARE * snapshot.persons
    return sorted(snapshot.segments, key=lambda one: abs(one.realized + one.existing - wanted))[:10]


def _require_same(settings: Settings, snapshot: Snapshot, merged: Path) -> None:
    """A peer that merges something else is no peer."""
    (batch,) = Datasets(settings.datasets_folder).dataset(SCOPE, "whole").batches()
    flat = [identifier(attribute.path) for attribute in snapshot.attributes]
    nested = [
        ".".join(map(identifier, attribute.path.split("."))) for attribute in snapshot.attributes
    ]
    with open_database() as database:
        ours, theirs = (
            database.execute(
                f"SELECT bit_xor(hash(person_id, {', '.join(values)})) FROM {relation}"
            ).fetchone()
            for relation, values in ((batch.relation, nested), (parquet([merged]), flat))
        )
    if ours != theirs:
        raise RuntimeError("Polars has merged other values than the export")


if __name__ == "__main__":
    run("exports", measure, __doc__, "duckdb", "polars")
