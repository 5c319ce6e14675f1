"""What was read from files, kept for as long as they stay as they are."""

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

_Stamp = tuple[int, int, int, int]


class Remembered(Generic[T]):
    """Reads a file once, and again when it has been replaced; a look at it is one `stat`.

    For files that are written whole and renamed into their place: another inode tells them
    from the ones before, however quickly they follow. May be used from several threads.
    """

    def __init__(self, read: Callable[[Path], T]) -> None:
        self._read = read
        self._kept: dict[Path, tuple[_Stamp, T]] = {}

    def get(self, file: Path) -> T:
        """What is in the file now. Raises what reading raises, and then keeps nothing."""
        # Before it is read: a file that is replaced meanwhile is read again the next time.
        try:
            found = file.stat()
        except OSError:
            return self._read(file)  # which says what is wrong, or does without the file
        stamp = found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        kept = self._kept.get(file)
        if kept is not None and kept[0] == stamp:
            return kept[1]
        content = self._read(file)
        self._kept[file] = stamp, content
        return content
