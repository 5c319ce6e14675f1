"""The interfaces do what their OpenAPI documents say, whatever they are asked.

Always the same requests; `SEGEXPORT_TEST_SEED` makes them others.
"""

import asyncio
import logging
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from requests import PreparedRequest
from requests.auth import AuthBase
from schemathesis import Response
from schemathesis.core.failures import Failure
from schemathesis.openapi.checks import (
    MissingHeaderNotRejected,
    RejectedPositiveData,
    UseAfterFree,
)

from segexport.http import experience_platform_api, pinpoint_api
from segexport.http.keys import IssuedKey
from segexport.jobs import job as steps
from support.examples import examples
from support.fuzzing import fuzz
from support.interfaces import (
    APPLICATION,
    PLATFORM,
    Interfaces,
    OpenPlace,
    new_key,
    pinpoint_settings,
    serving,
)
from support.job_stories import advanced, initialize, publish, start
from support.people import write_snapshot
from support.workplace import PEOPLE, request_for

log = logging.getLogger(__name__)

SEED = int(os.environ.get("SEGEXPORT_TEST_SEED", "20260301"))
EXAMPLES = examples(10)

ENOUGH = 5
"""Successes of each operation: a run without them has tried the refusals only."""
BEYOND_A_SCHEMA = (
    # what is there
    "no segment ",
    "has no definition, so it cannot be evaluated",
    " no field ",
    "there is no merge policy ",
    " has no version ",
    "there is no application ",
    "has no destination for ",
    "is none that a list has given",
    "printable characters",
    # what came before
    "was used for job ",
    # how parts of a request go together
    "must lie before ",
    "a segment is named twice",
    "needs segments",
    "needs filter.segments",
    "leave out segmentPerBatch",
    "leave fields blank",
    "the header x-gw-ims-org-id is required",
    "the header x-sandbox-name is required",
)
"""Words of refusals of requests whose every part is in order by itself."""


class Bearer(AuthBase):
    """Shows a token and its key, as clients of Experience Platform do."""

    def __init__(self, token: str, key: IssuedKey) -> None:
        self._headers = {"authorization": f"Bearer {token}", "x-api-key": key.key.client_id}

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers.update(self._headers)
        return _as_a_new_one(request, "x-request-id")


class Signature(AuthBase):
    """Signs, as AWS's clients do."""

    def __init__(self, key: IssuedKey) -> None:
        credentials = Credentials(key.key.access_key_id, key.secret_access_key)
        self._signer = SigV4Auth(credentials, "mobiletargeting", "us-east-1")

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers.pop("Authorization", None)
        request = _as_a_new_one(request, "amz-sdk-invocation-id")
        signed = AWSRequest(
            method=request.method, url=request.url, data=request.body, headers=request.headers
        )
        self._signer.add_auth(signed)
        request.headers.update(signed.headers.items())
        return request


def _as_a_new_one(request: PreparedRequest, name: str) -> PreparedRequest:
    """Whatever is tried of a body has one and the same id, and would be a conflict from then on."""
    if request.headers.get(name) == "0":
        request.headers[name] = uuid4().hex
    return request


def excused(failure: Failure, response: Response) -> bool:
    """What a schema cannot say, and where both APIs are known to do otherwise."""
    match failure:
        case RejectedPositiveData() if response.status_code == 400:
            return all(any(part in one for part in BEYOND_A_SCHEMA) for one in _wrong(response))
        case MissingHeaderNotRejected():
            # Without a token or a signature both say 403; 401 is for one that is not valid.
            return failure.header_name == "Authorization" and response.status_code == 403
        case UseAfterFree():
            # Cancelled jobs stay, to be seen and to be cancelled again.
            return failure.free.startswith(f"DELETE {experience_platform_api.JOBS}/")
        case _:
            return False


def _wrong(response: Response) -> list[str]:
    """Each thing that a refusal says is wrong."""
    told = response.json()
    if "errors" in told:
        return [entry["message"] for entry in told["errors"]["400"]]
    return re.split(r"; (?=[\w.]+: )", told.get("Message") or told["detail"])


@pytest.fixture
async def busy(open_place: OpenPlace, tmp_path: Path) -> AsyncIterator[Interfaces]:
    """Interfaces that want keys, over a store in which the documented examples exist."""
    segments = [("ups", experience_platform_api.SEGMENT)]
    write_snapshot(tmp_path / "profiles", PEOPLE, buckets=4, segments=segments)
    place = await open_place(
        profiles=tmp_path / "profiles",
        pinpoint=pinpoint_settings(exports=str(tmp_path / "exported")),
    )
    new_key(place.settings, organization="elsewhere")
    async with serving(place) as house:
        yield house


async def jobs_of(house: Interfaces) -> list[str]:
    """The ids of jobs that are new, being published, cancelled and done."""
    place = house.place
    async with place.working():
        done = await place.ended(await place.submit(request_for(("ups", "gold"))))
    new, published, cancelled = [await place.submit(request_for()) for _ in range(3)]
    await place.commands.cancel(cancelled.scope, cancelled.id)
    for step in (steps.claim, initialize, start, publish):
        published = await advanced(place.store, published, step)
    return [str(job.id) for job in (new, published, cancelled, done)]


async def test_experience_platforms_interface_is_as_it_is_described(busy: Interfaces) -> None:
    key = busy.new_key()
    found = await asyncio.to_thread(
        fuzz,
        f"{busy.address}{PLATFORM}/openapi.json",
        seed=SEED,
        examples=EXAMPLES,
        auth=Bearer(await busy.token(key), key),
        known={
            "path.id": await jobs_of(busy),
            "header.x-gw-ims-org-id": ["acme"],
            "header.x-sandbox-name": ["prod"],
            "body.filter.segments[*].segmentId": ["gold"],
            "body.filter.segments[*].segmentNs": ["ups"],
            "body.fields": ["", "person.name"],
            "body.destination.datasetId": ["audience"],
            "body.additionalFields.eventList.fields": ["", "_id"],
            "body.mergePolicy.id": ["timestampOrdered-none-mp"],
            "body.mergePolicy.version": [1],
            "body.pinpoint.applicationId": [APPLICATION],
            "body.pinpoint.s3UrlPrefix": ["s3://exports/a"],
        },
        excused=excused,
    )
    log.info("%s", found)
    jobs, job = experience_platform_api.JOBS, f"{experience_platform_api.JOBS}/{{id}}"
    assert not found.faults
    for operation in (f"POST {jobs}", f"GET {jobs}", f"GET {job}", f"DELETE {job}"):
        assert found.successes(operation) >= ENOUGH, operation
    assert found.answers[f"DELETE {job}"][409], "a job is too far to be cancelled"


async def test_pinpoints_interface_is_as_it_is_described(busy: Interfaces) -> None:
    found = await asyncio.to_thread(
        fuzz,
        f"{busy.address}/v1/openapi.json",
        seed=SEED,
        examples=EXAMPLES,
        auth=Signature(busy.new_key()),
        known={
            "path.application_id": [APPLICATION],
            "path.job_id": await jobs_of(busy),
            "path.segment_id": ["gold"],
            "body.SegmentId": ["gold"],
            "body.S3UrlPrefix": ["s3://exports/a"],
        },
        excused=excused,
    )
    log.info("%s", found)
    jobs = pinpoint_api.JOBS
    assert not found.faults
    for operation in (
        f"POST {jobs}",
        f"GET {jobs}",
        f"GET {jobs}/{{job_id}}",
        f"GET {pinpoint_api.JOBS_OF_SEGMENT}",
    ):
        assert found.successes(operation) >= ENOUGH, operation


async def test_the_other_addresses_are_as_they_are_described(busy: Interfaces) -> None:
    key = busy.new_key()
    found = await asyncio.to_thread(
        fuzz,
        f"{busy.address}/openapi.json",
        seed=SEED,
        examples=EXAMPLES,
        auth=Bearer(await busy.token(key), key),
        known={
            "header.x-gw-ims-org-id": ["acme"],
            "header.x-sandbox-name": ["prod"],
            "header.Last-Event-ID": ["1-0"],
            "path.id": await jobs_of(busy),
            "body.filter.segments[*].segmentId": ["gold"],
            "body.filter.segments[*].segmentNs": ["ups"],
            "body.fields": ["", "person.name"],
            "body.destination.datasetId": ["audience"],
            "body.client_id": [key.key.client_id],
            "body.client_secret": [key.client_secret],
        },
        excused=excused,
    )
    log.info("%s", found)
    assert not found.faults
    for operation in (
        "POST /ims/token/v3",
        "POST /session",
        "DELETE /session",
        "GET /events/stream",
        "GET /livez",
        "GET /readyz",
        "GET /jobs",
        "POST /jobs",
        "GET /jobs/{id}",
        "POST /jobs/{id}/cancel",
        "POST /jobs/{id}/retry",
    ):
        assert found.successes(operation), operation
