"""One piece of an export, step by step; what a step means on an engine is its `Desk`'s."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from segexport.errors import ProfileStoreCorrupt
from segexport.exports.engine import Part, PieceResult, Written
from segexport.exports.engines.queries import Queries, Sources
from segexport.exports.plan import ExportPlan
from segexport.jobs.request import FileFormat

PICKING: Final = 0.3
"""Share of a piece's time that selecting takes, before the rows are merged and written."""


class Desk(Protocol):
    """Where an engine works on a piece: tables that nobody else sees, and files.

    Every method raises what `segexport.exports.engine` says.
    """

    def make(self, table: str, query: str) -> None:
        """Keep the rows of a query under a name."""
        ...

    def rows(self, query: str) -> Sequence[Sequence[Any]]:
        """The rows of a query."""
        ...

    def write(self, query: str, target: Path, kind: FileFormat) -> Written:
        """Write the rows of a query to one file, in the query's order if it has one."""
        ...

    def write_batches(
        self, query: str, targets: Mapping[int, Path], kind: FileFormat
    ) -> Mapping[int, Written]:
        """Write the rows of a query to a file for each number that its column `BATCH` has.

        The column itself is not written.
        """
        ...

    def reached(self, done: float) -> None:
        """This share of the piece is done."""
        ...


def run_piece(
    queries: Queries,
    index: int,
    desk: Desk,
    sources: Sources,
    *,
    data: Sequence[Path],
    discards: Path,
) -> PieceResult:
    """Select, judge, merge and write; see `segexport.exports.engine.Run.run_piece`."""
    plan = queries.plan
    select(queries, desk, sources)
    desk.make(sources.picked, queries.picked(sources))
    counts = {
        batch: (selected, discarded)
        for batch, selected, discarded in desk.rows(queries.counts(sources))
    }
    namespaces: dict[int, dict[str, int]] = {}
    for batch, namespace, profiles in desk.rows(queries.namespaces(sources)):
        namespaces.setdefault(batch, {})[namespace] = profiles
    desk.reached(PICKING)
    exported = {batch: selected - discarded for batch, (selected, discarded) in counts.items()}
    targets = {
        batch: data[batch] for batch in range(plan.batches) if index == 0 or exported.get(batch)
    }
    written = _write(queries, desk, sources, targets, exported)
    parts = []
    for batch in range(plan.batches):
        selected, discarded = counts.get(batch, (0, 0))
        part = Part(
            selected=selected,
            discarded=discarded,
            data=written.get(batch),
            namespaces=namespaces.get(batch, {}),
        )
        _check(part, plan, index)
        parts.append(part)
    told = None
    if any(part.discarded for part in parts):
        told = desk.write(queries.discards(sources), discards, FileFormat.PARQUET)
    return PieceResult(parts=parts, discards=told)


def select(queries: Queries, desk: Desk, sources: Sources) -> None:
    """Make the table of who stands in the plan's segments, if it has any."""
    if queries.plan.segments:
        desk.make(sources.selected, queries.selected(sources))


def _write(
    queries: Queries,
    desk: Desk,
    sources: Sources,
    targets: Mapping[int, Path],
    exported: Mapping[int, int],
) -> Mapping[int, Written]:
    """The files of these batches. Profiles of several are read and merged once for all."""
    kind = queries.plan.format
    if not queries.plan.segment_per_batch:
        profiles = queries.profiles(sources)
        return {batch: desk.write(profiles, target, kind) for batch, target in targets.items()}
    nobody = queries.nobody(sources)
    written = {
        batch: desk.write(nobody, target, kind)
        for batch, target in targets.items()
        if not exported.get(batch)
    }
    several = {batch: target for batch, target in targets.items() if exported.get(batch)}
    if several:
        written |= desk.write_batches(queries.batches(sources), several, kind)
    return written


def _check(part: Part, plan: ExportPlan, index: int) -> None:
    exported = part.data.rows if part.data else 0
    if exported + part.discarded != part.selected:
        buckets = plan.buckets(index)
        raise ProfileStoreCorrupt(
            f"buckets {buckets[0]} to {buckets[-1]} of {plan.snapshot.folder} give "
            f"{exported} profiles for {part.selected - part.discarded} persons: their "
            "fragments and persons do not agree; load the snapshot again"
        )
