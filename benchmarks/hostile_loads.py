"""What hostile clients send: each as much work as fits into one connection, ready made."""

import base64
from collections.abc import Mapping
from typing import Final

from client import request
from served import JOBS

TOKEN: Final = "/ims/token/v3"
PINPOINT: Final = "/v1/apps/spring/jobs/export"
FORM: Final[Mapping[str, str]] = {"Content-Type": "application/x-www-form-urlencoded"}
BODY: Final = 999_000
"""Bytes of a body: all that one may have."""
HEAD: Final = 14_000
"""Bytes of a head, nearly all as well."""


def loads(headers: Mapping[str, str]) -> Mapping[str, bytes]:
    """Requests by what is odd about them; `headers` let in whoever shows them."""
    deep = b"[" * (BODY // 2) + b"]" * (BODY // 2)
    keys = b"{" + b",".join(b'"k%06d":0' % number for number in range(BODY // 12)) + b"}"
    same = b"{" + b",".join([b'"k":0'] * (BODY // 6)) + b"}"
    segments = b'{"destination":{"datasetId":"a"},"filter":{"segments":[%s]}}'
    listed = segments % b",".join([b"0"] * (BODY // 2))
    statuses = b",".join(b'{"segmentId":"s%d","status":["realized"]}' % n for n in range(500))
    escaped = b'{"fields":"' + b"\\u0041" * (BODY // 6) + b'"}'
    signed = {
        "Authorization": "AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-east-1/mobiletargeting"
        f"/aws4_request, SignedHeaders={';'.join(f'h{n}' for n in range(64))}, Signature={'0' * 64}"
    }
    lines = {f"x{number}": "" for number in range(HEAD // 9)}
    nested = base64.urlsafe_b64encode(b"[" * 5_900).decode()
    token = {"Authorization": f"Bearer {nested}.{nested[:200]}.x"}
    cookies = {"Cookie": "a=b; " * (HEAD // 5)}
    return {
        "a form in chunks of a byte": _chunked(TOKEN, FORM, b"a"),
        "a job in chunks of a byte": _chunked(JOBS, headers, b" "),
        "a form in chunks of a byte, long extensions": _chunked(
            TOKEN, FORM, b"a", b";" + b"e" * 20
        ),
        "a body that nobody reads, in chunks of a byte": _chunked("/livez", {}, b"a", method="GET"),
        "a form of escapes": request("POST", TOKEN, b"a=" + b"%41" * (BODY // 3), FORM),
        "a form of fields": request("POST", TOKEN, b"a&" * (BODY // 2), FORM),
        "a form": request("POST", TOKEN, b"a" * BODY, FORM),
        "a session's form of escapes": request(
            "POST", "/session", b"a=" + b"%41" * (BODY // 3), FORM
        ),
        "unknown words": request("POST", JOBS, keys, headers),
        "unknown words, in Pinpoint's form": request("POST", PINPOINT, keys, signed),
        "unknown words, for a job of ours": request("POST", "/jobs", keys, headers),
        "one word again and again": request("POST", JOBS, same, headers),
        "deep lists": request("POST", JOBS, deep, headers),
        "a long list": request("POST", JOBS, listed, headers),
        "500 segments": request("POST", JOBS, segments % statuses, headers),
        "a string of escapes": request("POST", JOBS, escaped, headers),
        "header lines": request("GET", JOBS, headers=lines),
        "parameters": request("GET", f"{JOBS}?{'a&' * (HEAD // 2)}", headers=headers),
        "states": request("GET", f"/jobs?{'state=&' * (HEAD // 7)}", headers=headers),
        "parameters, signed": request("GET", f"{PINPOINT}?{'%41&' * (HEAD // 6)}", headers=signed),
        "a token of lists": request("GET", JOBS, headers=token),
        "cookies": request("GET", "/events/stream", headers=cookies),
        "many requests at once": request("GET", "/nothing") * 3_000,
        "whole heads, one after the other": request("GET", "/nothing", headers=lines) * 20,
    }


def _chunked(
    path: str,
    headers: Mapping[str, str],
    data: bytes,
    extension: bytes = b"",
    method: str = "POST",
) -> bytes:
    told = {**headers, "Transfer-Encoding": "chunked"}
    if method == "POST":
        told.setdefault("Content-Type", "application/json")
    chunk = b"%x%b\r\n%b\r\n" % (len(data), extension, data)
    return request(method, path, headers=told) + chunk * 300_000 + b"0\r\n\r\n"
