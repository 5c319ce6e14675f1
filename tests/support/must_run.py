"""What a test needs and does not find."""

import os
from typing import NoReturn

import pytest

MUST_RUN = "SEGEXPORT_TEST_MUST_RUN"
"""Set in CI: what cannot run is a failure there, not a skip."""


def missing(reason: str) -> NoReturn:
    """Skip the test that runs, or fail it where it must run."""
    if os.environ.get(MUST_RUN):
        pytest.fail(reason)
    pytest.skip(reason)
