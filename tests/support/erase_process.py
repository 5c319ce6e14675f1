"""A process of its own (`support.forked`) that erases a person and kills itself on the way."""

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


def main(folder: str, identity: str, nth: str) -> None:
    """Erase whom `namespace:id` names from the workplace in the folder.

    Dies before it renames or removes something below the folder for the `nth` time, from 1 on;
    if it does not come to that, it ends like any program.
    """
    asyncio.run(_erase(Path(folder), identity, int(nth)))


async def _erase(folder: Path, identity: str, nth: int) -> None:
    place = await Workplace.open(folder)
    namespace, _, id_ = identity.partition(":")
    die_before(nth, folder)
    await place.erased(Identity(namespace, id_))
    await place.store.close()
