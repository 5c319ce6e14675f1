"""Commands about jobs say the same of a service elsewhere as of the store here."""

import asyncio
import re
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segexport.http.connection import cut
from segexport.http.server import listening
from segexport.settings import HttpSettings
from support.asking import CommandLine
from support.interfaces import BODY, Interfaces, OpenPlace, http_settings, new_key, serving
from support.workplace import GOLD, SCOPE, request_for

SUBMIT = ("submit", "--dataset", "audience", "--segment", "gold")
JSON = ("--format", "json")


@pytest.fixture
def segexport(
    house: Interfaces, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """The command line of somebody who has a key of the house."""
    command = CommandLine(house.place, monkeypatch, capsys)
    command.sign_in(house.new_key())
    return command


# The same, here and there

COMMANDS: Mapping[str, tuple[tuple[str, ...], int]] = {
    "a new job": (SUBMIT, 0),
    "a new job, for scripts": ((*SUBMIT, *JSON, "--deadline", "90"), 0),
    "all that options say": (
        (
            *(*SUBMIT, "--segment", "blue", "--status", "exited", "--fields", "person.name"),
            *("--segment-per-batch", "--file-format", "ndjson.gz", *JSON),
        ),
        2,
    ),
    "a request in a file": (("submit", "request.json", *JSON), 0),
    "a known request id": ((*SUBMIT, "--request-id", "nightly"), 0),
    "a known request id, for scripts": ((*SUBMIT, "--request-id", "nightly", *JSON), 0),
    "a request id with another body": (
        (*SUBMIT, "--fields", "person.name", "--request-id", "nightly"),
        2,
    ),
    "a request id with letters of all kinds": (
        (*SUBMIT, "--request-id", "nächtlich & 100 % {side}"),
        0,
    ),
    "a request id that is none": ((*SUBMIT, "--request-id", "x" * 129), 2),
    "a request id that is no text": ((*SUBMIT, "--request-id", "\udce4"), 2),
    "an unknown segment": (("submit", "--dataset", "d", "--segment", "golf"), 2),
    "an unknown field": ((*SUBMIT, "--fields", "person.nam,x"), 2),
    "a dataset that is none": (("submit", "--dataset", "../up"), 2),
    "a job that has succeeded": (("status", "{done}"), 0),
    "a job that has succeeded, for scripts": (("status", "{done}", *JSON), 0),
    "a job that has failed": (("status", "{failed}"), 0),
    "a job that has failed, waited for": (("status", "{failed}", "--wait"), 1),
    "a job that has succeeded, waited for": (("status", "{done}", "--wait", *JSON), 0),
    "a job that is not there": (("status", "4711"), 2),
    "all jobs": (("list",), 0),
    "all jobs, for scripts": (("list", *JSON), 0),
    "the last failed job": (("list", "--state", "failed", "--limit", "1"), 0),
    "jobs in some states": (("list", "--state", "CREATED", "--state", "succeeded", *JSON), 0),
    "jobs in no state": (("list", "--state", "PROCESSING"), 0),
    "a state that is none": (("list", "--state", "DONE"), 2),
    "a cancel": (("cancel", "{waiting}", "--reason", "[b]wrong[/b] \udce4"), 0),
    "a cancel of what has ended": (("cancel", "{done}", *JSON), 0),
    "a cancel for too long a reason": (("cancel", "{waiting}", "--reason", "x" * 2000), 2),
    "a cancel of what is not there": (("cancel", "4711"), 2),
    "a retry": (("retry", "{failed}"), 0),
    "a retry, for scripts": (("retry", "{failed}", *JSON), 0),
    "a retry that is known": (("retry", "{done}", "--request-id", "again"), 0),
    "a retry of what is not there": (("retry", "4711"), 2),
}


async def _jobs(house: Interfaces) -> dict[str, str]:
    """A job that has succeeded, one that has failed, and one that waits."""
    place = house.place
    async with place.working():
        done = await place.commands.submit(SCOPE, request_for(GOLD), request_id="nightly")
        await place.ended(done.job)
    await place.commands.retry(SCOPE, done.job.id, request_id="again")
    failed = await place.submit(request_for(GOLD, fields="person.name"))
    await place.commands.cancel(SCOPE, failed.id, reason="no use")
    waiting = await place.submit(request_for(GOLD))
    return {"done": str(done.job.id), "failed": str(failed.id), "waiting": str(waiting.id)}


async def test_each_command_says_the_same_here_and_there(
    house: Interfaces,
    segexport: CommandLine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("request.json").write_bytes(orjson.dumps(BODY))
    jobs = await _jobs(house)
    for what, (arguments, status) in COMMANDS.items():
        here = await segexport(*(one.format(side="here", **jobs) for one in arguments))
        there = await segexport(
            *(one.format(side="there", **jobs) for one in arguments), "--url", house.address
        )
        assert (here.status, there.status) == (status, status), f"{what}: {here} {there}"
        assert _without_chance(there.out) == _without_chance(here.out), what
        assert there.err == here.err, what
        assert here.out or here.err, what


def _without_chance(said: str) -> str:
    said = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", said)
    return re.sub(r"\b(\d{10,16}|[0-9a-f]{32})\b", "ID", said)


async def test_a_job_elsewhere_is_waited_for_to_its_end(
    house: Interfaces, segexport: CommandLine
) -> None:
    segexport.set(client__url=house.address)
    async with house.place.working():
        done = await segexport(*SUBMIT, "--wait", *JSON)
        again = await segexport("retry", str(orjson.loads(done.out)["id"]), "--wait")
    assert done.status == again.status == 0
    assert orjson.loads(done.out)["counts"] == {"total": 20, "realized": 20, "failed": 0}
    assert "COMPLETED" in again.out


async def test_a_job_that_is_cancelled_elsewhere_while_it_is_waited_for_is_status_1(
    house: Interfaces, segexport: CommandLine
) -> None:
    segexport.set(client__url=house.address)
    job = orjson.loads((await segexport(*SUBMIT, *JSON)).out)
    cancelled = await segexport("cancel", str(job["id"]), "--reason", "no use", *JSON)
    assert orjson.loads(cancelled.out)["error"] == {"kind": "cancelled", "message": "no use"}
    assert (await segexport("status", str(job["id"]), "--wait")).status == 1


async def test_a_service_in_the_settings_is_left_out_with_an_empty_url(
    house: Interfaces, segexport: CommandLine
) -> None:
    segexport.set(client__url="https://exports.invalid", client__patience=0.1)
    job = await house.place.submit(request_for(GOLD))
    assert str(job.id) in (await segexport("list", "--url", "")).out
    elsewhere = await segexport("list")
    assert elsewhere.status == 2
    assert "https://exports.invalid" in elsewhere.error


async def test_without_keys_a_service_is_asked_without_a_login(
    open_house: Interfaces, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    segexport = CommandLine(open_house.place, monkeypatch, capsys)
    sent: list[Mapping[bytes, bytes]] = []

    async def seen(scope: Scope, receive: Receive, send: Send) -> None:
        sent.append(dict(scope["headers"]))
        await open_house.app(scope, receive, send)

    async with _serving(seen) as address:
        job = orjson.loads((await segexport(*SUBMIT, *JSON, "--url", address)).out)
    assert (job["organization"], job["sandbox"]) == ("acme", "prod")
    assert len(sent) == 1
    assert not {b"authorization", b"x-api-key"} & sent[0].keys()


# What may pass


Fault = Callable[[Scope, Receive, Send], Awaitable[None]]


@asynccontextmanager
async def _serving(app: ASGIApp, **settings: Any) -> AsyncIterator[str]:
    async with listening(app, HttpSettings(**http_settings(**settings))) as address:
        yield address


def _once(app: ASGIApp, fault: Callable[[ASGIApp], ASGIApp], *, path: str) -> ASGIApp:
    """The app, with a fault at the first request to `path`."""
    broken = fault(app)
    met = False

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal met
        if scope["path"] == path and not met:
            met = True
            await broken(scope, receive, send)
        else:
            await app(scope, receive, send)

    return answer


def _losing_the_answer(app: ASGIApp) -> ASGIApp:
    async def lose(scope: Scope, receive: Receive, send: Send) -> None:
        del send

        async def unsaid(message: Message) -> None:
            del message

        await app(scope, receive, unsaid)
        await cut(scope, receive)

    return lose


def _answering(answer: Response) -> Callable[[ASGIApp], ASGIApp]:
    return lambda _: answer


BUSY = JSONResponse({"detail": "later"}, 503, {"retry-after": "1"})
PASSING: Mapping[str, Callable[[ASGIApp], ASGIApp]] = {
    "the answer is lost": _losing_the_answer,
    "the service is busy": _answering(BUSY),
    "a proxy has lost the service": _answering(HTMLResponse("<h1>Bad Gateway</h1>", 502)),
    "the rate is used up": _answering(JSONResponse({}, 429, {"retry-after": "1"})),
}


@pytest.mark.parametrize("path", ["/jobs", "/ims/token/v3"])
@pytest.mark.parametrize("fault", PASSING)
async def test_what_passes_is_not_noticed_and_a_job_is_made_once(
    fault: str, path: str, house: Interfaces, segexport: CommandLine
) -> None:
    async with _serving(_once(house.app, PASSING[fault], path=path)) as address:
        made = await segexport(*SUBMIT, "--url", address)
    (job,) = await house.place.commands.list(SCOPE)
    assert (made.status, made.out, made.err) == (0, f"job {job.id}\n", "")


async def test_a_token_that_is_no_longer_believed_is_replaced(
    house: Interfaces, segexport: CommandLine
) -> None:
    asked: list[str] = []

    async def doubting(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope["path"])
        first_token = asked.count("/ims/token/v3") < 2
        refused = JSONResponse({"title": "Unauthorized"}, 401)
        app = refused if scope["path"] == "/jobs" and first_token else house.app
        await app(scope, receive, send)

    async with _serving(doubting) as address:
        assert (await segexport("list", "--url", address)).out == "no jobs\n"
    assert asked == ["/ims/token/v3", "/jobs"] * 2


async def test_what_does_not_pass_in_time_is_said(segexport: CommandLine) -> None:
    segexport.set(client__patience=2)
    async with _serving(BUSY) as address:
        busy = await segexport("list", "--url", address)
    async with _serving(JSONResponse({}, 429, {"retry-after": "900"})) as address:
        limited = await segexport("list", "--url", address)
    assert (busy.status, limited.status) == (2, 2)
    assert "[service.unreachable]" in busy.error
    assert "503" in busy.error
    assert "[access.rate]" in limited.error
    assert "900 s" in limited.error


async def test_a_service_without_profiles_says_so_at_once(
    open_place: OpenPlace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = await open_place(profiles=tmp_path / "none")
    segexport = CommandLine(place, monkeypatch, capsys)
    async with serving(place) as house:
        refused = await segexport(*SUBMIT, "--url", house.address)
    assert refused.status == 2
    assert refused.log.count("'event': 'request'") == 1
    assert "[profiles.missing]" in refused.error
    assert str(tmp_path) not in refused.error


# What stays


async def test_where_nobody_listens_the_address_is_said_to_be_wrong(
    segexport: CommandLine,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    segexport.set(client__patience=120)
    async with asyncio.timeout(60):
        refused = await segexport("list", "--url", address)
    assert refused.status == 2
    for word in ("[service.unreachable]", address, "refused", "--url"):
        assert word in refused.error


async def test_an_answer_that_does_not_come_is_not_waited_for(segexport: CommandLine) -> None:
    segexport.set(client__patience=1, client__timeout=0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        refused = await segexport("list", "--url", address)
    assert refused.status == 2
    assert "no answer within 0.5 s (client.timeout)" in refused.error


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (HTMLResponse("<h1>Welcome</h1>"), "gives no token"),
        (HTMLResponse("<h1>Not Found</h1>", 404), "404 Not Found"),
        (RedirectResponse("https://login.example/?to=exports", 302), "https://login.example/"),
        (JSONResponse({"access_token": "t", "expires_in": 9}), "something else than jobs"),
        (JSONResponse({"title": "Teapot", "status": 418}, 418), "418"),
    ],
)
async def test_what_is_no_segexport_is_said_to_be_none(
    answer: Response, said: str, segexport: CommandLine
) -> None:
    async with _serving(answer) as address:
        refused = await segexport("list", "--url", address)
    assert refused.status == 2
    assert "[service.foreign]" in refused.error
    assert said in refused.error


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"client__client_secret": "wrong-one"}, "client.client_secret"),
        ({"client__api_key": "0" * 32}, "client.api_key"),
        ({"organization": "elsewhere"}, "x-gw-ims-org-id, 'elsewhere'"),
        ({"sandbox": "stage"}, "x-sandbox-name, 'stage'"),
    ],
)
async def test_who_is_not_let_in_learns_which_setting_decides(
    change: Mapping[str, str], said: str, house: Interfaces, segexport: CommandLine
) -> None:
    segexport.sign_in(house.new_key("prod"))
    segexport.set(**change)
    refused = await segexport("list", "--url", house.address)
    assert refused.status == 2
    assert "[access]" in refused.error
    assert said in refused.error
    assert "wrong-one" not in refused.out + refused.err


async def test_who_has_no_login_learns_where_to_put_it(
    house: Interfaces, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    segexport = CommandLine(house.place, monkeypatch, capsys)
    refused = await segexport("list", "--url", house.address)
    assert refused.status == 2
    for word in ("[access]", "SEGEXPORT_CLIENT__API_KEY", "SEGEXPORT_CLIENT__CLIENT_SECRET"):
        assert word in refused.error


@pytest.mark.parametrize(
    "url",
    [
        "http://exports.example",
        "http://localhost:hunter2@exports.example",
        "https://me:hunter2@exports.example",
        "https://exports.example?key=hunter2",
        "ftp://exports.example",
        "exports.example",
        "https://exports.example:99999",
        "https://",
    ],
)
async def test_an_address_that_would_give_something_away_is_refused(
    url: str, segexport: CommandLine
) -> None:
    refused = await segexport("list", "--url", url)
    assert refused.status == 2
    assert "[settings]" in refused.error
    assert "client.url" in refused.error
    assert "hunter2" not in refused.err


async def test_half_a_login_is_refused(
    house: Interfaces, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    segexport = CommandLine(house.place, monkeypatch, capsys)
    segexport.set(client__api_key="0" * 32)
    missing = await segexport("list", "--url", house.address)
    segexport.set(client__client_secret="")
    empty = await segexport("list", "--url", house.address)
    assert (missing.status, empty.status) == (2, 2)
    assert "a login needs both" in missing.error
    assert "client.client_secret" in empty.error


async def test_no_secret_is_shown(house: Interfaces, segexport: CommandLine) -> None:
    key = house.new_key()
    segexport.sign_in(key)
    said = [
        await segexport("settings"),
        await segexport("settings", *JSON),
        await segexport("list", "--url", house.address),
        await segexport("status", "4711", "--url", house.address),
        await segexport("list", "--url", f"{house.address}/elsewhere"),
    ]
    assert [one.status for one in said] == [0, 0, 0, 2, 2]
    assert "does not know what is asked" in said[-1].error
    assert "client.api_key" in said[0].out
    shown = "".join(one.out + one.err + one.log for one in said)
    assert "/ims/token/v3" in shown
    assert key.client_secret not in shown
    assert "Bearer" not in shown


# TLS


async def test_a_certificate_is_believed_only_if_its_issuer_is_trusted(
    open_place: OpenPlace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tls = {"certificate": tmp_path / "cert.pem", "private_key": tmp_path / "key.pem"}
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-days", "2", "-nodes"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(tls["private_key"]), "-out", str(tls["certificate"])),
        ],
        check=True,
        capture_output=True,
    )
    place = await open_place(http=http_settings(**tls))
    segexport = CommandLine(place, monkeypatch, capsys)
    segexport.sign_in(new_key(place.settings))
    async with serving(place) as house:
        doubted = await segexport("list", "--url", house.address)
        plain = await segexport("list", "--url", house.address.replace("https", "http"))
        segexport.set(client__cafile=tls["certificate"])
        trusted = await segexport("list", "--url", house.address)
        elsewhere = await segexport(
            "list", "--url", house.address.replace("127.0.0.1", "localhost")
        )
        segexport.set(client__cafile=tls["private_key"])
        unusable = await segexport("list", "--url", house.address)
    assert (trusted.status, trusted.out) == (0, "no jobs\n")
    assert (doubted.status, plain.status, elsewhere.status, unusable.status) == (2, 2, 2, 2)
    assert "client.cafile" in doubted.error
    assert "[service.unreachable]" in plain.error
    assert "not trusted" in elsewhere.error
    assert "[settings]" in unusable.error
    assert "client.cafile" in unusable.error
