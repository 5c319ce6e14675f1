"""A program that is run again and again, each time in a process of its own.

    python -m support.forked MODULE

To start Python and import what we are made of takes longer than what most of these processes
do. So this program imports the module once, before there is any thread. For each order, a line
on its input, it forks a child that calls the module's `main` with the ordered arguments, and
answers with two lines: the child's pid, then its exit status. What children print goes to the
standard error.
"""

import json
import os
import select
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Self

TESTS = Path(__file__).parents[1]


class Forked:
    """Runs the module's `main`, one process after the other, until the block ends."""

    def __init__(self, module: ModuleType) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.forked", module.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # a line that waits in a buffer is not seen by `select`
            cwd=TESTS,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.communicate()

    def run(self, *arguments: str, patience: float = 60) -> int:
        """The exit status, negative for a signal. Its environment is what is ours by now.

        Raises TimeoutError if it had to be killed after `patience` seconds.
        """
        orders, answers = self._process.stdin, self._process.stdout
        assert orders is not None
        assert answers is not None
        orders.write(json.dumps([arguments, dict(os.environ)]).encode() + b"\n")
        pid = int(answers.readline())
        if select.select([answers], [], [], patience)[0]:
            return int(answers.readline())
        os.kill(pid, signal.SIGKILL)
        answers.readline()
        raise TimeoutError(f"{arguments} had not ended after {patience:g} s")


def main(module: str) -> None:
    """Fork as ordered, until there are no more orders."""
    program = import_module(module).main
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for order in sys.stdin:
        child = os.fork()
        if child == 0:
            arguments, environment = json.loads(order)
            os.environ.clear()
            os.environ.update(environment)
            program(*arguments)
            return
        print(child, file=answers)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers)


if __name__ == "__main__":
    main(sys.argv[1])
