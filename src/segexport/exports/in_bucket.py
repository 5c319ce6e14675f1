"""Datasets in a bucket: a batch appears with its manifest, which is created only once.

An object store knows no folders and no renames. An object appears whole or not at all, and
can be created on the condition that there is none yet: that is all that is built on here.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import duckdb

from segexport.errors import DatasetError
from segexport.exports.disk import discard, explaining, require_name
from segexport.exports.layout import MANIFEST
from segexport.exports.object_store import ObjectStore

if TYPE_CHECKING:
    from segexport.exports.location import Location

PART: Final = 8 * 2**20
"""Bytes that are sent at a time. What has less than twice as many goes in one request."""
PARTS_AT_ONCE: Final = 2
COPIES_AT_ONCE: Final = 16
DELETED_AT_ONCE: Final = 1_000  # what S3 allows


@dataclass(frozen=True, slots=True)
class InBucket:
    """An object, or all objects below a prefix; see `Location`.

    `key` begins with the bucket and does not end in a slash.
    """

    store: ObjectStore
    key: str

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> "InBucket":
        return InBucket(self.store, self.key.rpartition("/")[0])

    def __truediv__(self, name: str, /) -> "InBucket":
        return InBucket(self.store, f"{self.key}/{require_name(name)}")

    def __str__(self) -> str:
        return f"s3://{self.key}"

    def exists(self) -> bool:
        return bool(self.store.request(self.key, "exists", self.key))

    def folders(self) -> Sequence[str]:
        return sorted(_name(each) for each in self._entries() if each["type"] == "directory")

    def sizes(self) -> Mapping[str, int]:
        return {_name(each): each["size"] for each in self._entries() if each["type"] == "file"}

    def bytes_below(self) -> int:
        return sum(each["size"] for each in self._below().values())

    def read(self) -> bytes | None:
        try:
            return bytes(self.store.request(self.key, "cat_file", self.key))
        except FileNotFoundError:
            return None

    def attach(self, database: duckdb.DuckDBPyConnection) -> None:
        for protocol in self.store.filesystem.protocol:
            if database.filesystem_is_registered(protocol):
                database.unregister_filesystem(protocol)
        database.register_filesystem(self.store.filesystem)

    def probe(self, name: str) -> None:
        # An upload that is begun and broken off is never an object, whoever is killed between.
        key = (self / name).key
        bucket, _, below = key.partition("/")
        begun = self.store.request(
            key, "call_s3", "create_multipart_upload", Bucket=bucket, Key=below
        )
        self.store.request(key, "abort_mpu", bucket, below, begun["UploadId"])

    def open(self, mark: str) -> None:
        # The mark stays: it shows everybody that somebody has begun something here.
        (self / mark).replace(b"")

    def replace(self, content: bytes) -> None:
        self.store.request(self.key, "pipe_file", self.key, content)

    def unlink(self) -> None:
        self.store.request(self.key, "rm_file", self.key)

    def remove(self) -> None:
        keys = list(self._below())
        for begin in range(0, len(keys), DELETED_AT_ONCE):
            self.store.request(self.key, "bulk_delete", keys[begin : begin + DELETED_AT_ONCE])
        self._break_off_uploads()
        if keys and self._below():
            raise DatasetError(
                f"not all of {self} could be deleted; check that the credentials may delete objects"
            )

    def publish(self, staging: "InBucket", files: Sequence[str], manifest: str) -> None:
        final = self / MANIFEST
        if final.exists():
            return
        try:
            self._copy(staging, files)
            content = self.store.request(staging.key, "cat_file", (staging / manifest).key)
            self.store.request(final.key, "pipe_file", final.key, content, mode="create")
        except FileExistsError:
            return
        except FileNotFoundError as error:
            # Another worker that believes to hold the job may have been faster.
            if not final.exists():
                gone = {*files, manifest} - {*staging.sizes(), *self.sizes()}
                raise DatasetError(
                    f"{', '.join(sorted(gone))} are needed for a publication and gone from "
                    f"{staging}; bring them back, the publication then goes on by itself"
                ) from error

    def receive(self, source: "Location", name: str, scratch: Path) -> None:
        target = self / name
        if target.exists():
            return
        if isinstance(source, InBucket) and source.store == self.store:
            try:
                self.store.request(target.key, "cp_file", source.key, target.key)
            except FileNotFoundError as error:
                raise DatasetError(f"{source} is missing; bring it back") from error
            return
        try:
            self._upload(name, source.get(scratch), "overwrite")
        finally:
            source.forget(scratch)

    def on_disk(self, scratch: Path) -> Path:
        return scratch / self.key

    def get(self, scratch: Path) -> Path:
        path = self.on_disk(scratch)
        with explaining(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            arriving = path.with_name(f"{path.name}.{uuid4().hex}")
        try:
            self.store.request(self.key, "get_file", self.key, str(arriving))
        except FileNotFoundError as error:
            raise DatasetError(f"{self} is missing; bring it back") from error
        with explaining(path):
            arriving.replace(path)
        return path

    def put(self, names: Sequence[str], scratch: Path) -> None:
        for name in names:
            self._upload(name, (self / name).on_disk(scratch), "overwrite")

    def put_first(self, name: str, scratch: Path) -> None:
        with suppress(FileExistsError):
            self._upload(name, (self / name).on_disk(scratch), "create")

    def forget(self, scratch: Path) -> None:
        discard(self.on_disk(scratch))

    def _upload(self, name: str, path: Path, mode: str) -> None:
        file = self / name
        try:
            self.store.request(
                file.key,
                "put_file",
                str(path),
                file.key,
                mode=mode,
                chunksize=PART,
                max_concurrency=PARTS_AT_ONCE,
            )
        except FileNotFoundError as error:
            raise DatasetError(f"{path} is gone, before it could be brought to {file}") from error

    def _copy(self, staging: "InBucket", files: Sequence[str]) -> None:
        """Copy what is not here yet, inside the object store."""
        there = self.sizes()
        missing = [name for name in files if name not in there]
        if missing:
            self.store.request(
                staging.key,
                "copy",
                [(staging / name).key for name in missing],
                [(self / name).key for name in missing],
                batch_size=COPIES_AT_ONCE,
                on_error="raise",
            )

    def _entries(self) -> Sequence[Mapping[str, Any]]:
        """What is directly below."""
        try:
            found: Sequence[Mapping[str, Any]] = self.store.request(
                self.key, "ls", self.key, detail=True
            )
        except FileNotFoundError:
            return ()
        return found

    def _below(self) -> Mapping[str, Mapping[str, Any]]:
        """All objects below, by their keys."""
        found: Mapping[str, Mapping[str, Any]] = self.store.request(
            self.key, "find", self.key, detail=True
        )
        return found

    def _break_off_uploads(self) -> None:
        """Let go of the parts of uploads that were interrupted; nobody else ever sees them.

        Credentials that may not do so leave them to the bucket's own rules.
        """
        bucket, _, prefix = self.key.partition("/")
        with suppress(DatasetError, FileNotFoundError):
            listed = self.store.request(
                self.key, "call_s3", "list_multipart_uploads", Bucket=bucket, Prefix=f"{prefix}/"
            )
            for upload in listed.get("Uploads", ()):
                self.store.request(self.key, "abort_mpu", bucket, upload["Key"], upload["UploadId"])


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry["name"]).rstrip("/").rpartition("/")[2]
