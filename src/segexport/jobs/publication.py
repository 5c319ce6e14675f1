"""What an export has produced: counts, files, and the discards among the selected."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_COUNT = 100_000_000_000
"""The largest count that the `segmentExportJob` schema allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Profiles: selected, exported, and selected but not delivered. total = realized + failed."""

    total: int
    realized: int
    failed: int

    def __post_init__(self) -> None:
        if not 0 <= self.total <= MAX_COUNT or self.realized < 0 or self.failed < 0:
            raise ValueError(f"counts must lie between 0 and {MAX_COUNT}: {self}")
        if self.total != self.realized + self.failed:
            raise ValueError(f"total must be realized + failed: {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """One file of a batch, named relative to the batch's folder; `sha256` in hex.

    Of a file with endpoint definitions the rows are endpoints.
    """

    name: str
    rows: int
    size: int  # bytes
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardFile:
    """An immutable, ordered file with one row per discarded profile.

    `path` is absolute. `sha256` (hex) fixes the content: whoever expands the file checks
    it first, so that no event is ever made from other rows than the job was finished with.
    """

    path: str
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedBatch:
    """One batch of the outcome.

    `segment` is the place, in the request's filter, of the segment that the batch is for;
    None where the job has one batch for all. `namespaces` counts the exported profiles that
    hold an identity in each namespace.
    """

    id: str
    files: tuple[DataFile, ...]
    counts: Counts
    namespaces: Mapping[str, int] = field(default_factory=dict)
    segment: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What COMPLETING puts before the public: fixed once, then only carried out.

    One batch; with `segmentPerBatch` one for each segment of the request, in its order.
    `endpoints` are the staged files that go to the prefix of a Pinpoint job; in them, so many
    endpoints have a consent that is none of XDM's values as `unknown_consents` says.
    """

    batches: tuple[PublishedBatch, ...]
    discards: DiscardFile | None = None
    endpoints: tuple[DataFile, ...] = ()
    unknown_consents: int = 0

    @property
    def counts(self) -> Counts:
        """The sums over the batches: with several of them, once per profile and batch."""
        return Counts(
            total=sum(batch.counts.total for batch in self.batches),
            realized=sum(batch.counts.realized for batch in self.batches),
            failed=sum(batch.counts.failed for batch in self.batches),
        )

    @property
    def rows(self) -> int:
        """The rows of all files of all batches."""
        return sum(file.rows for batch in self.batches for file in batch.files)

    @property
    def size(self) -> int:
        """The bytes of all files of all batches."""
        return sum(file.size for batch in self.batches for file in batch.files)

    @property
    def namespaces(self) -> Mapping[str, int]:
        """The sums over the batches."""
        sums: Counter[str] = Counter()
        for batch in self.batches:
            sums.update(batch.namespaces)
        return dict(sorted(sums.items()))
