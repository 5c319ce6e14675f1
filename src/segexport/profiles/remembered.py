"""What was read from files, kept for as long as they stay as they are."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_Stamp = tuple[int, int, int, int]

MOST: Final = 16
"""Files whose content is kept; the manifest of a snapshot takes some 50 kB and more."""


class Remembered(Generic[T]):
    """Reads a file once, and again when it has been replaced; a look at it is one `stat`.

    For files that are written whole and renamed into their place: another inode tells them
    from the ones before, however quickly they follow. Of more than `most` files those are
    forgotten that nobody has asked for the longest. May be used from several threads.
    """

    def __init__(self, read: Callable[[Path], T], most: int = MOST) -> None:
        self._read = read
        self._most = most
        self._kept = OrderedDict[Path, tuple[_Stamp, T]]()
        self._lock = threading.Lock()

    def get(self, file: Path) -> T:
        """What is in the file now. Raises what reading raises, and then keeps nothing."""
        # Before it is read: a file that is replaced meanwhile is read again the next time.
        try:
            found = file.stat()
        except OSError:
            return self._read(file)  # which says what is wrong, or does without the file
        stamp = found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        with self._lock:
            kept = self._kept.pop(file, None)
            if kept is not None and kept[0] == stamp:
                self._kept[file] = kept
                return kept[1]
        content = self._read(file)  # without the lock: it may take its time
        with self._lock:
            self._kept[file] = stamp, content
            self._kept.move_to_end(file)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return content
