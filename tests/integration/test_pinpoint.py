"""Pinpoint's interface, asked by boto3 as it is."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import botocore.auth
import botocore.exceptions
import httpx
import pytest

from segexport.http.keys import IssuedKey, KeyFile
from segexport.http.server import listening
from segexport.http.sessions import temporary_credentials
from segexport.jobs.lifecycle import STATES
from support.interfaces import (
    APPLICATION,
    BODY,
    JOBS,
    Interfaces,
    OpenPlace,
    http_settings,
    new_key,
    pinpoint_settings,
    serving,
)
from support.people import write_snapshot
from support.s3 import Bucket
from support.workplace import PEOPLE

REQUEST = {
    "RoleArn": "arn:aws:iam::111122223333:role/exports",
    "S3UrlPrefix": "s3://exports/spring/",
    "SegmentId": "gold",
    "SegmentVersion": 3,
}

ODD = (
    "vip/eu",
    "/",
    "a//b",
    "../jobs/export",
    ".",
    "..",
    "50%",
    "a%2Fb",
    "%252F",
    "a;b?c#d",
    "a b+c",
    "urn:x:a@b,c=d&e",
    "größe 日本 😀",
    "~!$'()*[]|\\\"<>^`{}",
)
"""Ids that a path has to bring whole: with what divides it, and what signers take out of it."""


def create(client: Any, **changes: Any) -> dict[str, Any]:
    """CreateExportJob; None leaves a part of the request out."""
    asked = {name: value for name, value in {**REQUEST, **changes}.items() if value is not None}
    answer = client.create_export_job(ApplicationId=APPLICATION, ExportJobRequest=asked)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    return dict(answer["ExportJobResponse"])


async def in_thread(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    return await asyncio.to_thread(function, *arguments, **options)


def followed(client: Any, job_id: str) -> list[dict[str, Any]]:
    """All that GetExportJob has told of a job, until it has ended."""
    told: list[dict[str, Any]] = []
    while not told or told[-1]["JobStatus"] not in {"COMPLETED", "FAILED"}:
        answer = client.get_export_job(ApplicationId=APPLICATION, JobId=job_id)
        told.append(answer["ExportJobResponse"])
        assert len(told) < 2_000, "the job does not end"
    return told


async def test_a_job_is_created_and_followed_to_its_end(house: Interfaces, tmp_path: Path) -> None:
    client = house.pinpoint(house.new_key("prod"))
    async with house.place.working():
        job = await in_thread(create, client)
        told = await in_thread(followed, client, job["Id"])
    assert job == {
        "ApplicationId": APPLICATION,
        "CreationDate": job["CreationDate"],
        "Definition": REQUEST,
        "Id": job["Id"],
        "JobStatus": "CREATED",
        "Type": "EXPORT",
    }
    order = list(dict.fromkeys(facts.pinpoint for facts in STATES.values()))
    places = [order.index(one["JobStatus"]) for one in told]
    assert places == sorted(places)
    done = told[-1]
    assert done["JobStatus"] == "COMPLETED"
    assert done["CompletedPieces"] == done["TotalPieces"] > 0
    assert (done["FailedPieces"], done["TotalFailures"]) == (0, 0)
    lines = [
        json.loads(line)
        for path in sorted((tmp_path / "exported").rglob("*.gz"))
        for line in gzip.decompress(path.read_bytes()).splitlines()
    ]
    assert done["TotalProcessed"] == len(lines) > 0
    assert {line["ChannelType"] for line in lines} == {"EMAIL"}


async def test_endpoints_land_in_the_bucket_that_was_named(
    open_place: OpenPlace, bucket: Bucket
) -> None:
    name = bucket.root.removeprefix("s3://").partition("/")[0]
    place = await open_place(pinpoint=pinpoint_settings(**{name: "s3"}), **bucket.settings)
    async with serving(place) as house, place.working():
        client = house.pinpoint()
        job = await in_thread(create, client, S3UrlPrefix=f"s3://{name}/spring")
        told = await in_thread(followed, client, job["Id"])
    assert told[-1]["JobStatus"] == "COMPLETED"
    keys = [key for key in bucket.keys if "/spring/" in f"/{key}" and key.endswith(".gz")]
    lines = [
        json.loads(line)
        for key in keys
        for line in gzip.decompress(bucket.files.cat_file(key)).splitlines()
    ]
    assert len(lines) == told[-1]["TotalProcessed"] > 0


async def test_everybody_is_exported_where_no_segment_is_named(open_house: Interfaces) -> None:
    client = open_house.pinpoint()
    async with open_house.place.working():
        job = await in_thread(create, client, SegmentId=None, SegmentVersion=None)
        told = await in_thread(followed, client, job["Id"])
    assert "SegmentId" not in told[-1]["Definition"]
    assert told[-1]["JobStatus"] == "COMPLETED"


async def test_lists_are_paged_with_tokens(open_house: Interfaces) -> None:
    client = open_house.pinpoint()
    gold = [(await in_thread(create, client))["Id"] for _ in range(3)]
    everybody = [(await in_thread(create, client, SegmentId=None))["Id"] for _ in range(2)]

    def pages(list_jobs: Callable[..., Any], **asked: Any) -> list[str]:
        seen: list[str] = []
        token: dict[str, str] = {}
        while True:
            answer = list_jobs(ApplicationId=APPLICATION, PageSize="2", **asked, **token)
            page = answer["ExportJobsResponse"]
            seen += [one["Id"] for one in page["Item"]]
            if "NextToken" not in page:
                return seen
            token = {"Token": page["NextToken"]}

    assert await in_thread(pages, client.get_export_jobs) == [*everybody[::-1], *gold[::-1]]
    of_gold = await in_thread(pages, client.get_segment_export_jobs, SegmentId="gold")
    assert of_gold == gold[::-1]
    assert await in_thread(pages, client.get_segment_export_jobs, SegmentId="other") == []


async def test_the_clients_own_repetition_creates_one_job(open_house: Interfaces) -> None:
    """The answer is lost on its way: boto3 asks again, as it does by itself."""
    lost = 0

    async def lossy(scope: Any, receive: Any, send: Any) -> None:
        nonlocal lost
        first = scope["method"] == "POST" and not lost

        async def answer(message: Any) -> None:
            nonlocal lost
            if first and message["type"] == "http.response.start":
                lost += 1
                raise ConnectionError("the answer is lost")
            await send(message)

        await open_house.app(scope, receive, answer)

    async with listening(lossy, open_house.place.settings.http) as address:
        client = open_house.pinpoint(attempts=3, endpoint_url=address)
        job = await in_thread(create, client)
    assert lost == 1
    listed = await in_thread(open_house.pinpoint().get_export_jobs, ApplicationId=APPLICATION)
    assert [one["Id"] for one in listed["ExportJobsResponse"]["Item"]] == [job["Id"]]


@pytest.mark.parametrize("call", [None, "", "another"])
async def test_a_request_that_is_recorded_and_sent_again_creates_nothing(
    call: str | None, house: Interfaces
) -> None:
    """Also under another id of the call, which AWS's clients do not sign; or under none."""
    recorded: list[Any] = []
    client = house.pinpoint(house.new_key())
    client.meta.events.register("before-send.*", lambda request, **_: recorded.append(request))
    job = await in_thread(create, client)
    (request,) = recorded
    headers = dict(request.headers.items())
    if call is not None:
        headers["amz-sdk-invocation-id"] = call
    async with httpx.AsyncClient() as thief:
        answer = await thief.post(request.url, content=request.body, headers=headers)
    assert answer.status_code == 202
    assert answer.json()["Id"] == job["Id"]


@pytest.fixture
async def named_oddly(open_place: OpenPlace, tmp_path: Path) -> AsyncIterator[Interfaces]:
    """Interfaces that want keys, over a store that has the segments of `ODD`."""
    segments = [("ups", name) for name in ODD]
    write_snapshot(tmp_path / "odd", PEOPLE, buckets=4, segments=segments)
    place = await open_place(profiles=tmp_path / "odd")
    new_key(place.settings, organization="elsewhere")
    async with serving(place) as house:
        yield house


async def test_a_segment_is_listed_by_whatever_id_it_was_created_with(
    named_oddly: Interfaces,
) -> None:
    client = named_oddly.pinpoint(named_oddly.new_key())
    created = {name: (await in_thread(create, client, SegmentId=name))["Id"] for name in ODD}
    for name, job_id in created.items():
        answer = await in_thread(
            client.get_segment_export_jobs, ApplicationId=APPLICATION, SegmentId=name, PageSize="1"
        )
        found = answer["ExportJobsResponse"]["Item"]
        assert [one["Id"] for one in found] == [job_id], name


@pytest.mark.parametrize("name", [*ODD, "\x00", "\ud7ff"])
async def test_what_is_called_oddly_and_is_not_there_is_not_found(
    name: str, house: Interfaces
) -> None:
    client = house.pinpoint(house.new_key())
    missing = client.exceptions.NotFoundException
    with pytest.raises(missing, match="there is no job"):
        await in_thread(client.get_export_job, ApplicationId=APPLICATION, JobId=name)
    for call, more in (
        (client.get_export_job, {"JobId": "1"}),
        (client.get_export_jobs, {}),
        (client.get_segment_export_jobs, {"SegmentId": name}),
        (client.create_export_job, {"ExportJobRequest": REQUEST}),
    ):
        with pytest.raises(missing, match="there is no application"):
            await in_thread(call, ApplicationId=name, **more)


# Exceptions


async def test_what_is_not_there_is_not_found(open_house: Interfaces) -> None:
    client = open_house.pinpoint()
    missing = client.exceptions.NotFoundException
    for job_id in ("1", "nonsense"):
        with pytest.raises(missing) as caught:
            await in_thread(client.get_export_job, ApplicationId=APPLICATION, JobId=job_id)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404
        assert caught.value.response["Message"]
        assert caught.value.response["RequestID"]
    with pytest.raises(missing):
        await in_thread(client.get_export_jobs, ApplicationId="other")


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"S3UrlPrefix": "s3://foreign/spring/"}, "S3UrlPrefix"),
        ({"S3UrlPrefix": "exports"}, "S3UrlPrefix"),
        ({"SegmentId": "nope"}, "SegmentId"),
        ({"RoleArn": ""}, "RoleArn"),
        ({"SegmentVersion": -1}, " SegmentVersion"),
    ],
)
async def test_a_request_that_is_wrong_is_a_bad_request(
    changes: dict[str, Any], where: str, open_house: Interfaces
) -> None:
    client = open_house.pinpoint()
    with pytest.raises(client.exceptions.BadRequestException, match=where):
        await in_thread(create, client, **changes)


async def test_a_token_that_no_list_has_given_is_a_bad_request(open_house: Interfaces) -> None:
    client = open_house.pinpoint()
    for wrong in ({"Token": "x"}, {"Token": "bm9uZQ=="}, {"PageSize": "0"}, {"PageSize": "many"}):
        with pytest.raises(client.exceptions.BadRequestException):
            await in_thread(client.get_export_jobs, ApplicationId=APPLICATION, **wrong)


async def test_all_that_is_wrong_with_a_request_is_told_at_once(open_house: Interfaces) -> None:
    client = open_house.pinpoint()
    with pytest.raises(client.exceptions.BadRequestException) as caught:
        await in_thread(
            create, client, RoleArn="", S3UrlPrefix="s3://foreign/", SegmentId="no\u202epe"
        )
    told = caught.value.response["Message"]
    for words in ("RoleArn: must", "S3UrlPrefix: application", "SegmentId: its character 3"):
        assert told.count(words) == 1, told
    with pytest.raises(client.exceptions.BadRequestException) as caught:
        await in_thread(create, client, SegmentVersion=-1, SegmentId="nope")
    told = caught.value.response["Message"]
    assert "SegmentVersion: must be at least 0" in told
    assert "SegmentId: no segment 'nope'" in told


@pytest.mark.parametrize("call", ["get_export_jobs", "get_segment_export_jobs"])
async def test_an_empty_token_is_the_first_page_and_an_empty_size_the_usual_one(
    call: str, house: Interfaces
) -> None:
    """botocore sends an empty text as it is given one, and signs it."""
    client = house.pinpoint(house.new_key())
    sent: list[str] = []
    client.meta.events.register("before-send.*", lambda request, **_: sent.append(request.url))
    job = await in_thread(create, client)
    of = {"SegmentId": "gold"} if call == "get_segment_export_jobs" else {}
    for empty in ({"Token": ""}, {"PageSize": ""}, {"Token": "", "PageSize": ""}):
        answer = await in_thread(getattr(client, call), ApplicationId=APPLICATION, **of, **empty)
        assert [one["Id"] for one in answer["ExportJobsResponse"]["Item"]] == [job["Id"]]
    assert "page-size=" in sent[-1]
    assert "token=" in sent[-1]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("page-size=-1", "page-size: must be from 1 to 200"),
        ("page-size=1&page-size=2", "page-size: is there 2 times; say it once"),
        ("pagesize=1", "pagesize: there is no such parameter; did you mean page-size?"),
        ("x=1", "x: there is no such parameter; there are page-size, token"),
        ("page-size=0&token=x&next-token=", "next-token: there is no such parameter"),
    ],
)
async def test_a_query_that_is_wrong_is_a_bad_request(
    query: str, told: str, open_house: Interfaces
) -> None:
    async with open_house.client() as client:
        answer = await client.get(f"/v1/apps/{APPLICATION}/jobs/export?{query}")
    assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (400, "BadRequestException")
    assert told in answer.json()["Message"]


async def test_a_signature_in_the_query_is_no_parameter_of_the_operation(
    open_house: Interfaces,
) -> None:
    client = open_house.pinpoint()
    url = await in_thread(
        client.generate_presigned_url, "get_export_jobs", {"ApplicationId": APPLICATION}
    )
    assert "X-Amz-Signature" in url
    async with httpx.AsyncClient() as other:
        assert (await other.get(url)).status_code == 200


async def test_another_secret_is_forbidden(house: Interfaces) -> None:
    key, other = house.new_key(), house.new_key()
    client = house.pinpoint(type(key)(key.key, key.client_secret, other.secret_access_key))
    with pytest.raises(client.exceptions.ForbiddenException, match="signature"):
        await in_thread(client.get_export_jobs, ApplicationId=APPLICATION)


async def test_another_region_is_forbidden(house: Interfaces) -> None:
    key = house.new_key()
    client = house.pinpoint(key, region_name="eu-west-1")
    with pytest.raises(client.exceptions.ForbiddenException, match="us-east-1"):
        await in_thread(client.get_export_jobs, ApplicationId=APPLICATION)


async def test_clients_may_sign_for_each_region_of_the_settings(open_place: OpenPlace) -> None:
    regions = {"regions": ["eu-west-1", "us-west-2"]}
    place = await open_place(pinpoint={**pinpoint_settings(), **regions})
    async with serving(place) as house:
        key = house.new_key()
        for region in regions["regions"]:
            client = house.pinpoint(key, region_name=region)
            await in_thread(client.get_export_jobs, ApplicationId=APPLICATION)
        client = house.pinpoint(key, region_name="us-east-1")
        with pytest.raises(client.exceptions.ForbiddenException, match=r"/eu-west-1/.*/us-west-2/"):
            await in_thread(client.get_export_jobs, ApplicationId=APPLICATION)


def temporary(house: Interfaces, key: IssuedKey, lifetime: timedelta) -> dict[str, Any]:
    """Options of a client with temporary credentials."""
    made = temporary_credentials(
        house.door.ring.master, key.key, now=datetime.now(UTC), lifetime=lifetime
    )
    return {
        "aws_access_key_id": made.access_key_id,
        "aws_secret_access_key": made.secret_access_key,
        "aws_session_token": made.session_token,
    }


async def test_a_client_with_temporary_credentials_does_what_their_key_may(
    house: Interfaces,
) -> None:
    key = house.new_key("prod")
    login = temporary(house, key, timedelta(hours=1))
    client = house.pinpoint(**login)
    job = await in_thread(create, client)
    found = await in_thread(client.get_export_job, ApplicationId=APPLICATION, JobId=job["Id"])
    assert found["ExportJobResponse"]["Id"] == job["Id"]
    KeyFile(house.place.settings.keys_file).revoke(key.key.client_id)
    house.look_at_keys()
    with pytest.raises(client.exceptions.ForbiddenException, match="was revoked"):
        await in_thread(client.get_export_jobs, ApplicationId=APPLICATION)


async def test_temporary_credentials_that_have_ended_are_told_as_aws_tells_it(
    house: Interfaces,
) -> None:
    client = house.pinpoint(**temporary(house, house.new_key(), timedelta(0)))
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        await in_thread(client.get_export_jobs, ApplicationId=APPLICATION)
    assert caught.value.response["Error"]["Code"] == "ExpiredTokenException"


async def test_a_session_of_a_real_account_is_told_what_to_do(house: Interfaces) -> None:
    client = house.pinpoint(house.new_key(), aws_session_token="IQoJb3JpZ2luX2VjEXAMPLE")
    with pytest.raises(client.exceptions.ForbiddenException, match="segexport keys session"):
        await in_thread(client.get_export_jobs, ApplicationId=APPLICATION)


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_client_whose_clock_is_wrong_learns_it_and_the_right_time(
    hours: int, house: Interfaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the name that AWS's clients look for: those that correct their clock then get through."""
    client = house.pinpoint(house.new_key())
    skew = timedelta(hours=hours)

    def get_current_datetime(*_: object, **__: object) -> datetime:
        return datetime.now(UTC).replace(tzinfo=None) + skew

    monkeypatch.setattr(botocore.auth, "get_current_datetime", get_current_datetime)
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        await in_thread(client.get_export_jobs, ApplicationId=APPLICATION)
    error = caught.value.response
    assert error["Error"]["Code"] == "RequestTimeTooSkewed"
    served_at = parsedate_to_datetime(error["ResponseMetadata"]["HTTPHeaders"]["date"])
    skew += served_at - (datetime.now(UTC) + skew)  # as they do it
    page = await in_thread(client.get_export_jobs, ApplicationId=APPLICATION)
    assert page["ExportJobsResponse"]["Item"] == []


async def test_an_application_of_another_sandbox_is_not_found(house: Interfaces) -> None:
    for key in (house.new_key("stage"), house.new_key(organization="other")):
        client = house.pinpoint(key)
        with pytest.raises(client.exceptions.NotFoundException) as caught:
            await in_thread(client.get_export_jobs, ApplicationId=APPLICATION)
        with pytest.raises(client.exceptions.NotFoundException) as missing:
            await in_thread(client.get_export_jobs, ApplicationId="nowhere")
        told = [str(one.value).replace("nowhere", APPLICATION) for one in (caught, missing)]
        assert told[0] == told[1]


async def test_a_body_that_is_too_large_is_said_to_be(open_house: Interfaces) -> None:
    client = open_house.pinpoint()
    with pytest.raises(client.exceptions.PayloadTooLargeException):
        await in_thread(create, client, RoleArn="x" * 2_000_000)


async def test_whoever_asks_too_often_is_told_to_wait(open_place: OpenPlace) -> None:
    place = await open_place(http=http_settings(rate=0.001, burst=2))
    async with serving(place) as house:
        client = house.pinpoint()
        for _ in range(2):
            await in_thread(client.get_export_jobs, ApplicationId=APPLICATION)
        with pytest.raises(client.exceptions.TooManyRequestsException) as caught:
            await in_thread(client.get_export_jobs, ApplicationId=APPLICATION)
        headers = caught.value.response["ResponseMetadata"]["HTTPHeaders"]
        assert int(headers["retry-after"]) > 1


async def test_the_rest_of_pinpoint_is_not_allowed(open_house: Interfaces) -> None:
    client = open_house.pinpoint()
    with pytest.raises(client.exceptions.MethodNotAllowedException):
        await in_thread(client.get_apps)
    with pytest.raises(client.exceptions.MethodNotAllowedException):
        await in_thread(client.get_segments, ApplicationId=APPLICATION)


async def test_what_went_wrong_here_is_not_a_fault_of_the_client(open_house: Interfaces) -> None:
    await open_house.place.store.close()
    client = open_house.pinpoint()
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        await in_thread(client.get_export_jobs, ApplicationId=APPLICATION)
    assert caught.value.response["Error"]["Code"] == "InternalServerErrorException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503


# Both interfaces


async def test_both_interfaces_show_the_same_jobs(open_house: Interfaces) -> None:
    pinpoint = open_house.pinpoint()
    async with open_house.client() as platform:
        ours = (await in_thread(create, pinpoint))["Id"]
        theirs = (await platform.post(JOBS, json=BODY)).json()["id"]
        listed = (await platform.get(JOBS)).json()["records"]
        mine = await in_thread(pinpoint.get_export_jobs, ApplicationId=APPLICATION)
        shown = (
            await in_thread(pinpoint.get_export_job, ApplicationId=APPLICATION, JobId=str(theirs))
        )["ExportJobResponse"]
        async with open_house.place.working():
            told = await in_thread(followed, pinpoint, ours)
        done = (await platform.get(f"{JOBS}/{ours}")).json()
    assert [one["id"] for one in listed] == [theirs, int(ours)]
    assert [one["Id"] for one in mine["ExportJobsResponse"]["Item"]] == [str(theirs), ours]
    assert shown["JobStatus"] == "CREATED"
    assert shown["Definition"] == {"RoleArn": "", "S3UrlPrefix": "", "SegmentId": "gold"}
    assert (told[-1]["JobStatus"], done["status"]) == ("COMPLETED", "SUCCEEDED")
    assert done["pinpoint"]["s3UrlPrefix"] == REQUEST["S3UrlPrefix"]
