"""What a process has in memory, seen from outside and from inside (Linux)."""

import ctypes
import statistics
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

QUARTERS: Final = 4
_MEGABYTE: Final = 1e6


@dataclass(frozen=True, slots=True)
class Sample:
    """Bytes that are resident, bytes of these that come from no file, threads, open files."""

    resident: int
    anonymous: int
    threads: int
    files: int

    @classmethod
    def of(cls, process: int) -> Self:
        """How it is now."""
        place = Path(f"/proc/{process}")
        lines = (place / "smaps_rollup").read_text().splitlines()[1:]
        kibibytes = {
            name: int(rest.split()[0]) for name, _, rest in (x.partition(":") for x in lines)
        }
        return cls(
            resident=kibibytes["Rss"] * 1024,
            anonymous=kibibytes["Anonymous"] * 1024,
            threads=len(list((place / "task").iterdir())),
            files=len(list((place / "fd").iterdir())),
        )


@dataclass(frozen=True, slots=True)
class Inside:
    """Bytes that SQLite has of the heap, and bytes of the heap that are free; None: not known."""

    sqlite: int | None
    free: int | None

    @classmethod
    def now(cls) -> Self:
        """Of this process."""
        return cls(_sqlite(), _free())


class _MallInfo(ctypes.Structure):
    """glibc's `mallinfo2`: ten sizes, of which the ninth is what is free."""

    _fields_ = [(f"size{number}", ctypes.c_size_t) for number in range(1, 11)]


def _sqlite() -> int | None:
    with suppress(OSError, AttributeError):
        used: Any = ctypes.CDLL("libsqlite3.so.0").sqlite3_memory_used
        used.restype = ctypes.c_int64
        return int(used())
    return None


def _free() -> int | None:
    with suppress(OSError, AttributeError):
        info: Any = ctypes.CDLL("libc.so.6").mallinfo2
        info.restype = _MallInfo
        return int(info().size9)
    return None


def quarters(samples: Sequence[Sample], value: Callable[[Sample], int]) -> Sequence[Sequence[int]]:
    """The values in four parts, each as long as the next."""
    size = len(samples) // QUARTERS
    values = [value(each) for each in samples]
    return [values[turn * size : (turn + 1) * size] for turn in range(QUARTERS)]


def medians(parts: Sequence[Sequence[int]]) -> Sequence[float]:
    """Of each quarter."""
    return [statistics.median(part) for part in parts]


def slopes(parts: Sequence[Sequence[int]], interval: float) -> Sequence[float]:
    """By how many bytes each quarter grows in a minute; `interval` seconds lie between values."""
    each = 60 / interval
    return [each * statistics.linear_regression(range(len(part)), part).slope for part in parts]


def told(sizes: Sequence[float], form: str = ".1f") -> str:
    """In megabytes, one after the other."""
    return ", ".join(f"{size / _MEGABYTE:{form}}" for size in sizes)
