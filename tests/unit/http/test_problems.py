"""What an exception means to a client: whom it blames, and what is told where."""

import errno
import os
import sqlite3
from http import HTTPStatus

import botocore.exceptions
import duckdb
import httpx
import pytest
from structlog.testing import capture_logs

from segexport.errors import DatasetError, SettingsError, StoreReplaced
from segexport.http.problems import refusal_of

DENIED = PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/srv/secret/jobs.sqlite")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DENIED, "system"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "system"),
        (TimeoutError(), "system"),
        (ExceptionGroup("several", [ValueError(), DENIED]), "system"),
        (sqlite3.OperationalError("disk I/O error"), "system.dependency"),
        (duckdb.IOException("no"), "system.dependency"),
        (httpx.ConnectError("no"), "system.dependency"),
        (
            botocore.exceptions.ClientError({"Error": {"Code": "403"}}, "HeadObject"),
            "system.dependency",
        ),
        (DatasetError("the object store refuses access to s3://x"), "dataset"),
        (StoreReplaced("jobs.sqlite is another file"), "store.replaced"),
    ],
)
def test_what_the_system_or_a_library_refuses_may_be_tried_again_later(
    error: Exception, code: str
) -> None:
    with capture_logs() as logged:
        refusal = refusal_of(error)
    assert (refusal.status, refusal.code) == (HTTPStatus.SERVICE_UNAVAILABLE, code)
    assert "Retry-After" in refusal.headers
    assert "secret" not in refusal.message
    assert [(line["event"], line["log_level"]) for line in logged] == [
        ("a request cannot be served", "warning")
    ]
    assert logged[0]["error"]


@pytest.mark.parametrize("error", [ZeroDivisionError("oops"), SettingsError("no")])
def test_a_mistake_of_ours_is_an_error_of_the_server(error: Exception) -> None:
    with capture_logs() as logged:
        refusal = refusal_of(error)
    assert refusal.status is HTTPStatus.INTERNAL_SERVER_ERROR
    assert [line["event"] for line in logged] == ["a request has failed"]
