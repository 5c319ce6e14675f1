"""Logs tell what went wrong, and no secrets."""

import logging
from collections.abc import Iterator
from secrets import token_hex
from typing import Literal

import pytest
import structlog

from segexport.telemetry import Seldom, configure_logging


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


def warning(message: str, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("uvicorn.error", level, __file__, 1, message, (), None)


def test_what_strangers_can_bring_about_is_told_once_a_minute_with_how_often() -> None:
    now = 0.0
    seldom = Seldom(60.0, clock=lambda: now)
    assert seldom.filter(warning("no request"))
    assert not any(seldom.filter(warning("no request")) for _ in range(1000))
    assert seldom.filter(warning("another"))
    assert all(seldom.filter(warning("a mistake", logging.ERROR)) for _ in range(3))
    now = 61.0
    again = warning("no request")
    assert seldom.filter(again)
    assert again.getMessage() == "no request (1000 more since it was last said)"


@pytest.mark.parametrize("name", ["asyncio", "uvicorn.error"])
def test_warnings_of_the_server_are_among_these(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(style="json")
    for _ in range(100):
        logging.getLogger(name).warning("socket.send() raised exception. %s", token_hex(4))
    assert len(capsys.readouterr().err.splitlines()) <= 1
