"""segexport's own `/jobs`: what the command line and pages ask."""

from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest

from segexport.clerk import JobDocument
from segexport.events.service_event import JOURNEY, JOURNEY_VERSION, ORCHESTRATION_ID
from segexport.events.vocabulary import ORCHESTRATION
from segexport.jobs import job as steps
from segexport.jobs.lifecycle import JobState
from support.interfaces import BODY, Interfaces
from support.job_stories import advanced, initialize, publish, start
from support.workplace import SCOPE


async def created(client: httpx.AsyncClient, **params: str) -> dict[str, Any]:
    """A new job as the answer to its creation shows it."""
    answer = await client.post("/jobs", json=BODY, params=params)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def test_a_creation_is_repeatable_by_query_or_header(open_house: Interfaces) -> None:
    async with open_house.client() as client:
        first = await client.post("/jobs?requestId=nightly&deadline=90", json=BODY)
        again = await client.post("/jobs", json=BODY, headers={"x-request-id": "nightly"})
        other = await client.post("/jobs?requestId=nightly", json={**BODY, "fields": "person"})
        free = [await created(client) for _ in range(2)]
    job = first.json()
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert first.headers["location"] == again.headers["location"] == f"/jobs/{job['id']}"
    assert again.json() == job
    assert other.json()["code"] == "request.conflict"
    assert len({job["id"], *(one["id"] for one in free)}) == 3


async def test_a_journey_is_shown_and_told_as_it_was_named(open_house: Interfaces) -> None:
    journey = {"versionId": "v3", "namespace": "Email", "id": "j-7", "name": "Grüße im Mai"}
    async with open_house.client() as client:
        job = (await client.post("/jobs", json={**BODY, "journey": journey})).json()
        again = (await client.post(f"/jobs/{job['id']}/retry")).json()
    for one in (job, again):
        assert one["request"]["journey"] == {**journey, "testMode": False}
    event = await open_house.place.last_event(await open_house.place.store.get(SCOPE, job["id"]))
    assert event[JOURNEY] == {
        ORCHESTRATION_ID: "j-7",
        JOURNEY_VERSION: "v3",
        ORCHESTRATION + "name": "Grüße im Mai",
    }


async def test_what_is_wrong_is_told_at_once_with_paths(open_house: Interfaces) -> None:
    body = {"filter": {"segments": [{"segmentId": ""}]}, "destination": {}, "more": True}
    async with open_house.client() as client:
        answer = await client.post("/jobs", json=body)
    told = answer.json()
    assert answer.status_code == told["status"] == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert (told["type"], told["code"]) == ("urn:segexport:request.invalid", "request.invalid")
    assert told["requestId"] == answer.headers["x-request-id"]
    paths = {problem["path"] for problem in told["problems"]}
    assert paths == {"filter.segments.0.segmentId", "destination.datasetId", "more"}
    for problem in told["problems"]:
        assert f"{problem['path']}: {problem['message']}" in told["detail"]


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("state=DONE", "state"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("before=", "before"),
        ("before=1", "before"),
        ("before=1_x", "before"),
        ("states=NEW", "states"),
        ("limit=1&limit=1", "limit"),
    ],
)
async def test_a_query_that_is_wrong_is_refused(
    query: str, path: str, open_house: Interfaces
) -> None:
    async with open_house.client() as client:
        answer = await client.get(f"/jobs?{query}")
    assert answer.status_code == 400
    assert [problem["path"] for problem in answer.json()["problems"]] == [path]


async def test_all_that_is_wrong_with_a_query_is_told_at_once(open_house: Interfaces) -> None:
    async with open_house.client() as client:
        answer = await client.get("/jobs?state=DONE&limit=0&before=1&stat=NEW")
        both = await client.get("/jobs?state=NEW&state=FAILED")
    told = {problem["path"]: problem["message"] for problem in answer.json()["problems"]}
    assert told == {
        "stat": "there is no such parameter; did you mean state?",
        "state": "'DONE': neither a status nor a state",
        "limit": "must be from 1 to 1000",
        "before": "must be what a page had as next",
    }
    assert both.status_code == 200


async def test_what_an_operation_does_not_have_in_its_query_is_refused(
    open_house: Interfaces,
) -> None:
    async with open_house.client() as client:
        job = await created(client)
        where = f"/jobs/{job['id']}"
        for method, target, hint in (
            ("GET", where, "there is none"),
            ("POST", f"{where}/cancel", "there is none"),
            ("POST", f"{where}/retry", "there are requestId"),
            ("POST", "/jobs", "there are requestId, deadline"),
        ):
            answer = await client.request(method, f"{target}?x=1")
            assert answer.status_code == 400
            assert f"x: there is no such parameter; {hint}" in answer.json()["detail"]
        shown = (await client.get("/jobs")).json()["jobs"]
    assert [(one["id"], one["state"]) for one in shown] == [(job["id"], "CREATED")]


async def test_a_reason_that_does_not_show_is_refused(open_house: Interfaces) -> None:
    async with open_house.client() as client:
        job = await created(client)
        answer = await client.post(f"/jobs/{job['id']}/cancel", json={"reason": "a\u2067b"})
        lines = await client.post(f"/jobs/{job['id']}/cancel", json={"reason": "a\nb"})
    assert answer.status_code == 400
    assert "reason: its character 2 is U+2067" in answer.json()["detail"]
    assert lines.status_code == 200


@pytest.mark.parametrize("deadline", ["0", "inf", "nan", "1e300", "soon"])
async def test_a_deadline_that_is_no_time_is_refused(deadline: str, open_house: Interfaces) -> None:
    async with open_house.client() as client:
        answer = await client.post(f"/jobs?deadline={deadline}", json=BODY)
    assert answer.status_code == 400
    assert [problem["path"] for problem in answer.json()["problems"]] == ["deadline"]


async def test_pages_lead_through_all_jobs_while_new_ones_arrive(open_house: Interfaces) -> None:
    async with open_house.client() as client:
        ids = [(await created(client))["id"] for _ in range(5)]
        first = (await client.get("/jobs?limit=2")).json()
        await created(client)
        second = (await client.get(f"/jobs?limit=2&before={first['next']}")).json()
        third = (await client.get(f"/jobs?limit=2&before={second['next']}")).json()
    listed = [job["id"] for page in (first, second, third) for job in page["jobs"]]
    assert sorted(listed) == sorted(ids)
    assert "next" not in third


async def test_jobs_are_listed_by_status_or_state_with_how_far_they_are(
    open_house: Interfaces,
) -> None:
    store = open_house.place.store
    async with open_house.client() as client:
        waiting, running = await created(client), await created(client)
        job = await store.get(SCOPE, running["id"])
        for step in (steps.claim, initialize, start):
            job = await advanced(store, job, step)
        for query, found in (
            ("state=new", [waiting["id"]]),
            ("state=PROCESSING", [running["id"]]),
            ("state=CREATED&state=processing", [running["id"], waiting["id"]]),
            ("state=CANCELLED", []),
        ):
            page = (await client.get(f"/jobs?{query}")).json()
            assert sorted(one["id"] for one in page["jobs"]) == sorted(found), query
        (shown,) = (await client.get("/jobs?state=PROCESSING")).json()["jobs"]
        assert shown == (await client.get(f"/jobs/{running['id']}")).json()
        assert (shown["state"], shown["progress"], shown["piecesDone"]) == ("PROCESSING", 0.0, 0)


async def test_a_job_is_cancelled_with_a_reason_or_without(open_house: Interfaces) -> None:
    async with open_house.client() as client:
        jobs = [(await created(client))["id"] for _ in range(2)]
        told = await client.post(f"/jobs/{jobs[0]}/cancel", json={"reason": "no use"})
        plain = await client.post(f"/jobs/{jobs[1]}/cancel")
        again = await client.post(f"/jobs/{jobs[0]}/cancel", json={"reason": "another"})
        bodies: list[Any] = [{"why": "x"}, {"reason": "x" * 1001}, {"reason": 7}, []]
        wrong = [await client.post(f"/jobs/{jobs[0]}/cancel", json=body) for body in bodies]
    assert (told.json()["state"], told.json()["error"]["message"]) == ("CANCELLED", "no use")
    assert plain.json()["error"]["message"] == "cancelled on request"
    assert again.json() == told.json()
    assert [answer.status_code for answer in wrong] == [400] * 4


async def test_a_job_that_is_being_published_is_too_far_to_be_cancelled(
    open_house: Interfaces,
) -> None:
    store = open_house.place.store
    async with open_house.client() as client:
        job = await store.get(SCOPE, (await created(client))["id"])
        for step in (steps.claim, initialize, start, publish):
            job = await advanced(store, job, step)
        refused = await client.post(f"/jobs/{job.id}/cancel")
    assert refused.status_code == 409
    assert refused.json()["code"] == "job.too_late_to_cancel"
    assert (await store.get(SCOPE, job.id)).state is JobState.COMPLETING


async def test_a_job_is_submitted_again(open_house: Interfaces) -> None:
    async with open_house.client() as client:
        job = await created(client)
        retries = [await client.post(f"/jobs/{job['id']}/retry?requestId=again") for _ in range(2)]
        missing = await client.post("/jobs/4711/retry")
    assert [answer.status_code for answer in retries] == [201, 200]
    assert retries[0].json()["retryOf"] == job["id"]
    assert retries[0].json()["id"] == retries[1].json()["id"] != job["id"]
    assert missing.status_code == 404


# Its description


def _examples(
    description: dict[str, Any],
) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Of each answer and body of `/jobs`: where, its schema, its example."""
    for path, operations in description["paths"].items():
        for method, operation in operations.items() if path.startswith("/jobs") else ():
            told = [operation.get("requestBody", {}), *operation["responses"].values()]
            for one in told:
                for content in one.get("content", {}).values():
                    examples = [value["value"] for value in content.get("examples", {}).values()]
                    for example in [*examples, content.get("example")]:
                        if example is not None:
                            yield f"{method} {path}", content["schema"], example


async def test_the_description_has_every_operation_and_examples_that_fit(
    open_house: Interfaces,
) -> None:
    async with open_house.client() as client:
        description = (await client.get("/openapi.json")).json()
        answered = await created(client)
    examples = list(_examples(description))
    assert {where for where, _, _ in examples} == {
        "get /jobs",
        "post /jobs",
        "get /jobs/{id}",
        "post /jobs/{id}/cancel",
        "post /jobs/{id}/retry",
    }
    job = {"$ref": "#/components/schemas/JobDocument"}
    for where, schema, example in [*examples, ("an answer", job, answered)]:
        whole = {**schema, "components": description["components"]}
        found = [
            error.message for error in jsonschema.Draft202012Validator(whole).iter_errors(example)
        ]
        assert not found, where
    shown = [example for _, schema, example in examples if schema == job]
    assert all(JobDocument.model_validate(one).document() == one for one in shown)
