"""Requests to an object store, made through fsspec."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from segexport.errors import DatasetError, DatasetUnreachable, ExportCancelled, SettingsError
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

        Raises `FileNotFoundError` for an object that is not there, `FileExistsError` for
        one that is, `DatasetError` where there is no such bucket or no permission,
        `DatasetUnreachable` for everything else, and `ExportCancelled`.
        """
        work = getattr(self.filesystem, f"_{method}")(*arguments, **options)
        running = asyncio.run_coroutine_threadsafe(work, self.filesystem.loop)
        try:
            return outcome(running)
        except (ExportCancelled, FileExistsError):
            raise
        except FileNotFoundError as error:
            if not _means_the_bucket(error):
                raise
            raise DatasetError(
                f"there is no bucket for s3://{about}; make it, or set `datasets` to another one"
            ) from error
        except PermissionError as error:
            raise DatasetError(
                f"the object store refuses access to s3://{about} ({error}); check the settings "
                "of `s3`, or the AWS credentials in use, and what they may do"
            ) from error
        except Exception as error:  # backends raise whatever their libraries raise
            raise DatasetUnreachable(
                f"s3://{about} cannot be reached ({error}); check that the object store runs, "
                "the network, and `s3.endpoint_url`"
            ) from error


def _means_the_bucket(error: FileNotFoundError) -> bool:
    answer = getattr(error.__cause__, "response", {})
    return bool(answer.get("Error", {}).get("Code") == "NoSuchBucket")
