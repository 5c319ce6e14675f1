"""How many examples hypothesis tries."""

import os

TIMES = int(os.environ.get("SEGEXPORT_TEST_EXAMPLES", "1"))
"""More of them, for a search that may take its time: `SEGEXPORT_TEST_EXAMPLES=20`."""


def examples(number: int) -> int:
    """This many, unless the environment asks for a multiple."""
    return number * TIMES
