"""Where datasets lie: in a folder of a machine, or in a bucket of an object store.

Whatever is done with datasets is written once, over this protocol. What differs is below
it: `OnDisk` has renames, and forces what it writes to disk; `InBucket` has copies, and
objects that are created only where there is none.

Engines and DuckDB's COPY write files of this machine. A file of a location therefore has a
counterpart on this machine, below a folder that the caller calls `scratch`. In a folder
the counterpart is the file itself, so that nothing is ever copied there.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, Self

import duckdb

from segexport.errors import DatasetError
from segexport.exports.in_bucket import InBucket
from segexport.exports.object_store import open_store
from segexport.exports.on_disk import OnDisk
from segexport.modes import AS_USUAL, Modes

S3: Final = "s3://"


class Location(Protocol):
    """A file or a folder, which need not be there; `str` is its address.

    All methods block. They raise `DatasetError` where something cannot be read or written,
    in particular `DatasetUnreachable` where that may pass.
    """

    @property
    def name(self) -> str:
        """The last step of its address."""
        ...

    @property
    def parent(self) -> Self:
        """The folder that it lies in."""
        ...

    def __truediv__(self, name: str, /) -> Self:
        """What has this name below this folder."""
        ...

    # Looking

    def exists(self) -> bool:
        """Whether there is a file or a folder."""
        ...

    def folders(self) -> Sequence[str]:
        """The names of the folders directly below, sorted."""
        ...

    def sizes(self) -> Mapping[str, int]:
        """The names of the files directly below, with their bytes."""
        ...

    def bytes_below(self) -> int:
        """The bytes of all files below."""
        ...

    def read(self) -> bytes | None:
        """The content of a file; None where there is none."""
        ...

    def attach(self, database: duckdb.DuckDBPyConnection) -> None:
        """Let this database read what lies here by its address."""
        ...

    # Changing

    def probe(self, name: str) -> None:
        """See that files can be written below, and leave nothing there; `name` is for that."""
        ...

    def open(self, mark: str) -> None:
        """See that files can be written below; `mark` may be a file's name for that."""
        ...

    def replace(self, content: bytes) -> None:
        """Give the file this content, from one moment to the next."""
        ...

    def unlink(self) -> None:
        """Delete a file that may not be there."""
        ...

    def remove(self) -> None:
        """Delete a folder, which may not be there, with all that is below."""
        ...

    def publish(self, staging: Self, files: Sequence[str], manifest: str) -> None:
        """Make this folder a batch of exactly these files of `staging`, once.

        `manifest` is the name of the staged manifest. Idempotent, also where several do it
        at once: whatever was done before is found and kept, and readers see all or nothing.
        """
        ...

    def receive(self, source: "Location", name: str, scratch: Path) -> None:
        """Make a file `name` below that has the content of `source`, wherever that lies.

        It appears whole or not at all. One that is there already stays, so that it may be
        repeated, also by several at once.
        """
        ...

    # By way of this machine

    def on_disk(self, scratch: Path) -> Path:
        """The counterpart on this machine."""
        ...

    def get(self, scratch: Path) -> Path:
        """The counterpart, with the content that the file has now."""
        ...

    def put(self, names: Sequence[str], scratch: Path) -> None:
        """Give these files below the content of their counterparts, to stay."""
        ...

    def put_first(self, name: str, scratch: Path) -> None:
        """As `put`, but nothing where there is such a file already."""
        ...

    def forget(self, scratch: Path) -> None:
        """Delete the counterpart, unless it is the file itself."""
        ...


def locate(root: str | Path, options: Mapping[str, Any], modes: Modes = AS_USUAL) -> Location:
    """The location of an address: a folder, or `s3://bucket/prefix`.

    `options` are those of s3fs, `modes` those of files in a folder. Raises `DatasetError` for
    another kind of address.
    """
    if isinstance(root, Path) or "://" not in root:
        # Readers may stand in another folder, as Spark's Java does.
        return OnDisk(Path(root).absolute(), modes=modes)
    key = root.removeprefix(S3).rstrip("/")
    if not root.startswith(S3) or not key or key.startswith("/"):
        raise DatasetError(f"datasets cannot lie in {root!r}; name a folder, or s3://bucket/prefix")
    return InBucket(open_store(options), key)
