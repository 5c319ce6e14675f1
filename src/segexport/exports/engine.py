"""The contract of an engine: what runs the queries of an export.

An engine gives one `Run` per job that a worker holds. All methods of a run block; a worker
calls them in threads, several pieces at once. `interrupt` and `progress` may be called at
any time from any thread and return at once.

Raised by every blocking method: `ExportCancelled` once the run is interrupted,
`ProfileStoreError` where a snapshot's file cannot be read, `DatasetError` where a file
cannot be written, `EngineError` for everything else that goes wrong in a query.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from segexport.exports.plan import ExportPlan


@dataclass(frozen=True, slots=True)
class Written:
    """A file that a query has written: rows, and bytes."""

    rows: int
    size: int


@dataclass(frozen=True, slots=True)
class WrittenEndpoints:
    """The endpoint definitions of a piece: their file, None where there are none.

    `unknown_consents` counts those whose `OptOut` depends on a consent that is none of XDM's
    values.
    """

    file: Written | None
    unknown_consents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a piece contributes to one batch: selected = rows of `data` + `discarded`.

    `namespaces` counts the exported profiles that hold an identity in each namespace.
    """

    selected: int
    discarded: int
    data: Written | None
    namespaces: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceResult:
    """What a piece came to: a part for each batch of the plan, in their order.

    `discards` has the rows of all parts' discarded profiles.
    """

    parts: Sequence[Part]
    discards: Written | None


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the exported profiles, with its type in the engine's words."""

    name: str
    type: str


class Run(Protocol):
    """One export on one engine."""

    def reach(self) -> None:
        """See that the engine is there, before the export is said to have started."""
        ...

    def prepare(self) -> None:
        """What has to be known across pieces before the first of them runs: for a journey,

        the keys that several deliverable profiles share, and who of them is delivered.
        """
        ...

    def run_piece(self, index: int, *, data: Sequence[Path], discards: Path) -> PieceResult:
        """Select, judge, merge and write the buckets of one piece.

        `data` has a path for each batch of the plan. A file is written where the piece has
        a profile to export to the batch, and by the first piece always, so that even a
        batch of nobody has its columns; `discards` if the piece has one to discard. What it
        writes is complete when it returns, but not yet forced to disk.
        """
        ...

    def write_endpoints(self, data: Path, target: Path) -> WrittenEndpoints:
        """Write the endpoint definitions of the plan's application to a gzipped NDJSON file.

        `data` is what a piece has written of its profiles. There is no file where they have
        no endpoint.
        """
        ...

    def join_discards(self, pieces: Sequence[Path], target: Path) -> Written:
        """Write the rows of these discard files to one, in their order."""
        ...

    def columns(self, data: Path) -> Sequence[Column]:
        """The columns of a file that a piece has written, in order."""
        ...

    def progress(self) -> float:
        """How much of the running pieces is done: 1.5 is one and a half piece."""
        ...

    def interrupt(self) -> None:
        """Stop what runs, and let nothing new begin.

        A query that was just about to begin may slip through: call it again until the
        blocking calls have returned.
        """
        ...

    def close(self) -> None:
        """Forget what was prepared; nothing may run any more."""
        ...


class Engine(Protocol):
    """Where exports run."""

    def begin(self, plan: ExportPlan) -> Run:
        """A run of this plan; costs next to nothing until it is used."""
        ...

    def close(self) -> None:
        """Let go of memory and temporary files; all runs are closed before."""
        ...
