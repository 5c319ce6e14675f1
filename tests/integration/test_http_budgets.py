"""What grows with what a client sends is bounded, and done a little in each turn of the loop."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from segexport.http import connection, turns
from segexport.http.bodies import MAX_FORM
from segexport.http.metered import MAX_HEADERS, MAX_SMALL_CHUNKS
from segexport.jobs.reading import MAX_NAMES, MAX_PROBLEMS
from support.interfaces import APPLICATION, BODY, JOBS, Interfaces

TOKEN = "/ims/token/v3"
PINPOINT = f"/v1/apps/{APPLICATION}/jobs/export"
TEXT = json.dumps(BODY).encode()
FORM = "application/x-www-form-urlencoded"
MANY = 20_000
"""Far more chunks than a body may have."""


def chunks(body: bytes, size: int = 1) -> bytes:
    pieces = (body[place : place + size] for place in range(0, len(body), size))
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def head(path: str, method: str = "POST", kind: str = "application/json") -> bytes:
    return (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nx-gw-ims-org-id: acme\r\n"
        f"Content-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
    ).encode()


@asynccontextmanager
async def connected(
    house: Interfaces,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def sent(house: Interfaces, data: bytes) -> bytes:
    """What comes back until the connection ends."""
    async with connected(house) as (reader, writer), asyncio.timeout(60):
        writer.write(data)
        await writer.drain()
        return await reader.read()


@asynccontextmanager
async def counting_turns() -> AsyncIterator[list[int]]:
    """Counts the turns of the loop, in one element, during the block."""
    count = [0]

    async def tick() -> None:
        while True:
            count[0] += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    try:
        yield count
    finally:
        ticking.cancel()
        with suppress(asyncio.CancelledError):
            await ticking


# Chunks


@pytest.mark.parametrize(
    ("path", "kind", "told"),
    [
        (JOBS, "application/json", b'"errors":{"413"'),
        (PINPOINT, "application/json", b'"Message":'),
        ("/jobs", "application/json", b'"code":"http.body_fragmented"'),
        (TOKEN, FORM, b'"code":"http.body_fragmented"'),
    ],
)
async def test_a_body_in_very_many_small_chunks_is_refused_in_the_form_of_the_interface(
    path: str, kind: str, told: bytes, open_house: Interfaces
) -> None:
    got = await sent(open_house, head(path, kind=kind) + chunks(b" " * MANY))
    assert got.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in got.lower()
    assert told in got
    assert f"more than {MAX_SMALL_CHUNKS} chunks".encode() in got


async def test_whoever_sends_a_refused_body_can_do_so_and_reads_the_answer(
    open_house: Interfaces,
) -> None:
    """As clients do that read nothing before they have sent everything."""
    pieces = chunks(b" " * 200_000).replace(b"1\r\n", b"1;%s\r\n" % (b"e" * 20))
    async with connected(open_house) as (reader, writer), asyncio.timeout(60):
        writer.write(head(JOBS))
        for place in range(0, len(pieces), 100_000):
            writer.write(pieces[place : place + 100_000])
            await writer.drain()
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")


async def test_a_refused_body_need_not_come_to_its_end(open_house: Interfaces) -> None:
    sending = head(JOBS) + chunks(b" " * MANY).removesuffix(b"0\r\n\r\n")
    assert (await sent(open_house, sending)).startswith(b"HTTP/1.1 413 ")


async def test_chunks_that_nobody_reads_are_not_parsed_for_ever(open_house: Interfaces) -> None:
    sending = head("/livez", "GET") + chunks(b" " * MANY) + b"GET /livez HTTP/1.1\r\n\r\n"
    got = await sent(open_house, sending)
    assert got.count(b"HTTP/1.1 ") <= 1


async def test_chunks_are_parsed_in_turns_with_what_others_ask(
    house: Interfaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "SHARE", 0.0)  # one piece of work in each turn
    monkeypatch.setattr(connection, "SILENCE", 0.0)
    async with connected(house) as (reader, writer):
        writer.write(head(TOKEN, kind=FORM) + chunks(b"a" * MANY))
        async with counting_turns() as count, asyncio.timeout(60):
            assert b" 413 " in await reader.readline()
    assert count[0] > MAX_SMALL_CHUNKS / 100


async def test_many_connections_do_not_make_turns_longer(house: Interfaces) -> None:
    """While all of them send what is refused in the end, others are answered before that."""
    attack = head(TOKEN, kind=FORM) + chunks(b"a" * MANY)
    sending = [asyncio.create_task(sent(house, attack)) for _ in range(20)]
    async with house.client() as client, asyncio.timeout(60):
        for _ in range(10):
            assert (await client.get("/livez")).status_code == 200
        assert not any(task.done() for task in sending)
        answers = await asyncio.gather(*sending)
    assert all(got.startswith(b"HTTP/1.1 413 ") for got in answers)


@pytest.mark.parametrize("size", [1, 7, 1000, 16_384])
async def test_a_body_in_chunks_of_any_size_is_read_as_it_is(
    size: int, open_house: Interfaces
) -> None:
    body = {**BODY, "fields": ",".join(f"person.name{number}" for number in range(250))}
    text = json.dumps(body).encode()
    assert len(text) < MAX_SMALL_CHUNKS
    sending = head(JOBS) + chunks(text, size) + b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
    got = await sent(open_house, sending + b"Connection: close\r\n\r\n")
    assert got.count(b"HTTP/1.1 ") == 2
    assert b'"alive"' in got.rpartition(b"HTTP/1.1 200 ")[2]
    # Fields that are not there: all of them have been read.
    assert b"person.name249" in got


async def test_a_client_that_sends_a_document_piece_by_piece_is_answered(
    open_house: Interfaces,
) -> None:
    segments = [{"segmentId": "gold", "segmentNs": f"ns{number}"} for number in range(150)]

    async def parts() -> AsyncIterator[bytes]:
        for part in json.JSONEncoder().iterencode({**BODY, "filter": {"segments": segments}}):
            yield part.encode()

    async with open_house.client() as client:
        got = await client.post(JOBS, content=parts(), headers={"content-type": "application/json"})
    assert got.status_code in {200, 400}
    assert b"chunks" not in got.content


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_curl_may_send_what_it_does_not_know_the_length_of(open_house: Interfaces) -> None:
    got = await asyncio.to_thread(
        subprocess.run,
        ["curl", "-sS", "-X", "POST", "-T", "-", "-H", "Content-Type: application/json",
         "-H", "x-gw-ims-org-id: acme", open_house.address + JOBS],
        input=TEXT,
        capture_output=True,
        check=True,
    )  # fmt: skip
    assert json.loads(got.stdout)["status"] == "NEW"


# Heads


async def test_a_head_of_very_many_lines_is_refused(open_house: Interfaces) -> None:
    lines = b"".join(b"x%d:\r\n" % number for number in range(MAX_HEADERS))
    got = await sent(open_house, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + lines + b"\r\n")
    assert got.startswith(b"HTTP/1.1 431 ")
    assert b"connection: close" in got


async def test_very_many_parameters_are_refused(open_house: Interfaces) -> None:
    async with open_house.client() as client:
        got = await client.get("/jobs?" + "&".join(["state=NEW"] * MAX_HEADERS))
        assert got.status_code == 200
        refused = await client.get("/jobs?" + "&".join(["state=NEW"] * (MAX_HEADERS + 1)))
    assert refused.status_code == 414
    assert "parameters" in refused.text


async def test_requests_that_are_sent_at_once_have_turns_of_their_own(
    open_house: Interfaces,
) -> None:
    async with connected(open_house) as (reader, writer):
        writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500)
        async with counting_turns() as count, asyncio.timeout(60):
            for _ in range(500):
                await reader.readuntil(b'"alive"}')
    assert count[0] > 500


# Bodies


@pytest.mark.parametrize("path", [TOKEN, "/session"])
@pytest.mark.parametrize("body", [b"a=" + b"%41" * 330_000, b"a&" * 400_000, b"a" * 900_000])
async def test_a_form_that_is_large_is_refused_before_it_is_read(
    path: str, body: bytes, house: Interfaces
) -> None:
    async with house.client() as client:
        got = await client.post(path, content=body, headers={"content-type": FORM})
    assert got.status_code == 413
    assert got.json()["detail"].startswith(f"the form is larger than {MAX_FORM} bytes")


def unclear() -> Iterator[Any]:
    """Documents that pydantic would find very much wrong with."""
    words = {f"k{number}": 0 for number in range(80_000)}
    values = "far more values"
    yield pytest.param(words, values, id="unknown words")
    long = {**BODY, "filter": {"segments": [0] * 200_000}}
    yield pytest.param(long, values, id="a long list")
    few = {f"k{number}": 0 for number in range(40)}
    nested = {**BODY, "filter": {"segments": [few] * 500}}
    yield pytest.param(nested, "20006 names", id="unknown words, nested")
    allowed = {f"k{number}": 0 for number in range(MAX_NAMES)}
    yield pytest.param(allowed, "required", id="as many as allowed")


@pytest.mark.parametrize(("document", "told"), list(unclear()))
@pytest.mark.parametrize("path", [JOBS, PINPOINT, "/jobs"])
async def test_a_document_with_very_much_wrong_is_told_some_of_it(
    document: Any, told: str, path: str, open_house: Interfaces
) -> None:
    async with open_house.client() as client:
        got = await client.post(path, json=document)
    assert got.status_code == 400
    assert told in got.text
    assert len(got.content) < 200 * MAX_PROBLEMS


async def test_the_rest_of_the_problems_is_counted(open_house: Interfaces) -> None:
    async with open_house.client() as client:
        got = await client.post(JOBS, json={**BODY, **{f"k{number}": 0 for number in range(300)}})
    problems: Sequence[Any] = got.json()["errors"]["400"]
    assert len(problems) == MAX_PROBLEMS + 1
    assert problems[-1]["message"] == "and 200 more"


async def test_names_that_are_there_twice_are_counted_too(open_house: Interfaces) -> None:
    segments = ",".join(f'{{"segmentId":"s{n}","segmentId":"t{n}"}}' for n in range(300))
    text = f'{{"destination":{{"datasetId":"a"}},"filter":{{"segments":[{segments}]}}}}'
    async with open_house.client() as client:
        got = await client.post(JOBS, content=text, headers={"content-type": "application/json"})
    told = [problem["message"] for problem in got.json()["errors"]["400"]]
    assert told.count("is there twice; say it once") == MAX_PROBLEMS
    assert "and 200 more" in told


# The log


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
async def test_who_asks_for_another_protocol_gets_an_answer_and_no_warning(
    protocol: str, open_house: Interfaces, caplog: pytest.LogCaptureFixture
) -> None:
    asking = (
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\n"
        f"Upgrade: {protocol}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n\r\n"
    )
    assert (await sent(open_house, asking.encode())).startswith(b"HTTP/1.1 200 ")
    assert not [one for one in caplog.records if one.levelname in {"WARNING", "ERROR"}]


async def test_what_is_no_http_is_called_so(
    open_house: Interfaces, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await sent(open_house, b"nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    assert "what has been received is no HTTP request" in caplog.text
