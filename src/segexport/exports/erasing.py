"""Takes persons out of the batches of datasets.

A batch never changes, with this one exception: files that hold one of the persons are
written anew, without them, under new names; then the next revision of the manifest takes the
place of the last, in one step; then the old files go. Readers see the one or the other.
"""

import gzip
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, cast

import duckdb
import orjson

from segexport.database import open_database
from segexport.errors import DatasetError
from segexport.exports.dataset import Batch, ManifestFile
from segexport.exports.disk import explaining
from segexport.exports.fields import PERSON_ID
from segexport.exports.layout import MANIFEST
from segexport.jobs.request import FileFormat
from segexport.sql import file_to_write, parquet
from segexport.store.discards import fingerprint


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A file of a batch in two forms: with some persons, and without them."""

    old: ManifestFile
    new: ManifestFile


def is_searchable(batch: Batch) -> bool:
    """Whether the batch says whose rows it has: those of manifest format 1 do not."""
    return any(column.name == PERSON_ID for column in batch.manifest.columns)


def erase_from_batch(batch: Batch, persons: Collection[int]) -> int:
    """Take these persons out of a searchable batch; how many rows they had.

    Raises `DatasetError`; the batch is then as it was, but for files that nobody reads.
    """
    revision = batch.manifest.revision + 1
    _sweep(batch)
    with TemporaryDirectory() as scratch:
        changes = [
            change
            for file in batch.manifest.files
            if (change := _without(batch, file, persons, revision, Path(scratch))) is not None
        ]
    if not changes:
        return 0
    erased = sum(change.old.rows - change.new.rows for change in changes)
    _replace(batch, changes, erased, revision)
    return erased


def _sweep(batch: Batch) -> None:
    """Delete what an erasure that was killed has left beside the batch's own files."""
    known = {MANIFEST, *(file.name for file in batch.manifest.files)}
    for name in batch.folder.sizes():
        if name not in known:
            (batch.folder / name).unlink()


def _replace(batch: Batch, changes: Sequence[Rewritten], erased: int, revision: int) -> None:
    news = {change.old.name: change.new for change in changes}
    counts = batch.manifest.counts
    manifest = batch.manifest.model_copy(
        update={
            "revision": revision,
            "files": tuple(news.get(file.name, file) for file in batch.manifest.files),
            "counts": counts.model_copy(update={"erased": counts.erased + erased}),
        }
    )
    (batch.folder / MANIFEST).replace(manifest.to_json())
    for name in news:
        (batch.folder / name).unlink()


def _without(
    batch: Batch, file: ManifestFile, persons: Collection[int], revision: int, scratch: Path
) -> Rewritten | None:
    """The file without these persons; None if it holds none of them."""
    stem, _, suffix = file.name.partition(".")
    name = f"{stem.partition('-r')[0]}-r{revision}.{suffix}"
    before, after = batch.folder / file.name, batch.folder / name
    source, target = before.get(scratch), after.on_disk(scratch)
    rewrite = (
        _rewrite_parquet if batch.manifest.file_format is FileFormat.PARQUET else _rewrite_lines
    )
    with explaining(target):
        rows = rewrite(source, target, persons)
    before.forget(scratch)
    if rows == file.rows:
        target.unlink(missing_ok=True)
        return None
    new = ManifestFile(name=name, rows=rows, size=target.stat().st_size, sha256=fingerprint(target))
    batch.folder.put([name], scratch)
    after.forget(scratch)
    return Rewritten(file, new)


def _rewrite_parquet(source: Path, target: Path, persons: Collection[int]) -> int:
    """Write the rows of everybody else, if these persons have any; how many rows those are."""
    listed = ", ".join(map(str, sorted(persons)))
    try:
        with open_database(threads=1) as database:  # one thread keeps the order
            found = database.execute(
                f"SELECT count(*), count(*) FILTER ({PERSON_ID} IN ({listed})) "
                f"FROM {parquet([source])}"
            ).fetchone()
            every, theirs = cast("tuple[int, int]", found)
            if theirs:
                database.execute(
                    f"COPY (SELECT * FROM {parquet([source])} WHERE {PERSON_ID} NOT IN ({listed})) "
                    f"TO {file_to_write(target)} (FORMAT parquet)"
                )
            return every - theirs
    except duckdb.Error as error:
        said = str(error).partition("\n")[0]
        raise DatasetError(f"{source} cannot be read or written anew ({said})") from error


def _rewrite_lines(source: Path, target: Path, persons: Collection[int]) -> int:
    """Write the lines of everybody else; how many they are."""
    theirs = {str(person) for person in persons}
    kept = 0
    opened = gzip.open if source.suffix == ".gz" else open
    with (
        cast("IO[bytes]", opened(source, "rb")) as lines,
        cast("IO[bytes]", opened(target, "wb")) as rest,
    ):
        for line in lines:
            if orjson.loads(line)[PERSON_ID] not in theirs:
                rest.write(line)
                kept += 1
    return kept
