"""A process of its own that erases a person and kills itself on the way, with SIGKILL.

    python -m support.erase_process FOLDER IDENTITY NTH

IDENTITY is a namespace, a colon and an id. The process dies before it renames or removes a file
below the folder for the NTH time, from 1 on; if it does not come to that, it ends with status 0.
"""

import asyncio
import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

from segexport.profiles.subjects import Identity
from support.workplace import Workplace

DEADLY = frozenset({"os.rename", "os.remove", "os.rmdir", "shutil.rmtree"})


def die_before(nth: int, folder: Path) -> None:
    """Kill this process before it renames or removes something for the `nth` time."""
    numbers = itertools.count(1)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        is_below = event in DEADLY and Path(arguments[0]).is_relative_to(folder)
        if is_below and next(numbers) == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


async def main(folder: Path, identity: str, nth: int) -> None:
    """Erase until it is time to die."""
    place = await Workplace.open(folder)
    namespace, _, id_ = identity.partition(":")
    die_before(nth, folder)
    await place.erased(Identity(namespace, id_))
    await place.store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
