"""The three standard streams, so that what goes wrong with them is said, and said truly.

Trouble with stdout and stdin raises errors of ours at the moment of the write or the read, so that
nobody takes it for trouble with the file at hand. Stderr is for words about what happens: losing
them changes nothing. A stream that the command was started without (`>&-`) gets a descriptor that
refuses everything, so that no file that is opened later becomes what the command prints to.
"""

import errno
import io
import os
import sys
from typing import TYPE_CHECKING, Final, TextIO, cast

from segexport.errors import InputFailed, OutputClosed, OutputFailed
from segexport.faults import explaining, reason

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_STDIN: Final = 0
_STDOUT: Final = 1
_STDERR: Final = 2


class _Results(io.FileIO):
    """Stdout. After a first failure it takes everything and writes nothing."""

    _failed = False

    def write(self, data: "ReadableBuffer", /) -> int:
        size = memoryview(data).nbytes
        if self._failed:
            return size
        try:
            return super().write(data)
        except BrokenPipeError as error:
            self._failed = True
            raise OutputClosed("whoever read stdout has gone") from error
        except OSError as error:
            self._failed = True
            raise OutputFailed(
                f"results cannot be written to stdout ({reason(error)}); what the command was to "
                "do may have been done: look, before you run it again"
            ) from error


class _Words(io.FileIO):
    """Stderr."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


class _Given(io.FileIO):
    """Stdin."""

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        with explaining(_unreadable, "stdin"):
            return super().readinto(buffer)

    def readall(self) -> bytes:
        with explaining(_unreadable, "stdin"):
            return super().readall()


def _unreadable(_: str, why: str) -> InputFailed:
    return InputFailed(f"stdin cannot be read ({why}); give it something that can be, or a file")


def take_over() -> None:
    """Make the standard streams behave so; those that somebody has replaced stay as they are.

    Letters that the encoding of a stream has not are written as escapes.
    """
    if sys.stdin is sys.__stdin__:
        _open_where_closed(_STDIN, os.O_WRONLY)
        sys.stdin = _text(_Given(_STDIN, "r", closefd=False), sys.stdin)
    if sys.stdout is sys.__stdout__:
        _open_where_closed(_STDOUT, os.O_RDONLY)
        sys.stdout = _text(_Results(_STDOUT, "w", closefd=False), sys.stdout)
    if sys.stderr is sys.__stderr__:
        _open_where_closed(_STDERR, os.O_RDONLY)
        sys.stderr = _text(_Words(_STDERR, "w", closefd=False), sys.stderr, line_buffering=True)


def _open_where_closed(descriptor: int, flags: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        opened = os.open(os.devnull, flags)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)
        os.set_inheritable(descriptor, True)


def _text(raw: io.FileIO, before: TextIO | None, *, line_buffering: bool = False) -> TextIO:
    buffered = io.BufferedReader(raw) if raw.readable() else io.BufferedWriter(raw)
    return io.TextIOWrapper(
        cast("io.BufferedWriter", buffered),
        encoding=before.encoding if before is not None else "utf-8",
        errors="backslashreplace" if raw.writable() else "surrogateescape",
        line_buffering=line_buffering or raw.isatty() or getattr(before, "write_through", False),
    )
