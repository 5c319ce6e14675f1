"""Errors of the operating system and of client libraries, as errors of ours.

Whoever touches a file or asks a service knows best what its failure means, and says so where it
happens. What nobody nearer has translated is translated here, once for the command line, for HTTP
and for jobs, so that none of them calls a full disk a mistake of segexport's.
"""

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from segexport.errors import DependencyFailed, SegexportError, SystemRefused

_LIBRARIES: Final = {
    "_duckdb",
    "aiobotocore",
    "aiohttp",
    "aiokafka",
    "botocore",
    "cimpl",  # confluent-kafka
    "duckdb",
    "httpcore",
    "httpx",
    "py4j",
    "pyspark",
    "sqlalchemy",
    "sqlite3",
}
"""Where the errors of client libraries are defined. None is imported for that: most commands do
without most of them."""

_PERMISSIONS: Final = "check its permissions, and as which user this runs"
_ROOM: Final = "make room there, or choose another disk"
_FILES: Final = "raise the limit of open files (ulimit -n, LimitNOFILE)"
_ADVICE: Final[Mapping[int, str]] = {
    errno.EACCES: _PERMISSIONS,
    errno.EPERM: _PERMISSIONS,
    errno.EROFS: _PERMISSIONS,
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENOENT: "bring it back, or name another one",
    errno.EISDIR: "name a file",
    errno.ENOTDIR: "name a folder",
    errno.ELOOP: "its symbolic links lead in a circle: mend them",
    errno.ENAMETOOLONG: "choose a shorter name",
}
_OTHERWISE: Final = "mend the cause, and try again"


def reason(error: OSError) -> str:
    """What the system says, in its own words."""
    return error.strerror or str(error) or type(error).__name__


def translated(error: BaseException) -> SegexportError | None:
    """An error as one of ours: itself if it is one, None for what nobody has foreseen.

    Of several at once, the first that can be explained.
    """
    if isinstance(error, SegexportError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(translated, error.exceptions)), None)
    if isinstance(error, OSError):
        about = "" if error.filename is None else f"{_text(error.filename)}: "
        advice = _ADVICE.get(error.errno or 0, _OTHERWISE)
        return SystemRefused(f"{about}{reason(error)}; {advice}")
    library = _library(error)
    if library is not None:
        said = str(error).partition("\n")[0] or type(error).__name__
        return DependencyFailed(
            f"{library} has failed ({type(error).__name__}: {said}); mend the cause, and try again"
        )
    return None


@contextmanager
def explaining(explain: Callable[[str, str], SegexportError], about: object) -> Iterator[None]:
    """Turn an `OSError` inside into what `explain` makes of the file that it is about, and why.

    The file is `about` where the system names none.
    """
    try:
        yield
    except OSError as error:
        raise explain(_text(error.filename or about), reason(error)) from error


def _text(name: object) -> str:
    return name.decode(errors="backslashreplace") if isinstance(name, bytes) else str(name)


def _library(error: BaseException) -> str | None:
    modules = (kind.__module__.partition(".")[0] for kind in type(error).__mro__)
    found = next((module for module in modules if module in _LIBRARIES), None)
    return {"_duckdb": "duckdb", "cimpl": "confluent-kafka"}.get(found or "", found)
