"""Who may come in, to what; nobody learns anything of another organization."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from segexport.errors import SettingsError
from segexport.http.app import Door
from segexport.http.keys import IssuedKey, KeyFile
from segexport.http.tokens import Kind
from segexport.settings import Settings
from support.interfaces import (
    APPLICATION,
    BODY,
    JOBS,
    Interfaces,
    OpenPlace,
    http_settings,
    new_key,
    serving,
)
from support.waiting import until

PINPOINT = f"/v1/apps/{APPLICATION}"
PLATFORM_ENDPOINTS = [
    ("GET", JOBS),
    ("POST", JOBS),
    ("GET", f"{JOBS}/1"),
    ("DELETE", f"{JOBS}/1"),
    ("GET", "/events/stream"),
    ("GET", "/jobs"),
    ("POST", "/jobs"),
    ("GET", "/jobs/1"),
    ("POST", "/jobs/1/cancel"),
    ("POST", "/jobs/1/retry"),
]
PINPOINT_ENDPOINTS = [
    ("POST", f"{PINPOINT}/jobs/export"),
    ("GET", f"{PINPOINT}/jobs/export"),
    ("GET", f"{PINPOINT}/jobs/export/1"),
    ("GET", f"{PINPOINT}/segments/gold/jobs/export"),
    ("GET", "/v1/apps"),
]

Headers = dict[str, str]


async def _headers(house: Interfaces, key: IssuedKey) -> Headers:
    return {
        "authorization": f"Bearer {await house.token(key)}",
        "x-api-key": key.key.client_id,
        "x-gw-ims-org-id": "acme",
        "x-sandbox-name": "prod",
    }


def _expired(house: Interfaces, key: IssuedKey) -> str:
    yesterday = datetime.now(UTC) - timedelta(days=2)
    return house.door.tokens.issue(key.key, yesterday)[0]


async def _of_another_key(house: Interfaces, headers: Headers) -> Headers:
    return headers | {"authorization": f"Bearer {await house.token(house.new_key())}"}


async def _revoked(house: Interfaces, _headers_of_another: Headers) -> Headers:
    key = house.new_key()
    revoked = await _headers(house, key)
    KeyFile(house.place.settings.keys_file).revoke(key.key.client_id)
    house.look_at_keys()
    return revoked


def _without(name: str) -> Callable[[Interfaces, Headers], Awaitable[Headers]]:
    async def change(house: Interfaces, headers: Headers) -> Headers:
        del house
        return {key: value for key, value in headers.items() if key != name}

    return change


def _with(**changed: str) -> Callable[[Interfaces, Headers], Awaitable[Headers]]:
    async def change(house: Interfaces, headers: Headers) -> Headers:
        del house
        return headers | {name.replace("_", "-"): value for name, value in changed.items()}

    return change


async def _with_an_expired_token(house: Interfaces, headers: Headers) -> Headers:
    key = house.new_key()
    return headers | {
        "authorization": f"Bearer {_expired(house, key)}",
        "x-api-key": key.key.client_id,
    }


async def _with_a_session_as_token(house: Interfaces, headers: Headers) -> Headers:
    key = house.new_key()
    token, _ = house.door.tokens.issue(key.key, datetime.now(UTC), Kind.SESSION)
    return headers | {"authorization": f"Bearer {token}", "x-api-key": key.key.client_id}


FAULTS: Mapping[str, tuple[Callable[[Interfaces, Headers], Awaitable[Headers]], str]] = {
    "no token": (_without("authorization"), "403010"),
    "another scheme": (_with(authorization="Basic YTpi"), "403010"),
    "an empty token": (_with(authorization="Bearer"), "403010"),
    "nonsense for a token": (_with(authorization="Bearer nonsense"), "401013"),
    "an unsigned token": (
        _with(authorization="Bearer eyJhbGciOiJub25lIn0.eyJpc3MiOiJzZWdleHBvcnQifQ."),
        "401013",
    ),
    "an expired token": (_with_an_expired_token, "401013"),
    "a session for a token": (_with_a_session_as_token, "401013"),
    "the token of another key": (_of_another_key, "401013"),
    "no key": (_without("x-api-key"), "403000"),
    "an unknown key": (_with(x_api_key="0" * 32), "403003"),
    "a revoked key": (_revoked, "403003"),
    "no organization": (_without("x-gw-ims-org-id"), "400003"),
    "no sandbox": (_without("x-sandbox-name"), "400901"),
    "another organization": (_with(x_gw_ims_org_id="elsewhere"), "403901"),
    "another sandbox": (_with(x_sandbox_name="stage"), "403902"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_is_refused_by_each_endpoint(fault: str, house: Interfaces) -> None:
    good = await _headers(house, house.new_key("prod"))
    change, code = FAULTS[fault]
    headers = await change(house, good)
    async with httpx.AsyncClient(base_url=house.address) as client:
        for method, path in PLATFORM_ENDPOINTS:
            answer = await client.request(
                method, path, json=BODY if method == "POST" else None, headers=headers
            )
            where = f"{method} {path}"
            assert answer.status_code == int(code[:3]), where
            if path.startswith(JOBS):
                assert answer.json()["error_code"] == code, where
                assert answer.json().keys() == {"error_code", "message"}, where
            else:
                assert answer.headers["content-type"] == "application/problem+json", where
                assert answer.json()["code"].startswith("access."), where
        assert (await client.get(JOBS, headers=good)).json()["records"] == []


# Signatures


Change = Callable[[AWSRequest, Interfaces], AWSRequest]


def _signed(
    house: Interfaces,
    key: IssuedKey,
    method: str,
    path: str,
    *,
    service: str = "mobiletargeting",
    region: str = "us-east-1",
    secret: str | None = None,
) -> AWSRequest:
    request = AWSRequest(
        method=method,
        url=f"{house.address}{path}",
        data=b'{"RoleArn": "a", "S3UrlPrefix": "s3://exports/a/"}' if method == "POST" else b"",
        headers={"content-type": "application/json"} if method == "POST" else {},
    )
    credentials = Credentials(key.key.access_key_id, secret or key.secret_access_key)
    SigV4Auth(credentials, service, region).add_auth(request)
    return request


def _at(house: Interfaces, key: IssuedKey, method: str, path: str, when: timedelta) -> AWSRequest:
    request = AWSRequest(method=method, url=f"{house.address}{path}", data=b"", headers={})
    signer = SigV4Auth(
        Credentials(key.key.access_key_id, key.secret_access_key), "mobiletargeting", "us-east-1"
    )
    moment = (datetime.now(UTC) + when).strftime("%Y%m%dT%H%M%SZ")
    request.context["timestamp"] = moment
    request.headers["X-Amz-Date"] = moment
    request.headers["Authorization"] = ", ".join(
        (
            f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}",
            "SignedHeaders=host;x-amz-date",
            "Signature="
            + signer.signature(
                signer.string_to_sign(request, signer.canonical_request(request)), request
            ),
        )
    )
    return request


SIGNATURE_FAULTS: Mapping[str, Callable[[Interfaces, IssuedKey, str, str], AWSRequest]] = {
    "no signature": lambda house, _key, method, path: AWSRequest(
        method=method, url=f"{house.address}{path}", data=b"", headers={}
    ),
    "a bearer token": lambda house, _key, method, path: AWSRequest(
        method=method,
        url=f"{house.address}{path}",
        data=b"",
        headers={"authorization": "Bearer x"},
    ),
    "another secret": lambda house, key, method, path: _signed(
        house, key, method, path, secret="x" * 40
    ),
    "another service": lambda house, key, method, path: _signed(
        house, key, method, path, service="s3"
    ),
    "another region": lambda house, key, method, path: _signed(
        house, key, method, path, region="eu-west-1"
    ),
    "an unknown key": lambda house, key, method, path: _signed(
        house, replace(key, key=replace(key.key, access_key_id="A" * 20)), method, path
    ),
    "a clock that is late": lambda house, key, method, path: _at(
        house, key, method, path, timedelta(minutes=-6)
    ),
    "a clock that is early": lambda house, key, method, path: _at(
        house, key, method, path, timedelta(minutes=6)
    ),
}


async def _sent(client: httpx.AsyncClient, request: AWSRequest) -> httpx.Response:
    return await client.request(
        request.method, request.url, content=request.data, headers=dict(request.headers.items())
    )


@pytest.mark.parametrize("fault", SIGNATURE_FAULTS)
async def test_each_fault_of_a_signature_is_refused_by_each_endpoint(
    fault: str, house: Interfaces
) -> None:
    key = house.new_key("prod")
    async with httpx.AsyncClient() as client:
        for method, path in PINPOINT_ENDPOINTS:
            answer = await _sent(client, SIGNATURE_FAULTS[fault](house, key, method, path))
            assert answer.status_code == 403, f"{method} {path}"
            assert answer.headers["x-amzn-errortype"] == (
                "RequestTimeTooSkewed" if "clock" in fault else "ForbiddenException"
            )
            assert answer.json().keys() == {"Message", "RequestID"}
            served_at = parsedate_to_datetime(answer.headers["date"])
            assert abs(served_at - datetime.now(UTC)) < timedelta(minutes=1)
        good = _at(house, key, "GET", f"{PINPOINT}/jobs/export", timedelta(0))
        assert (await _sent(client, good)).json() == {"Item": []}


@pytest.mark.parametrize("part", ["body", "path", "query", "date"])
async def test_a_request_that_was_changed_on_its_way_is_refused(
    part: str, house: Interfaces
) -> None:
    request = _signed(house, house.new_key(), "POST", f"{PINPOINT}/jobs/export")
    match part:
        case "body":
            request.data = request.data.replace(b"exports/a", b"exports/b")
        case "path":
            request.url = request.url.replace("/jobs/export", "/jobs/export/")
        case "query":
            request.url += "?token=x"
        case _:
            request.headers.replace_header("X-Amz-Date", "20260101T000000Z")
    async with httpx.AsyncClient() as client:
        answer = await _sent(client, request)
    assert answer.status_code == 403
    assert answer.headers["x-amzn-errortype"] == "ForbiddenException"


# Two organizations


async def test_nothing_of_one_organization_is_seen_by_another(house: Interfaces) -> None:
    """Lists, ids, counts, request ids and errors."""
    acme, other = house.new_key(), house.new_key(organization="elsewhere")
    async with house.client(acme) as ours, house.client(other) as theirs:
        mine = (await ours.post(JOBS, json=BODY, headers={"x-request-id": "same"})).json()
        page = (await theirs.get(JOBS)).json()
        assert page["records"] == []
        assert page["link"]["next"] == ""
        for method in ("GET", "DELETE"):
            foreign = await theirs.request(method, f"{JOBS}/{mine['id']}")
            missing = await theirs.request(method, f"{JOBS}/{mine['id'] - 1}")
            assert foreign.status_code == missing.status_code == 404
            assert _without_ids(foreign, mine["id"]) == _without_ids(missing, mine["id"] - 1)
        cursor = f"{mine['creationTime']}_{mine['id']}"
        unknown = f"{mine['creationTime']}_{mine['id'] - 1}"
        assert (await theirs.get(JOBS, params={"offset": cursor})).json()["records"] == (
            await theirs.get(JOBS, params={"offset": unknown})
        ).json()["records"]
        answer = await theirs.post(
            JOBS, json={**BODY, "fields": "person.name"}, headers={"x-request-id": "same"}
        )
        assert answer.status_code == 200
        assert answer.json()["id"] != mine["id"]
        assert [one["id"] for one in (await ours.get(JOBS)).json()["records"]] == [mine["id"]]


async def test_nobody_hears_of_another_organization(house: Interfaces) -> None:
    acme, other = house.new_key(), house.new_key(organization="elsewhere")
    async with (
        house.client(acme) as ours,
        house.client(other) as theirs,
        theirs.stream("GET", "/events/stream") as stream,
    ):
        mine = (await ours.post(JOBS, json=BODY)).json()["id"]
        own = (await theirs.post(JOBS, json=BODY)).json()["id"]
        heard = ""
        async for line in stream.aiter_lines():
            heard += line
            if str(own) in line:
                break
    assert str(mine) not in heard
    assert heard.count("event: queued") == 1


async def test_nothing_of_one_organization_is_seen_by_another_in_our_own_interface(
    house: Interfaces,
) -> None:
    acme, other = house.new_key(), house.new_key(organization="elsewhere")
    async with house.client(acme) as ours, house.client(other) as theirs:
        mine = (await ours.post("/jobs?requestId=same", json=BODY)).json()
        assert (await theirs.get("/jobs")).json() == {"jobs": []}
        for method, what in (("GET", ""), ("POST", "/cancel"), ("POST", "/retry")):
            foreign = await theirs.request(method, f"/jobs/{mine['id']}{what}")
            missing = await theirs.request(method, f"/jobs/{mine['id'] - 1}{what}")
            assert foreign.status_code == missing.status_code == 404
            assert _without_ids(foreign, mine["id"]) == _without_ids(missing, mine["id"] - 1)
        place = int(datetime.fromisoformat(mine["createdAt"]).timestamp() * 1000)
        for number in (mine["id"], mine["id"] - 1):
            page = await theirs.get("/jobs", params={"before": f"{place}_{number}"})
            assert page.json() == {"jobs": []}
        answer = await theirs.post("/jobs?requestId=same", json={**BODY, "fields": "person.name"})
        assert answer.status_code == 201
        assert answer.json()["id"] != mine["id"]
        assert [one["id"] for one in (await ours.get("/jobs")).json()["jobs"]] == [mine["id"]]


async def test_sandboxes_are_apart(house: Interfaces) -> None:
    key = house.new_key()
    async with house.client(key) as prod, house.client(key, sandbox="stage") as stage:
        job = (await prod.post(JOBS, json=BODY)).json()
        assert (await stage.get(f"{JOBS}/{job['id']}")).status_code == 404
        assert (await stage.get(JOBS)).json()["records"] == []


@pytest.mark.parametrize("sandbox", ["../../elsewhere/prod", "..", "a b", "x" * 129])
async def test_a_key_for_all_sandboxes_is_for_none_that_could_not_be_a_folder(
    sandbox: str, house: Interfaces
) -> None:
    async with house.client(house.new_key(), sandbox=sandbox) as client:
        for method, path in PLATFORM_ENDPOINTS:
            answer = await client.request(method, path, json=BODY if method == "POST" else None)
            assert answer.status_code == 403, f"{method} {path}"


def _without_ids(answer: httpx.Response, job_id: int) -> tuple[Any, ...]:
    body = answer.json()
    body.pop("requestId")
    headers = {
        name: value
        for name, value in answer.headers.items()
        if name not in {"x-request-id", "date"}
    }
    return str(body).replace(str(job_id), "ID"), headers


async def test_the_rate_of_one_organization_does_not_slow_another(open_place: OpenPlace) -> None:
    place = await open_place(http=http_settings(rate=0.001, burst=3))
    keys = [new_key(place.settings, organization=name) for name in ("acme", "elsewhere")]
    async with (
        serving(place) as house,
        house.client(keys[0]) as ours,
        house.client(keys[1]) as theirs,
    ):
        statuses = [(await ours.get(JOBS)).status_code for _ in range(5)]
        refused = await ours.get(JOBS)
        assert (await theirs.get(JOBS)).status_code == 200
    assert statuses == [200, 200, 200, 429, 429]
    assert 900 < int(refused.headers["retry-after"]) <= 1000
    assert refused.json()["errors"]["429"][0]["code"] == "UPAPI-100301-429"


# Without keys


async def test_without_keys_organization_and_sandbox_are_those_of_the_headers(
    open_house: Interfaces,
) -> None:
    async with httpx.AsyncClient(base_url=open_house.address) as client:
        job = (await client.post(JOBS, json=BODY)).json()
        named = await client.get(JOBS, headers={"x-gw-ims-org-id": "acme"})
        wrong = await client.get(JOBS, headers={"x-sandbox-name": "../prod"})
    assert job["imsOrgId"] == "local"
    assert named.json()["records"] == []
    assert wrong.status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "localhost.evil.example:8080"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
    ],
)
async def test_without_keys_pages_of_other_sites_may_not_ask(
    headers: Headers, open_house: Interfaces
) -> None:
    async with httpx.AsyncClient(base_url=open_house.address) as client:
        for path in (JOBS, f"{PINPOINT}/jobs/export", "/events/stream", "/jobs"):
            assert (await client.get(path, headers=headers)).status_code == 403
        for path in (JOBS, "/jobs", "/jobs/1/cancel"):
            assert (await client.post(path, json=BODY, headers=headers)).status_code == 403


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.5:80", "localhost", "LocalHost:8080", "[::1]:8080", "[0::1]"]
)
async def test_without_keys_this_machine_may_ask_by_any_of_its_names(
    host: str, open_house: Interfaces
) -> None:
    async with httpx.AsyncClient(base_url=open_house.address) as client:
        assert (await client.get(JOBS, headers={"host": host})).status_code == 200


def test_others_are_not_listened_to_until_there_is_a_key(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, http=http_settings(host="0.0.0.0"))
    with pytest.raises(SettingsError, match="segexport keys create"):
        Door.of(settings)
    new_key(settings)
    Door.of(settings)


@pytest.mark.parametrize("host", ["[::1]", "::1", "localhost", "LOCALHOST", "127.0.0.2"])
def test_this_machine_is_listened_to_without_a_key(host: str, tmp_path: Path) -> None:
    Door.of(Settings(data=tmp_path, http=http_settings(host=host)))


@pytest.mark.parametrize(
    "host", ["::", "[::]", "localhost.localdomain", "ip6-localhost", "10.0.0.1"]
)
def test_which_addresses_are_this_machine_is_said(host: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"only localhost, 127\.0\.0\.0/8 or ::1"):
        Door.of(Settings(data=tmp_path, http=http_settings(host=host)))


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
async def test_an_address_in_brackets_is_listened_on(open_place: OpenPlace) -> None:
    async with (
        serving(await open_place(http=http_settings(host="[::1]"))) as house,
        httpx.AsyncClient(base_url=house.address) as client,
    ):
        assert house.address.startswith("http://[::1]:")
        assert (await client.get(JOBS)).status_code == 200


async def test_the_first_key_closes_the_door_without_a_restart(open_house: Interfaces) -> None:
    async with open_house.client() as client:
        assert (await client.get(JOBS)).status_code == 200
        key = new_key(open_house.place.settings)

        async def is_closed() -> bool:
            return (await client.get(JOBS)).status_code == 403

        await until(is_closed, 5, "the door is closed")
    KeyFile(open_house.place.settings.keys_file).revoke(key.key.client_id)
    open_house.look_at_keys()
    async with open_house.client() as client:
        assert (await client.get(JOBS)).status_code == 403, "no key is left, and none will do"


# Tokens and sessions


async def test_a_token_is_given_for_the_right_secret_only(house: Interfaces) -> None:
    key = house.new_key()
    form = {
        "grant_type": "client_credentials",
        "client_id": key.key.client_id,
        "client_secret": key.client_secret,
    }
    async with httpx.AsyncClient(base_url=house.address) as client:
        given = await client.post("/ims/token/v3", data=form)
        answers = [
            await client.post("/ims/token/v3", data=form | changed)
            for changed in (
                {"client_secret": "wrong"},
                {"client_id": "0" * 32},
                {"grant_type": "password"},
            )
        ]
        empty = await client.post("/ims/token/v3")
        in_query = await client.post("/ims/token/v3", params=form)
    assert given.json()["expires_in"] == 86_400
    assert given.json()["token_type"] == "bearer"
    assert given.headers["cache-control"] == "no-store"
    assert [answer.status_code for answer in answers] == [401, 401, 400]
    assert answers[0].json() == answers[1].json()
    assert empty.status_code == in_query.status_code == 400


async def test_a_browser_signs_in_to_follow_events(house: Interfaces) -> None:
    key = house.new_key("prod")
    form = {"client_id": key.key.client_id, "client_secret": key.client_secret}
    async with httpx.AsyncClient(base_url=house.address) as browser:
        refused = await browser.post("/session", data=form | {"client_secret": "no"})
        foreign = await browser.post(
            "/session", data=form, headers={"origin": "https://evil.example"}
        )
        signed_in = await browser.post("/session", data=form, headers={"origin": house.address})
        cookie = signed_in.headers["set-cookie"]
        async with browser.stream("GET", "/events/stream?sandbox=prod") as stream:
            assert stream.status_code == 200
            assert (await anext(stream.aiter_lines())).startswith(("retry", "event", "id"))
        elsewhere = await browser.get("/events/stream?sandbox=stage")
        unnamed = await browser.get("/events/stream")
        jobs = await browser.get(JOBS)
        await browser.delete("/session")
        signed_out = await browser.get("/events/stream?sandbox=prod")
    assert (refused.status_code, foreign.status_code, signed_in.status_code) == (401, 403, 204)
    assert {"HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
    assert (elsewhere.status_code, unnamed.status_code) == (403, 400)
    assert jobs.status_code == 403, "a cookie opens the stream and nothing else"
    assert signed_out.status_code == 403


async def test_the_log_says_who_has_asked(
    house: Interfaces, capsys: pytest.CaptureFixture[str]
) -> None:
    key = house.new_key()
    head = "".join(f"{name}: {value}\r\n" for name, value in (await _headers(house, key)).items())
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    # The second one, which says nothing of itself, is waiting while the first is answered.
    for who in (head, ""):
        writer.write(f"GET {JOBS} HTTP/1.1\r\nHost: localhost\r\n{who}\r\n".encode())
    await reader.readuntil(b"HTTP/1.1 200")
    await reader.readuntil(b"HTTP/1.1 403")
    writer.close()
    lines = [line for line in capsys.readouterr().out.splitlines() if f"path={JOBS}" in line]
    known, unknown = lines
    assert f"client={key.key.client_id}" in known
    assert "organization=acme" in known
    assert "peer=127.0.0.1" in known
    assert "client=" not in unknown
    assert "organization=" not in unknown
    assert "peer=127.0.0.1" in unknown


async def test_no_secret_is_logged(house: Interfaces, capsys: pytest.CaptureFixture[str]) -> None:
    key = house.new_key()
    token = await house.token(key)
    async with house.client(key) as client:
        await client.get(JOBS)
        await client.get(JOBS, headers={"authorization": "Bearer wrong-one"})
    client = house.pinpoint(key)
    await asyncio.to_thread(client.get_export_jobs, ApplicationId=APPLICATION)
    logged = "".join(capsys.readouterr())
    assert "request" in logged
    logged += repr(house.door) + repr(key)
    for secret in (key.client_secret, key.secret_access_key, token, "wrong-one"):
        assert secret not in logged


async def test_what_a_client_puts_into_a_path_is_logged_as_plain_letters(
    open_house: Interfaces,
) -> None:
    with structlog.testing.capture_logs() as logged:
        async with httpx.AsyncClient(base_url=open_house.address) as client:
            await client.get("/nothing%1b%5b2J%0ahere")
    (path,) = [entry["path"] for entry in logged if entry["event"] == "request"]
    assert path.lower() == "/nothing%1b%5b2j%0ahere"
