"""Exports through the real worker against DuckDB's COPY of as many rows and the same columns.

The peer reads what a full export has written, merged and nested already, and copies it: all of
it, or, for one segment, as many rows, scattered over the whole. For several segments, each a
batch of its own, it copies all rows of the batches. Each side runs in a process of its own.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from apart import Apart, apart
from copier import copier
from exporter import SCOPE, Wanted, exporter
from measure import Case, Comparison, Run, aim, compare
from segexport.exports.dataset import Batch, Datasets
from segexport.profiles.snapshots import ProfileStore, SegmentSize
from segexport.settings import Settings
from segexport.sql import parquet

OURS: Final = "segexport"
COPY: Final = "DuckDB COPY"
MEMORY: Final = 1.0
"""GB that the process of the worker should take at most."""


class AgainstCopy:
    """Both sides, over one profile store. Prints each comparison with its aim."""

    def __init__(self, settings: Settings, ours: Apart, copy: Apart, *, runs: int) -> None:
        self._settings = settings
        self._ours = ours
        self._copy = copy
        self._runs = runs

    async def full(
        self,
        title: str,
        wanted: Wanted,
        *,
        at_most: float | None = None,
        others: Mapping[str, Run] | None = None,
    ) -> None:
        """Everyone, against a copy of everything, and perhaps others beside it."""
        whole = self._batches("whole")[0].relation
        await self._compare(title, wanted, partial(self._copy.run, "copy", whole), at_most, others)

    async def one(self, title: str, segment: SegmentSize, *, at_most: float) -> None:
        """One segment, against scanning everything and copying as many rows."""
        members = segment.realized + segment.existing
        marked = self._settings.data / f"{segment.namespace}-{segment.segment}.parquet"
        await self._copy.call("mark", self._batches("whole")[0].relation, members, marked)
        copy = partial(self._copy.run, "copy_marked", marked)
        named = f"{title}: {segment.namespace}/{segment.segment}, {members:,} profiles"
        await self._compare(named, Wanted("one", [segment]), copy, at_most)
        marked.unlink()

    async def several(self, title: str, segments: Sequence[SegmentSize], *, at_most: float) -> None:
        """Several segments with a batch each, against a copy of all rows of the batches."""
        await self._ours.call("export", Wanted("copied", segments))
        files = [path for batch in self._batches("copied") for path in batch.paths]
        copy = partial(self._copy.run, "copy", parquet(files))
        await self._compare(title, Wanted("several", segments), copy, at_most)

    async def _compare(
        self,
        title: str,
        wanted: Wanted,
        copy: Run,
        at_most: float | None,
        others: Mapping[str, Run] | None = None,
    ) -> None:
        folder = Datasets(self._settings.datasets_folder).dataset(SCOPE, wanted.dataset).folder
        comparison = await compare(
            title,
            {
                OURS: Case(partial(self._ours.run, "export", wanted), after=folder.remove),
                COPY: copy,
                **(others or {}),
            },
            runs=self._runs,
            baseline=COPY,
        )
        _require_as_many(comparison)
        print(comparison)
        if at_most is not None:
            print(aim(f"{OURS}'s time, against {COPY},", comparison.time(OURS), at_most))
        peak = comparison.sides[OURS].peak or 0
        print(aim(f"{OURS}'s peak of memory, in GB,", peak / 1e9, MEMORY), "\n")

    def _batches(self, dataset: str) -> Sequence[Batch]:
        return Datasets(self._settings.datasets_folder).dataset(SCOPE, dataset).batches()


@asynccontextmanager
async def against_copy(settings: Settings, *, runs: int) -> AsyncIterator[AgainstCopy]:
    """Start both sides, and make the full export that is copied."""
    snapshot = ProfileStore(settings.profiles_folder).latest()
    async with (
        apart(exporter, settings) as ours,
        apart(copier, settings, settings.data / "copy.parquet") as copy,
    ):
        first = await ours.run("export", Wanted("whole"))
        print(
            f"{snapshot.persons:,} profiles, {snapshot.fragments:,} fragments, "
            f"{snapshot.buckets} buckets; {settings.exports.threads} threads, "
            f"{settings.exports.slots} pieces in flight, {settings.exports.memory_limit}; the "
            f"first export of a fresh worker took {first.seconds:.2f} s\n"
        )
        yield AgainstCopy(settings, ours, copy, runs=runs)


def _require_as_many(comparison: Comparison) -> None:
    """Sides that did not do the same are not compared."""
    done = {name: {ran.items for ran in side.runs} for name, side in comparison.sides.items()}
    if len(set.union(*done.values())) != 1:
        raise RuntimeError(f"{comparison.name}: the sides did not do as many profiles: {done}")
