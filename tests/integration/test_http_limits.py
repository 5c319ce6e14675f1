"""What a client cannot do to the service: hold it, fill it, or make it tell too much."""

import asyncio
import json
import resource
import shutil
import socket
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import structlog
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from segexport import service
from segexport.errors import BrokerUnreachable, PositionMismatch
from segexport.http import server
from segexport.http.health import FRESH
from segexport.profiles.snapshots import MANIFEST
from segexport.settings import HttpSettings
from support.interfaces import (
    BODY,
    JOBS,
    Interfaces,
    OpenPlace,
    http_settings,
    serving,
)
from support.waiting import until

QUICK = http_settings(head_timeout=0.5, body_timeout=0.5, stream_patience=0.5, max_body="10KB")
HEAD = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"


@asynccontextmanager
async def connected(
    house: Interfaces,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    try:
        yield reader, writer
    finally:
        writer.close()


@pytest.fixture
async def quick(open_place: OpenPlace) -> AsyncIterator[Interfaces]:
    """Interfaces that lose their patience soon."""
    async with serving(await open_place(http=QUICK)) as house:
        yield house


async def ends(reader: asyncio.StreamReader, within: float = 5.0) -> bytes:
    """What still comes until the connection is closed, which has to be soon."""
    async with asyncio.timeout(within):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


# Holding it


@pytest.mark.parametrize("sent", [b"", b"GET", HEAD, HEAD + b"X: "])
async def test_a_head_that_does_not_end_is_not_waited_for(sent: bytes, quick: Interfaces) -> None:
    async with connected(quick) as (reader, writer):
        writer.write(sent)
        assert await ends(reader) == b""


async def test_a_head_that_comes_byte_by_byte_is_not_waited_for(quick: Interfaces) -> None:
    began = time.monotonic()
    async with connected(quick) as (reader, writer):
        writer.write(HEAD)
        ending = asyncio.create_task(ends(reader))
        while not ending.done():
            writer.write(b"x")
            await asyncio.sleep(0.05)
        assert ending.result() == b""
    assert time.monotonic() - began < 3


async def test_the_second_request_of_a_connection_is_not_waited_for_either(
    quick: Interfaces,
) -> None:
    async with connected(quick) as (reader, writer):
        writer.write(HEAD + b"\r\n")
        assert b"200 OK" in await reader.readuntil(b'"}')
        writer.write(HEAD)
        assert await ends(reader) == b""


async def test_an_idle_connection_stays_for_the_next_request(quick: Interfaces) -> None:
    async with connected(quick) as (reader, writer):
        for _ in range(2):
            writer.write(HEAD + b"\r\n")
            assert b"200 OK" in await reader.readuntil(b'"}')
            await asyncio.sleep(1)  # longer than a head may take


@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
async def test_a_body_that_does_not_come_is_not_waited_for(framing: str, quick: Interfaces) -> None:
    head = f"POST {JOBS} HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n"
    async with connected(quick) as (reader, writer):
        writer.write(head.encode())
        answer = await ends(reader)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in answer.lower()


async def test_an_answer_that_is_not_taken_is_not_kept(
    open_place: OpenPlace, capsys: pytest.CaptureFixture[str]
) -> None:
    place = await open_place(http={**QUICK, "max_body": "1MB"})
    fields = ",".join(["person.name"] * 1300)
    told = ""

    async def is_cut() -> bool:
        nonlocal told
        told += capsys.readouterr().out
        return "an answer is not taken" in told

    async with serving(place) as house, house.client() as client:
        for _ in range(60):
            await client.post(JOBS, json={**BODY, "fields": fields})
        with socket.socket() as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.connect(("127.0.0.1", house.port))
            ask = f"GET {JOBS} HTTP/1.1\r\nHost: localhost\r\nx-gw-ims-org-id: acme\r\n\r\n"
            # More than the buffers of both sockets hold.
            lazy.sendall(ask.encode() * 20)
            await until(is_cut, 20, "the connection is cut off")


@pytest.mark.parametrize("left", [30_000, 60_000, 300_000])
@pytest.mark.parametrize("closing", [b"", b"Connection: close\r\n"])
async def test_the_end_of_an_answer_has_to_be_taken_too(
    left: int,
    closing: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """However little it is, and though the connection is to be closed behind it."""
    with_any_buffer = server._bound

    def with_a_small_buffer(settings: HttpSettings) -> socket.socket:
        listener = with_any_buffer(settings)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return listener

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(b"x" * left)(scope, receive, send)

    monkeypatch.setattr(server, "_bound", with_a_small_buffer)
    async with server.listening(app, HttpSettings(**QUICK)) as address:
        with socket.socket() as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.connect(("127.0.0.1", int(address.rpartition(":")[2])))
            lazy.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + closing + b"\r\n")

            async def is_cut() -> bool:
                return "an answer is not taken" in capsys.readouterr().out

            await until(is_cut, 5, "the connection is cut off")


@pytest.mark.parametrize("pause", [0.2, 1.0])
async def test_an_answer_that_is_taken_in_time_leaves_its_connection_open(
    pause: float, quick: Interfaces
) -> None:
    async with connected(quick) as (reader, writer):
        for _ in range(2):
            writer.write((HEAD + b"\r\n") * 20)
            await asyncio.sleep(pause)
            for _ in range(20):
                assert b"200 OK" in await reader.readuntil(b'"}')


async def test_nonsense_behind_an_answer_is_no_error_of_the_service(
    quick: Interfaces, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(quick) as (reader, writer):
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        assert b"200 OK" in await reader.readuntil(b'"}')
        writer.write(b"nonsense\r\n")
        assert await ends(reader) == b""
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_an_object_store_that_says_nothing_is_not_waited_for(
    open_place: OpenPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        place = await open_place(
            datasets="s3://bucket/datasets",
            s3={"endpoint_url": address, "key": "key", "secret": "secret"},
        )
        async with serving(place) as house, house.client() as client:
            with structlog.testing.capture_logs() as logged:
                async with asyncio.timeout(20):
                    answer = await client.post(JOBS, json=BODY)
    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    (reason,) = (one["error"] for one in logged if one["event"] == "a request cannot be served")
    assert "s3://bucket/datasets" in reason
    assert "no answer in time" in reason


# Filling it


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_large_is_refused(chunked: bool, quick: Interfaces) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(1_000):
            yield b" " * 1000

    async with quick.client() as client:
        answer = await client.post(
            JOBS,
            content=parts() if chunked else b" " * 1_000_000,
            headers={"content-type": "application/json"},
        )
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"
    assert answer.json()["errors"]["413"][0]["message"].startswith("the body is larger than 10000")


async def test_a_body_that_is_too_large_may_come_in_as_many_pieces_as_it_likes(
    quick: Interfaces,
) -> None:
    pieces = sys.getrecursionlimit() * 2
    told: list[Message] = []

    async def piece() -> Message:
        nonlocal pieces
        pieces -= 1
        return {"type": "http.request", "body": b" " * 100, "more_body": pieces > 0}

    async def tell(message: Message) -> None:
        told.append(message)

    await quick.app(
        {
            "type": "http",
            "method": "POST",
            "path": JOBS,
            "raw_path": JOBS.encode(),
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
            "state": {},
        },
        piece,
        tell,
    )
    assert told[0]["status"] == 413


async def test_a_body_without_an_end_is_not_read_for_ever(open_house: Interfaces) -> None:
    async with connected(open_house) as (reader, writer):
        writer.write(f"POST {JOBS} HTTP/1.1\r\nHost: localhost\r\n".encode())
        writer.write(b"Content-Length: 9000000000\r\n\r\n")
        ending = asyncio.create_task(ends(reader, within=20))
        sent = 0
        while not ending.done() and sent < 1_000_000_000:
            writer.write(b" " * 100_000)
            sent += 100_000
            try:
                await writer.drain()
            except ConnectionError:
                break
            await asyncio.sleep(0)
        await ending
    assert sent < 100_000_000


@pytest.mark.parametrize("complete", [False, True])
async def test_a_head_that_is_too_large_is_refused(complete: bool, quick: Interfaces) -> None:
    headers = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 900) for number in range(30))
    async with connected(quick) as (reader, writer):
        writer.write(HEAD + headers + (b"\r\n" if complete else b""))
        answer = await ends(reader)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))


@pytest.mark.parametrize("target", [b"/" + b"x" * 20_000, b"/livez?" + b"a&" * 10_000])
async def test_an_address_that_is_too_long_is_refused_and_not_logged(
    target: bytes, quick: Interfaces, capsys: pytest.CaptureFixture[str]
) -> None:
    async with connected(quick) as (reader, writer):
        writer.write(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await ends(reader)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))
    assert len(capsys.readouterr().out) < 2_000


async def test_there_are_only_so_many_connections(open_place: OpenPlace) -> None:
    async with serving(await open_place(http=http_settings(max_connections=5))) as house:
        async with httpx.AsyncClient(base_url=house.address) as client:
            opened = [await asyncio.open_connection("127.0.0.1", house.port) for _ in range(5)]
            assert (await client.get("/livez")).status_code == 503
            for _, writer in opened:
                writer.close()

        async def answers() -> bool:
            async with httpx.AsyncClient(base_url=house.address) as another:
                return (await another.get("/livez")).status_code == 200

        await until(answers, 5, "there is room again")


@pytest.fixture
def few_files() -> Iterator[None]:
    """A process that may open hardly more files than it has open already."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (len(list(Path("/dev/fd").iterdir())) + 100, before[1])
    )
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("few_files")
async def test_connections_leave_the_store_its_files(open_house: Interfaces) -> None:
    async with AsyncExitStack() as opened:
        for _ in range(150):
            _, writer = await asyncio.open_connection("127.0.0.1", open_house.port)
            opened.callback(writer.close)
        async with open_house.client() as client:
            assert (await client.post(JOBS, json=BODY)).status_code == 200


async def test_more_connections_than_files_are_worth_a_warning(
    open_place: OpenPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    place = await open_place(http=http_settings(max_connections=1_000))
    with structlog.testing.capture_logs() as logged:
        async with serving(place):
            pass
    (warning,) = (one for one in logged if one["log_level"] == "warning")
    assert "LimitNOFILE" in warning["event"]
    assert (warning["max_connections"], warning["open_files"]) == (1_000, 1024)


# Telling too much


async def test_every_answer_carries_what_keeps_browsers_careful(open_house: Interfaces) -> None:
    async with open_house.client() as client:
        for path in ("/livez", JOBS, f"{JOBS}/1", "/nothing", "/v1/apps/x/jobs/export"):
            headers = (await client.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["content-security-policy"].startswith("default-src 'none'")
            assert headers["cache-control"] == "no-store"
            assert "server" not in headers
            assert "access-control-allow-origin" not in headers


async def test_what_nobody_has_foreseen_is_logged_and_not_told(
    open_house: Interfaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the secret of /var/lib")

    monkeypatch.setattr(type(open_house.place.commands), "statuses", broken)
    with structlog.testing.capture_logs() as logged:
        async with open_house.client() as client:
            platform = await client.get(JOBS, headers={"x-request-id": "here-1"})
            pinpoint = await client.get("/v1/apps/spring/jobs/export")
    for answer in (platform, pinpoint):
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert "Traceback" not in answer.text
    assert platform.json()["requestId"] == "here-1"
    errors = [entry for entry in logged if entry["log_level"] == "error"]
    assert [str(entry["exc_info"]) for entry in errors] == ["the secret of /var/lib"] * 2


@pytest.mark.parametrize(
    ("given", "kept"), [("a-b.c", True), ("x" * 128, True), ("x" * 129, False), ("caf\xe9", False)]
)
async def test_a_request_id_comes_back_where_it_can(
    given: str, kept: bool, open_house: Interfaces
) -> None:
    async with open_house.client() as client:
        named = {b"x-request-id": given.encode("latin-1")}
        answer = await client.get(JOBS, headers=named)
        refused = await client.post(JOBS, json=BODY, headers=named)
    assert (answer.headers["x-request-id"] == given) is kept
    assert refused.status_code == (200 if kept else 400)
    if not kept:
        assert refused.json()["errors"]["400"][0]["path"] == "x-request-id"


# Health


async def test_a_live_process_says_so_whatever_else_is_down(open_house: Interfaces) -> None:
    await open_house.place.store.close()
    async with httpx.AsyncClient(base_url=open_house.address) as client:
        alive = await client.get("/livez")
        ready = await client.get("/readyz")
    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})
    assert ready.status_code == 503
    assert ready.json() == {"status": "not ready", "reasons": {"store": "cannot be used"}}


async def test_readiness_has_reasons(open_house: Interfaces) -> None:
    async with httpx.AsyncClient(base_url=open_house.address) as client:
        ready = await client.get("/readyz")
        error = BrokerUnreachable("kafka.internal:9092 does not answer")
        open_house.relay = replace(
            open_house.relay, error=str(error), error_code=error.code, waiting=200_000, parked=2
        )
        degraded = await client.get("/readyz")
        failing = open_house.supervisor.start("relay", fail(PositionMismatch("no position")))
        await asyncio.wait({failing})
        failed = await client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "reasons": {}})
    assert degraded.status_code == 200
    assert degraded.json() == {
        "status": "degraded",
        "reasons": {
            "broker": "events wait (delivery.unreachable)",
            "backlog": "200000 events wait for delivery",
            "parked": "2 records cannot be delivered",
        },
    }
    assert "kafka.internal" not in degraded.text
    assert failed.status_code == 503
    assert failed.json()["status"] == "not ready"
    assert failed.json()["reasons"]["relay"] == "has failed (delivery.position)"


async def fail(error: Exception) -> None:
    """A part of the service that does not work."""
    raise error


async def test_a_store_that_cannot_be_written_is_not_ready_and_heals(
    open_house: Interfaces,
) -> None:
    path = open_house.place.settings.store_file
    async with httpx.AsyncClient(base_url=open_house.address) as client:
        assert (await client.get("/readyz")).status_code == 200
        with closing(sqlite3.connect(path, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            # What was written a moment ago counts for a second.
            await until(lambda: answers(client, 503), 10, "it is not ready")
            reasons = (await client.get("/readyz")).json()["reasons"]
            assert (await client.get("/livez")).status_code == 200
        await until(lambda: answers(client, 200), 20, "it is ready again")
    assert reasons == {"store": "cannot be used"}


async def answers(client: httpx.AsyncClient, status: int) -> bool:
    """Whether readiness answers so."""
    return (await client.get("/readyz")).status_code == status


async def test_however_often_readiness_is_asked_for_the_disk_is_spared(
    open_house: Interfaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, writes = open_house.place.store, 0
    probe = store.probe

    async def counted() -> None:
        nonlocal writes
        writes += 1
        await probe()

    monkeypatch.setattr(store, "probe", counted)
    began = time.monotonic()
    async with httpx.AsyncClient(base_url=open_house.address) as client:
        answers = await asyncio.gather(*(client.get("/readyz") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert 1 <= writes <= 1 + (time.monotonic() - began) / FRESH


async def test_readiness_looks_at_the_profile_store(
    open_place: OpenPlace, tmp_path: Path, people: Path
) -> None:
    profiles = tmp_path / "profiles"
    async with (
        serving(await open_place(profiles=profiles)) as house,
        httpx.AsyncClient(base_url=house.address) as client,
    ):
        without = await client.get("/readyz")
        shutil.copytree(people, profiles)
        ready = await client.get("/readyz")
        (manifest,) = profiles.glob(f"*/{MANIFEST}")
        manifest.write_text("{")
        damaged = await client.get("/readyz")
    assert (without.status_code, without.json()["status"]) == (200, "degraded")
    assert "jobs are refused" in without.json()["reasons"]["profiles"]
    assert ready.json() == {"status": "ready", "reasons": {}}
    assert damaged.status_code == 503
    assert damaged.json()["reasons"] == {"profiles": "cannot be used"}


# Stopping


async def test_the_end_is_bounded_with_streams_open(open_place: OpenPlace) -> None:
    place = await open_place(http=http_settings(grace=1))
    streams = []
    async with serving(place) as house:
        client = httpx.AsyncClient(base_url=house.address, timeout=30)
        for _ in range(20):
            request = client.build_request("GET", "/events/stream")
            stream = await client.send(request, stream=True)
            assert stream.status_code == 200
            streams.append(stream)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    for stream in streams:
        told = [line async for line in stream.aiter_lines()]
        assert "event: bye" in told
    await client.aclose()


async def test_events_are_followed_and_resumed_over_http(open_house: Interfaces) -> None:
    async with open_house.client() as client:
        async with client.stream("GET", "/events/stream") as stream:
            job = (await client.post(JOBS, json=BODY)).json()
            event: dict[str, str] = {}
            async for line in stream.aiter_lines():
                name, _, value = line.partition(": ")
                if name in {"id", "event", "data"}:
                    event[name] = value
                if not line and event.get("event") == "queued":
                    break
        assert str(job["id"]) in json.dumps(json.loads(event["data"]))
        second = (await client.post(JOBS, json=BODY)).json()
        again = {"last-event-id": event["id"]}
        async with client.stream("GET", "/events/stream", headers=again) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data: ") and str(second["id"]) in line:
                    break
                assert str(job["id"]) not in line


def test_an_answer_does_not_wait_until_its_beginning_is_acknowledged() -> None:
    with (
        server._bound(HttpSettings(port=0)) as listener,
        socket.create_connection(listener.getsockname()),
    ):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
