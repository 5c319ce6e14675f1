"""Logs tell what went wrong, and no secrets."""

import logging
from collections.abc import Iterator
from secrets import token_hex
from typing import Literal

import pytest
import structlog

from segexport.telemetry import configure_logging


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def fail(client_secret: str) -> None:
    assert client_secret
    raise RuntimeError("no good")


@pytest.mark.parametrize("style", ["console", "json"])
def test_a_traceback_shows_no_values_of_variables(
    style: Literal["console", "json"], capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(style=style)
    secret = token_hex(8)
    try:
        fail(secret)
    except RuntimeError:
        structlog.stdlib.get_logger("test").exception("it failed")
    told = capsys.readouterr().err
    assert "no good" in told
    assert "fail" in told
    assert secret not in told


@pytest.mark.parametrize("name", ["botocore.auth", "aiobotocore.endpoint"])
def test_debugging_does_not_tell_how_requests_to_s3_are_signed(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(style="json", level="debug")
    logging.getLogger(name).debug("x-amz-security-token")
    assert not capsys.readouterr().err
