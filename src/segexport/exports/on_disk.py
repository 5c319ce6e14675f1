"""Datasets in a folder: a batch appears by the renaming of its folder."""

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import duckdb

from segexport.errors import DatasetError
from segexport.exports.disk import (
    discard,
    explaining,
    force_to_disk,
    linked,
    make_folder,
    move,
    reading,
    remove,
    require_name,
    require_own,
)
from segexport.exports.layout import MANIFEST
from segexport.modes import AS_USUAL, Modes

if TYPE_CHECKING:
    from segexport.exports.location import Location


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A file or a folder of this machine; see `Location`.

    Below `root`, if that is not the path itself, no symbolic link is followed. What is made gets
    its mode of `modes`.
    """

    path: Path
    root: Path | None = None
    modes: Modes = AS_USUAL

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def parent(self) -> "OnDisk":
        return replace(self, path=self.path.parent)

    def __truediv__(self, name: str, /) -> "OnDisk":
        return OnDisk(self.path / require_name(name), self.root or self.path, self.modes)

    def __str__(self) -> str:
        return str(self.path)

    def exists(self) -> bool:
        self._require_own()
        with reading(self.path):
            return self.path.exists()

    def folders(self) -> Sequence[str]:
        self._require_own()
        with reading(self.path):
            if not self.path.is_dir():
                return ()
            return sorted(path.name for path in self.path.iterdir() if path.is_dir())

    def sizes(self) -> Mapping[str, int]:
        self._require_own()
        sizes = {}
        with reading(self.path):
            if not self.path.is_dir():
                return {}
            for path in self.path.iterdir():
                if path.is_symlink():
                    raise linked(path)
                with suppress(FileNotFoundError):  # moved or swept just now
                    if path.is_file():
                        sizes[path.name] = path.stat().st_size
        return sizes

    def bytes_below(self) -> int:
        size = 0
        for folder, _, names in os.walk(self.path):
            for name in names:
                with suppress(FileNotFoundError):  # moved or swept just now
                    size += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118  (hot)
        return size

    def read(self) -> bytes | None:
        self._require_own()
        with reading(self.path):
            try:
                return self.path.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def attach(self, database: duckdb.DuckDBPyConnection) -> None:
        del database  # it reads files anyway

    def probe(self, name: str) -> None:
        self._require_own()
        probe = self.path / f".{name}"
        with explaining(self.path):
            missing = [path for path in (self.path, *self.path.parents) if not path.exists()]
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                probe.write_bytes(b"\0")
                probe.unlink()
            finally:
                with suppress(OSError):  # not all were made, or somebody has begun to use one
                    for folder in missing:
                        folder.rmdir()

    def open(self, mark: str) -> None:
        self._require_own()
        make_folder(self.path, self.modes)
        with explaining(self.path):
            probe = self.path / mark
            probe.write_bytes(b"\0")
            probe.unlink()

    def replace(self, content: bytes) -> None:
        self._require_own()
        make_folder(self.path.parent, self.modes)
        written = self.path.with_suffix(".next")
        with explaining(self.path):
            written.write_bytes(content)
            self.modes.give_file(written)
            force_to_disk(written)
            written.rename(self.path)
        force_to_disk(self.path.parent)

    def unlink(self) -> None:
        self._require_own()
        with explaining(self.path):
            try:
                self.path.unlink()
            except FileNotFoundError:
                return
        force_to_disk(self.path.parent)

    def remove(self) -> None:
        self._require_own()
        remove(self.path)

    def publish(self, staging: "OnDisk", files: Sequence[str], manifest: str) -> None:
        if not self.exists():
            try:
                _gather(staging.path, self.name, files, manifest, self.modes)
                move(staging.path / self.name, self.path)
            except DatasetError:
                # Another worker that believes to hold the job may have been faster by a step.
                if not self.exists():
                    raise
            force_to_disk(self.path.parent)

    def receive(self, source: "Location", name: str, scratch: Path) -> None:
        if (self / name).exists():
            return
        target = self.path / name
        make_folder(self.path, self.modes)
        arriving = self.path / f".{name}.{uuid4().hex}"
        try:
            path = source.get(scratch)
            with explaining(target):
                shutil.copyfile(path, arriving)
                self.modes.give_file(arriving)
            force_to_disk(arriving)
            move(arriving, target)
        except DatasetError:
            # Another worker that believes to hold the job may have been faster.
            if not (self / name).exists():
                raise
        else:
            discard(*self.path.glob(f".{name}.*"))  # of whoever was killed, or is slower
        finally:
            discard(arriving)
            source.forget(scratch)
        force_to_disk(self.path)

    def on_disk(self, scratch: Path) -> Path:
        del scratch
        return self.path

    def get(self, scratch: Path) -> Path:
        del scratch
        self._require_own()
        return self.path

    def put(self, names: Sequence[str], scratch: Path) -> None:
        del scratch
        for name in names:
            with explaining(self.path / name):
                self.modes.give_file(self.path / name)
            force_to_disk(self.path / name)
        force_to_disk(self.path)

    def put_first(self, name: str, scratch: Path) -> None:
        # Its mode stays: it may be a second name of a file that is for its owner alone.
        del scratch
        force_to_disk(self.path / name)
        force_to_disk(self.path)

    def forget(self, scratch: Path) -> None:
        del scratch

    def _require_own(self) -> None:
        if self.root is not None:
            require_own(self.path, self.root)


def _gather(staging: Path, name: str, files: Sequence[str], manifest: str, modes: Modes) -> None:
    """Bring the batch's files and its manifest together in one folder of the staging."""
    gathered = staging / name
    with explaining(gathered):
        gathered.mkdir(exist_ok=True)
        modes.give_folder(gathered)
    for file in files:
        move(staging / file, gathered / file)
    move(staging / manifest, gathered / MANIFEST)
    force_to_disk(gathered)
