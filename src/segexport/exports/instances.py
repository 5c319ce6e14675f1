"""Live instances: the keys that are in a journey already, as whoever runs journeys says.

    <data>/journeys/<organization>/<sandbox>/<journey version>/<namespace>/00000007.parquet

One table for each journey version and identity namespace; its file holds the column
`key` VARCHAR, distinct and sorted. A file never changes: adding and removing keys writes the
next one, whole, and then the one before goes. Names are percent-encoded.
"""

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Final
from urllib.parse import quote, unquote

import duckdb

from segexport.database import open_database
from segexport.errors import InstancesUnusable
from segexport.exports.disk import (
    alone,
    explaining,
    force_to_disk,
    make_folder,
    reading,
    require_own,
)
from segexport.jobs.job import Scope
from segexport.jobs.values import unfit
from segexport.modes import make_private
from segexport.profiles.builder import Resources, link_or_copy
from segexport.profiles.leaves import Leaf
from segexport.profiles.parquet_rows import column
from segexport.sql import file_to_write, literal, parquet, parquet_metadata, text

MAX_KEY: Final = 256
"""Characters in a key: as many as an identity of the profile store has."""

BOM: Final = "\ufeff"
"""What editors of Windows begin a text with."""

EXACT: Final[Mapping[str, int]] = MappingProxyType({"DOUBLE": 1 << 53, "FLOAT": 1 << 24})
"""Below this, an integer is the one that was written: a DOUBLE of 2^53 may have been 2^53 + 1."""

_SPILL: Final = ".spill"
_NOBODY: Final = "(SELECT ''::VARCHAR AS key WHERE false)"


@dataclass(frozen=True, slots=True)
class LiveTable:
    """The live instances of one journey version in one namespace, and how many there are."""

    version: str
    namespace: str
    keys: int


def sandboxes(root: Path) -> Iterator[Scope]:
    """The sandboxes that have live instances."""
    for folder in sorted(root.glob("*/*")):
        yield Scope(*folder.parts[-2:])


@dataclass(frozen=True, slots=True)
class Instances:
    """The live instances of one sandbox, below the folder of all."""

    root: Path
    scope: Scope

    def add(
        self, version: str, namespace: str, files: Sequence[Path], resources: Resources
    ) -> LiveTable:
        """Add the keys in these files; those that are there already stay once.

        A file is Parquet with a column `key`, or text with a key a line; blank lines are
        none. In Parquet a key may be a number as well: 4711 of whatever type is `4711`.
        Raises `InstancesUnusable` if a file cannot be read, a key is too long, or no plain
        value, and `DatasetError` if the table cannot be written. The table is then as before.
        """
        for what, name in (("journey version", version), ("namespace", namespace)):
            if hidden := unfit(name):
                raise InstancesUnusable(f"the {what} {name!a} cannot be taken: {hidden}")
        return self._write(version, namespace, files, "UNION", resources)

    def remove(
        self, version: str, namespace: str, files: Sequence[Path], resources: Resources
    ) -> LiveTable:
        """Remove the keys in these files; those that are not there do no harm. As `add`."""
        return self._write(version, namespace, files, "EXCEPT", resources)

    def tables(self) -> Iterator[LiveTable]:
        """All tables of the sandbox, by version and namespace."""
        for folder in self._tables():
            newest = _newest(folder)
            if newest is not None:
                version, namespace = map(unquote, folder.parts[-2:])
                yield LiveTable(version, namespace, _rows(newest))

    def sweep(self) -> None:
        """Delete what changes that were killed have left, waiting for those that run."""
        for folder in self._tables():
            with explaining(folder), alone(folder):
                _sweep(folder)
                shutil.rmtree(folder / _SPILL, ignore_errors=True)

    def forget(self, version: str, namespace: str, keys: Collection[str]) -> int:
        """Remove these keys; how many of them were there. Raises `DatasetError`."""
        folder = self._table(version, namespace)
        newest = _newest(folder)
        if newest is None:
            return 0
        listed = ", ".join(sorted(map(literal, keys)))
        with open_database() as database:
            ((known,),) = database.execute(
                f"SELECT count(*) FROM {parquet([newest])} WHERE key IN ({listed})"
            ).fetchall()
        if known:
            file = folder / "forgotten.next"
            file.write_text("".join(f"{key}\n" for key in sorted(keys)))
            self.remove(version, namespace, [file], Resources(threads=1))
        return int(known)

    def pin(self, version: str, namespace: str, target: Path) -> Path:
        """Give the table as it stands now the name `target`, unless that is there already.

        Whoever asks again for the same target gets the table of the first time. Without a
        table `target` has no keys. Raises `DatasetError`.
        """
        if target.exists():
            return target
        with explaining(target), TemporaryDirectory(dir=target.parent) as beside:
            pinned = Path(beside) / target.name
            self._take(version, namespace, pinned)
            force_to_disk(pinned)
            if not target.exists():
                pinned.rename(target)
        force_to_disk(target.parent)
        return target

    def _take(self, version: str, namespace: str, target: Path) -> None:
        while (newest := _newest(self._table(version, namespace))) is not None:
            try:
                return link_or_copy(newest, target)
            except FileNotFoundError:
                continue  # the next one has just taken its place
        with open_database() as database:
            database.execute(f"COPY (FROM {_NOBODY}) TO {file_to_write(target)} (FORMAT parquet)")
        return None

    @property
    def _folder(self) -> Path:
        return self.root / self.scope.organization / self.scope.sandbox

    def _table(self, version: str, namespace: str) -> Path:
        folder = self._folder / _name(version) / _name(namespace)
        require_own(folder, self.root)
        return folder

    def _tables(self) -> Sequence[Path]:
        """The folders of all tables. Raises `DatasetError`, also where one is a symbolic link."""
        require_own(self._folder, self.root)
        with reading(self._folder):
            folders = sorted(self._folder.glob("*/*"))
        for folder in folders:
            require_own(folder, self.root)
        return folders

    def _write(
        self, version: str, namespace: str, files: Sequence[Path], how: str, resources: Resources
    ) -> LiveTable:
        for file in files:
            if not file.is_file():
                raise InstancesUnusable(
                    f"the keys of {file} cannot be taken: there is no such file"
                )
        folder = self._table(version, namespace)
        with explaining(self.root):
            make_private(self.root)
        make_folder(folder)
        with alone(folder), _database(folder, resources) as database:
            before = _newest(folder)
            known = f"SELECT key FROM {parquet([before])}" if before else f"FROM {_NOBODY}"
            number = int(before.stem) + 1 if before else 1
            target = folder / f"{number:08d}.parquet"
            staged = target.with_suffix(".next")
            try:
                named = " UNION ALL ".join(_keys(database, file) for file in files)
                query = f"SELECT key FROM ({known} {how} ({named})) AS keys ORDER BY key"
                _require_short(database, named)
                database.execute(f"COPY ({query}) TO {file_to_write(staged)} (FORMAT parquet)")
            except (duckdb.Error, ValueError) as error:
                staged.unlink(missing_ok=True)
                said = str(error).partition("\n")[0]
                raise InstancesUnusable(
                    f"the keys of {', '.join(map(str, files))} cannot be taken ({said}); give "
                    "Parquet with a column `key`, or text with a key a line"
                ) from error
            with explaining(target):
                force_to_disk(staged)
                staged.rename(target)
                force_to_disk(folder)
                _sweep(folder)
            return LiveTable(version, namespace, _rows(target))


def _name(name: str) -> str:
    """A folder's name for any name: percent-encoded, and never hidden or empty."""
    return quote(name, safe="").replace(".", "%2E")


def _newest(folder: Path) -> Path | None:
    return max(folder.glob("*.parquet"), default=None)


def _sweep(folder: Path) -> None:
    """Delete all but the newest table: what was before, and what a killed change has left."""
    newest = _newest(folder)
    for path in (*folder.glob("*.parquet"), *folder.glob("*.next")):
        if path != newest:
            path.unlink(missing_ok=True)


def _rows(file: Path) -> int:
    with open_database() as database:
        ((rows,),) = database.execute(f"SELECT num_rows FROM {parquet_metadata(file)}").fetchall()
    return int(rows)


def _keys(database: duckdb.DuckDBPyConnection, file: Path) -> str:
    """A query of the keys in a file. Raises `InstancesUnusable` for one that is no plain value."""
    if file.suffix == ".parquet":
        found = column(file, "key", database)
        if found is None:
            raise InstancesUnusable(
                f"the keys of {file} cannot be taken: no column, or more than one, is called `key`"
            )
        query, kind = found
        key = Leaf("key", kind)
        _require_plain(database, file, query, key)
        return f"SELECT {key.text} AS key FROM ({query}) WHERE {key.is_there}"
    return (
        "SELECT key FROM (SELECT trim(unnest(string_split("
        f"regexp_replace(content, '^{BOM}', ''), chr(10))), chr(13)) AS key "
        f"FROM {text(file)}) AS lines WHERE trim(key) <> ''"
    )


def _require_plain(database: duckdb.DuckDBPyConnection, file: Path, values: str, key: Leaf) -> None:
    wrong = f"{key.text} IS NULL"
    if key.type in EXACT:  # where others have no key, pandas makes floats of integers
        wrong += f" OR abs({key.column}) >= {EXACT[key.type]} OR NOT isfinite({key.column})"
    found = database.execute(
        f"SELECT {key.column}::VARCHAR FROM ({values}) WHERE {key.is_there} AND ({wrong}) LIMIT 1"
    ).fetchone()
    if found is not None:
        raise InstancesUnusable(
            f"the key {found[0][:60]} in {file} is no string, and no number of type {key.type} "
            "that is known to the last digit; write the keys as strings"
        )


def _require_short(database: duckdb.DuckDBPyConnection, keys: str) -> None:
    found = database.execute(
        f"SELECT key FROM ({keys}) AS keys WHERE length(key) > {MAX_KEY} LIMIT 1"
    ).fetchone()
    if found is not None:
        raise InstancesUnusable(
            f"a key has more than {MAX_KEY} characters: {found[0][:60]!r}…; is there a key a line?"
        )


@contextmanager
def _database(folder: Path, resources: Resources) -> Iterator[duckdb.DuckDBPyConnection]:
    spill = folder / _SPILL
    try:
        with open_database(
            threads=resources.threads, memory_limit=resources.memory_limit, spill=spill
        ) as database:
            yield database
    finally:
        shutil.rmtree(spill, ignore_errors=True)
