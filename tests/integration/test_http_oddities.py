"""Requests that no well-behaved client sends, written to the connection byte by byte."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import product
from typing import Any
from urllib.parse import urlsplit

import h11
import pytest

from support.interfaces import APPLICATION, BODY, JOBS, Interfaces

FORM = b"Content-Type: application/x-www-form-urlencoded"
JSON = b"Content-Type: application/json"
PINPOINT = f"/v1/apps/{APPLICATION}"
TEXT = json.dumps(BODY).encode()


def request(
    target: str,
    *headers: bytes,
    method: str = "GET",
    body: bytes = b"",
    version: str = "1.1",
    host: bytes = b"Host: localhost",
) -> bytes:
    """A request as it goes over the wire; a body is announced if no header says anything of it."""
    lines = [f"{method} {target} HTTP/{version}".encode("latin-1"), *filter(None, [host]), *headers]
    if body and not any(line.lower().startswith((b"content-l", b"transfer")) for line in headers):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body])


def creation(body: bytes, *headers: bytes, **options: Any) -> bytes:
    """A request for a job."""
    return request(JOBS, JSON, *headers, method="POST", body=body, **options)


@dataclass
class Answer:
    """One answer, its body whole."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


async def answers(house: Interfaces, sent: bytes, *, count: int = 1) -> Sequence[Answer]:
    """The answers to so many requests, sent at once; fewer where the connection ends before."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(house.address).port)
    writer.write(sent)
    method = sent.split(b" ", 1)[0].decode()
    got: list[Answer] = []
    rest = b""
    async with closing_at_end(writer), asyncio.timeout(20):
        for _ in range(count):
            peer = h11.Connection(h11.CLIENT)
            peer.send(h11.Request(method=method, target="/", headers=[("host", "localhost")]))
            peer.send(h11.EndOfMessage())
            rest = await _answer(peer, reader, rest, got)
    return got


@asynccontextmanager
async def closing_at_end(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def _answer(
    peer: h11.Connection, reader: asyncio.StreamReader, rest: bytes, got: list[Answer]
) -> bytes:
    """Read one answer more; returns what of the next one came with it."""
    rest = rest or await reader.read(65_536)
    if not rest:
        return b""
    peer.receive_data(rest)
    while not isinstance(event := peer.next_event(), h11.EndOfMessage | h11.ConnectionClosed):
        match event:
            case h11.Response():
                headers = {name.decode(): value.decode() for name, value in event.headers}
                got.append(Answer(event.status_code, headers))
            case h11.Data():
                got[-1].body += event.data
            case h11.NEED_DATA:
                peer.receive_data(await reader.read(65_536))
    return peer.trailing_data[0]


async def answer(house: Interfaces, sent: bytes) -> Answer:
    """The answer to one request."""
    (got,) = await answers(house, sent)
    return got


# Targets


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (f"{JOBS}/%00", 404),
        (f"{JOBS}/%0A", 404),
        (f"{JOBS}%0A", 404),
        (f"{JOBS}/1%0A", 404),
        (f"{JOBS}/%FF%FE", 404),
        (f"{JOBS}/%ED%A0%80", 404),
        (f"{JOBS}/%D9%A1", 404),
        (f"{JOBS}/1%2F2", 404),
        (f"{JOBS}/1%2F", 404),
        (f"{JOBS}/.", 404),
        (f"{JOBS}/1/../..", 404),
        (f"{JOBS}/../jobs", 404),
        ("/data/core/ups/x/../export/jobs", 404),
        (f"{JOBS}//", 404),
        (f"{JOBS}/{'9' * 10_000}", 404),
        (f"{JOBS}?offset=%00", 400),
        (f"{JOBS}?offset=%FF", 400),
        (f"{JOBS}?offset=99999999999999_9999999999999999", 200),
        (f"{JOBS}?status=%00", 400),
        (f"{JOBS}?limit={'9' * 5_000}", 400),
        (f"{JOBS}?limit=1_0", 400),
        (f"{JOBS}?limit=%2B1", 400),
        (f"{JOBS}?limit=1.0", 400),
    ],
)
async def test_odd_targets_are_answered_by_the_interface_that_they_are_below(
    target: str, status: int, open_house: Interfaces
) -> None:
    got = await answer(open_house, request(target))
    assert got.status == status
    assert status == 200 or got.json.keys() >= {"requestId", "errors"}


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/v1/apps/%FF/jobs/export", 404),
        ("/v1/apps/%0A/jobs/export", 404),
        (f"{PINPOINT}/jobs/export/%0A", 404),
        (f"{PINPOINT}/segments/%00/jobs/export", 200),
        (f"{PINPOINT}/segments/%ED%A0%80/jobs/export", 400),
        (f"{PINPOINT}/segments/a%FFb/jobs/export", 400),
        (f"{PINPOINT}/segments/a%2Fb/jobs/export", 200),
        (f"{PINPOINT}/segments/a/b/jobs/export", 405),
        (f"{PINPOINT}/segments/../jobs/export", 200),
        (f"{PINPOINT}/segments/%2E%2E/jobs/export", 200),
        (f"{PINPOINT}/segments//jobs/export", 405),
        (f"{PINPOINT}/x/../jobs/export", 405),
        (f"{PINPOINT}/jobs%2Fexport", 405),
        (f"{PINPOINT}/jobs/export/", 405),
        (f"{PINPOINT}/jobs/export/1%2F2", 404),
        ("/v1/apps/spring%2Fx/jobs/export", 404),
        (f"{PINPOINT}/jobs/export?token=%FF", 400),
        (f"{PINPOINT}/jobs/export?page-size=1_0", 400),
    ],
)
async def test_odd_targets_are_answered_as_pinpoint_would(
    target: str, status: int, open_house: Interfaces
) -> None:
    got = await answer(open_house, request(target))
    assert got.status == status
    assert status == 200 or got.json.keys() == {"Message", "RequestID"}


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/jobs/1%2Fcancel", 404),
        ("/jobs%2F1", 404),
        ("/jobs/..", 404),
        ("/jobs/../livez", 404),
        ("/jobs/%FF", 404),
        ("/%6Aobs", 200),
        ("/data/core/ups%2Fexport/jobs", 404),
        ("/data%2Fcore/ups/export/jobs", 404),
        ("/v1%2Fapps/spring/jobs/export", 404),
    ],
)
async def test_paths_are_taken_apart_before_they_are_decoded(
    target: str, status: int, open_house: Interfaces
) -> None:
    got = await answer(open_house, request(target))
    assert got.status == status
    assert status == 200 or got.json["code"] in {"job.not_found", "http.not_found"}


async def test_an_id_that_is_no_text_is_said_to_be_none(open_house: Interfaces) -> None:
    got = await answer(open_house, request(f"{PINPOINT}/segments/a%FFb/jobs/export"))
    assert (got.status, got.headers["x-amzn-errortype"]) == (400, "BadRequestException")
    assert "segment_id: is no text" in got.json["Message"]
    for target in (f"{JOBS}/%FF", "/jobs/%FF", f"{PINPOINT}/jobs/export/%FF"):
        got = await answer(open_house, request(target))
        assert (got.status, b"there is no job" in got.body) == (404, True)


async def test_a_target_may_be_a_whole_url(open_house: Interfaces) -> None:
    assert (await answer(open_house, request(f"http://localhost{JOBS}?limit=1"))).status == 200
    assert (await answer(open_house, request("HTTP://LOCALHOST:80/livez"))).status == 200
    assert (await answer(open_house, request("https://localhost"))).status == 404


async def test_the_host_is_that_of_the_url_and_not_of_the_header(open_house: Interfaces) -> None:
    foreign = request(f"http://evil.example{JOBS}")
    ours = request(f"http://localhost{JOBS}", host=b"Host: evil.example")
    assert (await answer(open_house, foreign)).status == 403
    assert (await answer(open_house, ours)).status == 200


# Methods


async def test_head_is_get_without_the_body(open_house: Interfaces) -> None:
    for target in (JOBS, f"{PINPOINT}/jobs/export", "/livez", "/readyz", "/events/stream"):
        got = await answer(open_house, request(target, method="HEAD"))
        assert (got.status, got.body) == (200, b""), target
    missing = await answer(open_house, request(f"{JOBS}/1", method="HEAD"))
    assert (missing.status, missing.body) == (404, b"")


async def test_options_tell_what_is_allowed_and_allow_nothing_to_other_sites(
    open_house: Interfaces,
) -> None:
    asked = (b"Origin: https://evil.example", b"Access-Control-Request-Method: POST")
    for target, allowed in (
        (JOBS, "GET, HEAD, OPTIONS, POST"),
        (f"{JOBS}/1", "DELETE, GET, HEAD, OPTIONS"),
        ("/session", "DELETE, OPTIONS, POST"),
        ("/livez", "GET, HEAD, OPTIONS"),
    ):
        got = await answer(open_house, request(target, *asked, method="OPTIONS"))
        assert (got.status, got.headers["allow"]) == (204, allowed), target
        assert not [name for name in got.headers if name.startswith("access-control")]


@pytest.mark.parametrize("method", ["TRACE", "PATCH", "QUERY", "get", "A" * 300])
async def test_other_methods_are_told_which_are_allowed(
    method: str, open_house: Interfaces
) -> None:
    for target in (JOBS, "/livez"):
        got = await answer(open_house, request(target, method=method))
        assert got.status == 405
        assert "GET, HEAD, OPTIONS" in got.headers["allow"]


# Headers


async def test_two_hosts_are_refused(open_house: Interfaces) -> None:
    for extra in (b"Host: localhost", b"Host: evil.example"):
        assert (await answer(open_house, request(JOBS, extra))).status == 400
    assert (await answer(open_house, request(JOBS, host=b""))).status == 400


ONCE = (
    *("x-gw-ims-org-id", "X-Sandbox-Name", "x-api-key", "Authorization", "x-request-id", "Origin"),
    *("content-type", "content-encoding", "x-amz-date", "x-amz-security-token", "last-event-id"),
    *("x-amz-content-sha256", "amz-sdk-invocation-id"),
)


@pytest.mark.parametrize("values", [(b"acme", b"other"), (b"acme", b"acme"), (b"acme", b"")])
async def test_a_header_that_says_one_thing_is_not_taken_twice(
    values: Sequence[bytes], open_house: Interfaces, house: Interfaces
) -> None:
    targets = (JOBS, "/jobs", "/events/stream", f"{PINPOINT}/jobs/export")
    for name, target, interfaces in product(ONCE, targets, (open_house, house)):
        twice = [name.encode() + b": " + value for value in values]
        got = await answer(interfaces, request(target, *twice))
        assert got.status == 400, (name, target)
        assert f"{name.lower()} is there 2 times" in got.body.decode()
        assert got.headers["x-request-id"] not in {"acme", "other"}


async def test_a_repeated_header_is_refused_in_the_form_of_each_interface(
    open_house: Interfaces,
) -> None:
    twice = (b"x-gw-ims-org-id: acme", b"x-gw-ims-org-id: other")
    platform = await answer(open_house, creation(TEXT, *twice))
    assert (platform.status, platform.json["error_code"]) == (400, "400902")
    own = await answer(open_house, request("/jobs", *twice))
    assert own.json["code"] == "access.header_repeated"
    pinpoint = await answer(open_house, request(f"{PINPOINT}/jobs/export", *twice))
    assert pinpoint.headers["x-amzn-errortype"] == "BadRequestException"


async def test_a_form_of_two_types_signs_nobody_in(house: Interfaces) -> None:
    body = b"grant_type=client_credentials&client_id=a&client_secret=b"
    for target in ("/ims/token/v3", "/session"):
        two = request(target, FORM, FORM, method="POST", body=body)
        assert (await answer(house, two)).status == 400


NO_HOSTS = [
    *("[", "", "\xff", "user@127.0.0.1", "127.0.0.1@evil.example", "127.0.0.1:x", "127.0.0.1:"),
    *("127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:080800", "127.0.0.1:-1", "localhost.", ".", ":"),
    *("127.0.0.1.", "a..b", "::1", "[::1", "[::1]x", "[127.0.0.1]", "[::1%25lo]", "[::1%lo]"),
    *(
        "localhost/x",
        "localhost?x",
        "localhost#x",
        "local host",
        "localhost,evil",
        "http://localhost",
    ),
    *("[::g]", "localhost:80:80", "%6cocalhost", "localhost\\x", "127.0.0.1:\u0664"),
]


async def test_what_is_no_host_is_refused_with_keys_and_without(
    open_house: Interfaces, house: Interfaces
) -> None:
    for host, interfaces in product(NO_HOSTS, (open_house, house)):
        line = b"Host: " + host.encode("utf-8" if "\u0664" in host else "latin-1")
        for target in (JOBS, "/livez", f"{PINPOINT}/jobs/export"):
            got = await answer(interfaces, request(target, host=line))
            assert got.status == 400, (host, target)


@pytest.mark.parametrize("host", ["user@localhost", "localhost:", "", "[::1%25lo]", "localhost."])
async def test_a_whole_url_is_for_a_host_as_well(host: str, open_house: Interfaces) -> None:
    assert (await answer(open_house, request(f"http://{host}/livez"))).status == 400


@pytest.mark.parametrize(
    "host", ["exports.example", "my_service:8080", "EXPORTS.example:443", "[2001:db8::1]:8443"]
)
async def test_any_host_may_be_asked_where_there_are_keys(host: str, house: Interfaces) -> None:
    sent = request("/livez", host=f"Host: {host}".encode())
    assert (await answer(house, sent)).status == 200
    asked = await answer(house, request(JOBS, host=f"Host: {host}".encode()))
    assert asked.json["error_code"] == "403010"


@pytest.mark.parametrize(
    "origin",
    [
        *("http://[", "null", "", "https://evil.example", "localhost", "file://localhost"),
        *("http://localhost:81", "http://user@localhost", "http://localhost/", "http://localhost."),
        *("http://localhost@evil.example", "http://localhost\\.evil.example", "http://"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_another_site_signs_nobody_in_and_nobody_out(
    method: str, origin: str, house: Interfaces
) -> None:
    form = b"client_id=a&client_secret=b" if method == "POST" else b""
    sent = request("/session", FORM, b"Origin: " + origin.encode(), method=method, body=form)
    got = await answer(house, sent)
    assert (got.status, got.json["error"]) == (403, "access_denied")
    assert "set-cookie" not in got.headers


@pytest.mark.parametrize(
    "extra", [(), (b"Origin: http://localhost",), (b"Origin: HTTP://LOCALHOST",)]
)
async def test_the_own_site_signs_out(extra: Sequence[bytes], house: Interfaces) -> None:
    got = await answer(house, request("/session", *extra, method="DELETE"))
    assert got.status == 204
    assert "segexport_session=" in got.headers["set-cookie"]
    two = (b"Origin: http://localhost", b"Origin: https://evil.example")
    assert (await answer(house, request("/session", *two, method="DELETE"))).status == 403


@pytest.mark.parametrize(
    "origin", ["http://user@127.0.0.1", "http://127.0.0.1@evil.example", "http://127.0.0.1/x", ""]
)
async def test_an_origin_that_is_none_is_not_this_machine(
    origin: str, open_house: Interfaces
) -> None:
    got = await answer(open_house, request(JOBS, b"Origin: " + origin.encode()))
    assert (got.status, got.json["error_code"]) == (403, "403903")


async def test_cookies_and_tokens_of_any_bytes_are_refused(house: Interfaces) -> None:
    cookie = b"Cookie: segexport_session=\xff; a"
    token = b"Authorization: Bearer \xff"
    assert (await answer(house, request("/events/stream?sandbox=x", cookie))).status == 401
    got = await answer(house, request(JOBS, token, b"x-api-key: \xff"))
    assert got.status == 403


# Bodies


@pytest.mark.parametrize(
    "text",
    [
        b'{"filter":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"destination":' * 20_000,
        b'{"mergePolicy":{"id":"a","version":'
        + b"9" * 5_000
        + b'},"destination":{"datasetId":"a"}}',
        b'{"mergePolicy":{"id":"a","version":1e999},"destination":{"datasetId":"a"}}',
        b'{"mergePolicy":{"id":"a","version":NaN},"destination":{"datasetId":"a"}}',
        b'{"destination":{"datasetId":"a"},"journey":{"versionId":"\\ud800","namespace":"E"}}',
        b'{"destination":{"datasetId":"\xff"}}',
        TEXT.decode().encode("utf-16"),
        TEXT + TEXT,
        b"null",
        b"",
    ],
    ids=lambda text: repr(text[:40]),
)
async def test_what_is_no_request_is_refused(text: bytes, open_house: Interfaces) -> None:
    for sent in (
        creation(text, b"Content-Length: %d" % len(text)),
        request(f"{PINPOINT}/jobs/export", JSON, method="POST", body=text),
    ):
        got = await answer(open_house, sent)
        assert got.status == 400, got


@pytest.mark.parametrize(
    "text",
    [
        b'{"destination":{"datasetId":"a"},"destination":{"datasetId":"b"}}',
        b'{"destination":{"datasetId":"a","datasetId":"b"}}',
        b'{"destination":{"dataSetId":"a","dataSetId":"a"}}',
    ],
)
async def test_a_name_that_is_there_twice_is_refused(text: bytes, open_house: Interfaces) -> None:
    got = await answer(open_house, creation(text))
    assert got.status == 400
    (problem,) = got.json["errors"]["400"]
    assert "is there twice" in problem["message"]
    twice = b'{"RoleArn":"a","S3UrlPrefix":"s3://exports/a","RoleArn":"b"}'
    signed = request(f"{PINPOINT}/jobs/export", JSON, method="POST", body=twice)
    assert (await answer(open_house, signed)).status == 400


@pytest.mark.parametrize(
    "text",
    [
        b"{%s}" % b",".join(b'"k%d":1' % n for n in range(80_000)),
        b'{"destination":{"datasetId":"a"},"filter":{"segments":[%s]}}'
        % b",".join([b"1"] * 400_000),
        b'{"destination":{"datasetId":"a"},"filter":{"segments":[%s]}}' % b",".join([b"{}"] * 500),
    ],
    ids=["words", "segments", "problems"],
)
async def test_an_answer_is_no_larger_than_it_need_be(text: bytes, open_house: Interfaces) -> None:
    got = await answer(open_house, creation(text))
    assert got.status == 400
    assert len(got.body) < 20_000


async def test_a_byte_order_mark_is_left_out(open_house: Interfaces) -> None:
    assert (await answer(open_house, creation(b"\xef\xbb\xbf" + TEXT))).status == 200


async def test_a_compressed_body_is_refused(open_house: Interfaces) -> None:
    assert (await answer(open_house, creation(TEXT, b"Content-Encoding: gzip"))).status == 415
    assert (await answer(open_house, creation(TEXT, b"Content-Encoding: identity"))).status == 200


@pytest.mark.parametrize(
    "form",
    [
        b"grant_type=client_credentials&client_id=%FF&client_secret=%FF",
        b"grant_type=client_credentials&client_id=a&client_id=b&client_secret=c",
        b"grant_type=client_credentials&client_id=a",
        b"a=b&" * 3_000,
    ],
    ids=["bytes", "twice", "half", "many"],
)
async def test_a_form_that_is_none_gets_no_token(form: bytes, house: Interfaces) -> None:
    got = await answer(house, request("/ims/token/v3", FORM, method="POST", body=form))
    assert (got.status, got.json["error"]) == (400, "invalid_request")


# Framing


def chunked(*parts: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + end


async def test_a_body_may_come_in_chunks(open_house: Interfaces) -> None:
    for body in (
        chunked(TEXT[:20], TEXT[20:]),
        chunked(TEXT, end=b"0\r\nx-checksum: 1\r\n\r\n"),
        b"%x;a=b\r\n%s\r\n0\r\n\r\n" % (len(TEXT), TEXT),
    ):
        got = await answer(open_house, creation(body, b"Transfer-Encoding: chunked"))
        assert got.status == 200, got


async def test_where_two_lengths_are_told_nothing_can_follow(open_house: Interfaces) -> None:
    """Whoever stood before us may have gone by the other: what follows would be somebody else's."""
    both = (b"Transfer-Encoding: chunked", b"Content-Length: 5")
    sent = creation(chunked(TEXT), *both) + request("/livez")
    first, *others = await answers(open_house, sent, count=2)
    assert (first.status, first.headers["connection"], others) == (200, "close", [])


@pytest.mark.parametrize("told", [b"-5", b"+5", b"5, 6", b"0x5", b""])
async def test_a_length_that_is_none_is_refused(told: bytes, open_house: Interfaces) -> None:
    got = await answer(open_house, creation(TEXT, b"Content-Length: " + told))
    assert got.status == 400


async def test_a_body_that_is_told_to_be_too_large_is_not_waited_for(
    open_house: Interfaces,
) -> None:
    for sent in (
        creation(b"", b"Content-Length: 99999999999999999999"),
        creation(b"", b"Content-Length: 1000001", b"Expect: 100-continue"),
    ):
        first, *others = await answers(open_house, sent, count=2)
        assert (first.status, first.headers["connection"], others) == (413, "close", [])


async def test_a_body_that_is_longer_than_told_is_not_read_on(open_house: Interfaces) -> None:
    got = await answer(open_house, creation(TEXT, b"Content-Length: 5"))
    assert got.status == 400


async def test_who_waits_to_be_asked_for_the_body_is_asked(open_house: Interfaces) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(open_house.address).port)
    length = b"Content-Length: %d" % len(TEXT)
    writer.write(creation(b"", length, b"Expect: 100-continue"))
    async with closing_at_end(writer), asyncio.timeout(20):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(TEXT)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")


async def test_requests_that_are_sent_at_once_are_answered_in_order(
    open_house: Interfaces,
) -> None:
    sent = creation(TEXT) + request(f"{JOBS}/1") + request("/livez")
    got = await answers(open_house, sent, count=3)
    assert [one.status for one in got] == [200, 404, 200]


async def test_http_1_0_is_answered(open_house: Interfaces) -> None:
    got = await answer(open_house, request(JOBS, version="1.0", host=b""))
    assert got.status == 200
    assert got.headers["connection"] == "close"
    assert (await answer(open_house, creation(TEXT, version="1.0"))).status == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /livez\r\n\r\n",
        b"GET  HTTP/1.1\r\nHost: localhost\r\n\r\n",
        request(JOBS).replace(b"/export", b"/\xff"),
        request(JOBS, b"x-a: \x00"),
        request(JOBS, b"x-a : a"),
    ],
    ids=["0.9", "no target", "raw bytes", "NUL", "space"],
)
async def test_what_is_not_http_ends_the_connection(sent: bytes, open_house: Interfaces) -> None:
    first, *others = await answers(open_house, sent + request("/livez"), count=2)
    assert (first.status, first.headers["connection"], others) == (400, "close", [])
