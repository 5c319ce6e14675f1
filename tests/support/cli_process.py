"""The command line with standard streams that fail, and without what makes root almighty.

Forked (`support.forked`), with the `Order` as JSON.
"""

import ctypes
import json
import os
import sys
from dataclasses import asdict, dataclass

from segexport.cli import main as segexport

_VERSION_3 = 0x20080522
CLOSED = "closed"
GONE = "gone"


@dataclass(frozen=True, kw_only=True)
class Order:
    """A command, and where it runs.

    `stdin`, `stdout` and `stderr` are files, or `CLOSED`, or, for what is written, `GONE`: a pipe
    that nobody reads any more.
    """

    arguments: list[str]
    folder: str
    stdin: str = os.devnull
    stdout: str
    stderr: str
    umask: int = 0o022

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def main(order: str) -> None:
    wanted = Order(**json.loads(order))
    os.chdir(wanted.folder)
    os.umask(wanted.umask)
    _attach("stdin", 0, wanted.stdin, os.O_RDONLY)
    _attach("stdout", 1, wanted.stdout, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    _attach("stderr", 2, wanted.stderr, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    give_up_capabilities()
    sys.argv = ["segexport", *wanted.arguments]
    segexport()


def give_up_capabilities() -> None:
    """From here on permissions count, for root as well."""
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, none):
        raise OSError(ctypes.get_errno(), "capset")


def _attach(name: str, descriptor: int, where: str, flags: int) -> None:
    os.close(descriptor)
    if where == CLOSED:
        setattr(sys, name, None)
        setattr(sys, f"__{name}__", None)
        return
    if where == GONE:
        reader, writer = os.pipe()
        os.close(reader)
        opened = os.dup(writer) if writer == descriptor else writer
    else:
        opened = os.open(where, flags, 0o666)
    if opened != descriptor:
        os.dup2(opened, descriptor)
        os.close(opened)
