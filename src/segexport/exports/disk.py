"""Files of this machine, written so that a power cut does not take them back."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from segexport import faults
from segexport.errors import DatasetError
from segexport.modes import Modes


def require_own(path: Path, root: Path) -> None:
    """Raise `DatasetError` where a symbolic link stands anywhere below `root` on the way to `path`.

    Whoever followed one would read, count or delete what is elsewhere. The root itself may be one:
    that is the operator's choice. For mishaps, and not against whoever may write there: a link
    that appears between this look and what follows is followed.
    """
    steps = path.relative_to(root).parts
    for number in range(1, len(steps) + 1):
        step = root.joinpath(*steps[:number])
        with reading(step):
            if step.is_symlink():
                raise linked(step)


def require_name(name: str) -> str:
    """The name, if it is that of one thing in a folder. Raises `DatasetError`."""
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        raise DatasetError(
            f"{name!r} is no name of a file or a folder, but leads elsewhere: name one of those "
            "that are there"
        )
    return name


def linked(path: Path) -> DatasetError:
    """The error of a symbolic link, with what to do about it."""
    return DatasetError(
        f"{path} is a symbolic link, and none is followed below the root, so that nothing outside "
        "of it is read, counted or deleted: put in its place what it leads to, or remove it"
    )


def make_folder(folder: Path, modes: Modes | None = None) -> None:
    """Make a folder and its parents, all of them durable. Raises `DatasetError`.

    With `modes` those that are new get theirs.
    """
    with explaining(folder):
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        if modes is not None:
            for path in missing:
                modes.give_folder(path)
    for path in missing:
        force_to_disk(path.parent)


def move(source: Path, target: Path) -> None:
    """Rename, unless that has been done already. Raises `DatasetError`."""
    with explaining(source):
        try:
            source.rename(target)
        except FileNotFoundError:
            if not target.exists():
                raise DatasetError(
                    f"{source} is needed for a publication and gone, and {target} is not there; "
                    "bring it back, the publication then goes on by itself"
                ) from None


def discard(*paths: Path) -> None:
    """Delete files that may not be there. Raises `DatasetError`."""
    for path in paths:
        with explaining(path):
            path.unlink(missing_ok=True)


def withdraw(path: Path, text: str) -> None:
    """Delete a file that still says what this process has written into it, if it can be."""
    with suppress(OSError):
        if path.read_text() == text:
            path.unlink()


def remove(folder: Path) -> None:
    """Delete a folder that may not be there. Raises `DatasetError`."""
    while folder.exists():
        with explaining(folder):
            try:
                shutil.rmtree(folder)
            except FileNotFoundError:
                continue  # somebody else deletes it as well, and is welcome
            except OSError as error:
                # A worker that has lost the job has just begun something in it.
                if error.errno != errno.ENOTEMPTY:
                    raise


def force_to_disk(path: Path) -> None:
    """As `sync`. Raises `DatasetError`."""
    with explaining(path):
        sync(path)


def sync(path: Path) -> None:
    """Return once a file's content, or a folder's entries, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, waiting for it. The kernel frees it when the process ends."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def explaining(path: Path) -> AbstractContextManager[None]:
    """Turn an `OSError` inside into a `DatasetError` that says what to do."""
    return faults.explaining(unwritable, path)


def reading(path: Path) -> AbstractContextManager[None]:
    """As `explaining`, where nothing is written."""
    return faults.explaining(unreadable, path)


def unwritable(path: Path | str, why: str) -> DatasetError:
    """The error of a file that cannot be written, with what to do about it."""
    return DatasetError(
        f"{path} cannot be written ({why}); check the folder's permissions and the free space"
    )


def unreadable(path: Path | str, why: str) -> DatasetError:
    """The error of a file or a folder that cannot be read, with what to do about it."""
    return DatasetError(f"{path} cannot be read ({why}); check its permissions")
