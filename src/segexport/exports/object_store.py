"""Requests to an object store, made through fsspec."""

import asyncio
import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from segexport.errors import (
    DatasetError,
    DatasetFull,
    DatasetUnreachable,
    ExportCancelled,
    SettingsError,
)
from segexport.exports.interruption import outcome


def open_store(options: Mapping[str, Any]) -> "ObjectStore":
    """The S3 that these options of s3fs describe; nothing is asked of it yet.

    Raises `SettingsError` where s3fs is not installed, or refuses the options.
    """
    import fsspec  # noqa: PLC0415  (folders do without it)

    try:
        # Others change what lies there, so that a remembered listing would be a wrong one.
        return ObjectStore(fsspec.filesystem("s3", **{**options, "use_listings_cache": False}))
    except ImportError as error:
        raise SettingsError(
            "datasets on S3 need s3fs, which is not installed: pip install 'segexport[s3]'"
        ) from error
    except (TypeError, ValueError, KeyError) as error:
        raise SettingsError(
            f"s3fs refuses the options that it is given ({error}); check the settings of `s3`"
        ) from error


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """An S3 behind fsspec's asynchronous interface, for threads that may be interrupted."""

    filesystem: Any = field(repr=False)  # it knows secrets

    def request(self, about: str, method: str, *arguments: Any, **options: Any) -> Any:
        """What a method of the file system returns; `about` is the key that it is about.

        Raises `FileNotFoundError` for an object that is not there, `FileExistsError` for one
        that is, `ExportCancelled`, and for everything else a `DatasetError` that says what
        to do: `DatasetUnreachable` where it may pass.
        """
        work = getattr(self.filesystem, f"_{method}")(*arguments, **options)
        running = asyncio.run_coroutine_threadsafe(work, self.filesystem.loop)
        try:
            return outcome(running)
        except Exception as error:  # backends raise whatever their libraries raise
            explained = _explained(f"s3://{about}", error)
            if explained is None:
                raise
            raise explained from error


def _explained(where: str, error: Exception) -> DatasetError | None:
    """What is wrong in our words; None for what is not a fault but an answer."""
    match error:
        case ExportCancelled() | FileExistsError():
            return None
        case FileNotFoundError():
            if not _means_the_bucket(error):
                return None
            return DatasetError(f"there is no bucket for {where}; make it, or name another one")
        case PermissionError():
            return DatasetError(
                f"the object store refuses access to {where} ({error}); check the settings of "
                "`s3`, or the AWS credentials in use, and what they may do"
            )
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return DatasetFull(
                f"the disk of this machine has no room for {where}; make some, or set `data` to "
                "another disk"
            )
        case _:
            return DatasetUnreachable(
                f"{where} cannot be reached ({error}); check that the object store runs, the "
                "network, and `s3.endpoint_url`"
            )


def _means_the_bucket(error: FileNotFoundError) -> bool:
    answer = getattr(error.__cause__, "response", {})
    return bool(answer.get("Error", {}).get("Code") == "NoSuchBucket")
