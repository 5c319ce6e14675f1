"""Files that hold secrets: nobody but their owner may read or change them, at no moment."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from segexport.errors import KeysError
from segexport.exports.disk import alone, sync
from segexport.faults import explaining
from segexport.modes import make_shared

OWNER_ONLY: Final = 0o600


def read(path: Path) -> str | None:
    """The file's text without a byte order mark, or None if there is no such file.

    Raises `KeysError` if it cannot be read, or if others than its owner may read or change it:
    what others know is no secret any more, and a warning would be read by nobody.
    """
    with explaining(_not_read, path):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, encoding="utf-8-sig") as file:
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            if mode & ~stat.S_IRWXU:
                raise KeysError(
                    f"{path} is open to others than its owner (mode {mode:04o}), and so not used; "
                    f"if nobody has read it, chmod 600 {path}"
                )
            try:
                return file.read()
            except UnicodeDecodeError:
                raise KeysError(f"{path} is damaged: it is not text") from None


def replace(path: Path, text: str) -> None:
    """Give the file a new content, at once and for good; call it inside `changing`.

    Raises `KeysError`; the file is then as before.
    """
    with replacing(path, text):
        pass


@contextmanager
def replacing(path: Path, text: str) -> Iterator[None]:
    """As `replace`, when the block has ended; where that raises, the file is as before.

    By then all is written that takes room, so that nothing but a renaming is left to do.
    """
    following = path.with_name(f"{path.name}.next")
    with explaining(_not_written, path):
        following.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(following, flags, OWNER_ONLY)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
    try:
        yield
    except BaseException:
        with suppress(OSError):  # the next change removes it
            following.unlink()
        raise
    with explaining(_not_written, path):
        following.rename(path)
        sync(path.parent)


@contextmanager
def changing(path: Path) -> Iterator[None]:
    """Be the only one who changes files in this file's folder, which is made if need be."""
    with explaining(_not_written, path):
        make_shared(path.parent)
        with alone(path.parent):
            yield


def _not_read(path: str, why: str) -> KeysError:
    return _of_the_service(path, "read", why)


def _not_written(path: str, why: str) -> KeysError:
    return _of_the_service(path, "written", why)


def _of_the_service(path: str, done: str, why: str) -> KeysError:
    return KeysError(
        f"{path} cannot be {done} ({why}); run as the user of the service, and check the folder's "
        "permissions and the free space"
    )
