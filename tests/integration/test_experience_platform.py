"""Experience Platform's interface: what clients of the documented API send and receive."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from segexport.commands import Commands
from segexport.events.service_event import JOURNEY, JOURNEY_VERSION, ORCHESTRATION_ID
from segexport.events.vocabulary import ORCHESTRATION
from segexport.http.experience_platform_api import CANCELLING, ENDED
from segexport.jobs import job as steps
from segexport.jobs.job import Job
from segexport.jobs.lifecycle import JobState
from segexport.jobs.publication import DataFile
from segexport.store.store import FinishedPart, FinishedPiece, Lease
from support.interfaces import BODY, JOBS, Interfaces, OpenPlace, serving
from support.job_stories import advanced, initialize, publish, start
from support.waiting import until
from support.workplace import SCOPE


async def created(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    """A new job as the answer to its creation shows it."""
    answer = await client.post(JOBS, json={**BODY, **changes})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def ended(client: httpx.AsyncClient, job_id: int) -> dict[str, Any]:
    """A job as it is shown once it has ended."""
    shown: dict[str, Any] = {}

    async def has() -> bool:
        shown.update((await client.get(f"{JOBS}/{job_id}")).json())
        return shown["status"] in {"SUCCEEDED", "FAILED"}

    await until(has, 30, f"job {job_id} has ended")
    return shown


def without_times(shown: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in shown.items()
        if key not in {"creationTime", "updateTime", "metrics"}
    }


# Creating


async def test_a_new_job_is_shown_as_the_documents_show_it(open_house: Interfaces) -> None:
    async with open_house.client() as client:
        answer = await client.post(
            JOBS,
            json={
                **BODY,
                "fields": "identities.id,person.name",
                "mergePolicy": {"id": "timestampOrdered-none-mp", "version": 1},
                "filter": {**BODY["filter"], "fromIngestTimestamp": "2018-01-01T00:00:00Z"},
                "additionalFields": {
                    "eventList": {"filter": {"fromIngestTimestamp": "2018-01-01T00:00:00Z"}}
                },
            },
            headers={"x-request-id": "nightly-1"},
        )
    job = answer.json()
    assert answer.status_code == 200
    assert answer.headers["x-location"] == f"{JOBS}/{job['id']}"
    assert answer.headers["x-request-id"] == "nightly-1"
    assert isinstance(job["id"], int)
    assert without_times(job) == {
        "id": job["id"],
        "jobType": "BATCH",
        "destination": {"datasetId": "audience", "segmentPerBatch": False},
        "fields": "identities.id,person.name",
        "schema": {"name": "_xdm.context.profile"},
        "imsOrgId": "acme",
        "status": "NEW",
        "filter": {
            "segments": [{"segmentId": "gold", "segmentNs": "ups", "status": ["realized"]}],
            "fromIngestTimestamp": "2018-01-01T00:00:00Z",
        },
        "additionalFields": {
            "eventList": {"fields": "", "filter": {"fromIngestTimestamp": "2018-01-01T00:00:00Z"}}
        },
        "mergePolicy": {"id": "timestampOrdered-none-mp", "version": 1},
        "profileInstanceId": "ups",
        "computeGatewayJobId": {"exportJob": ""},
        "requestId": "nightly-1",
    }
    assert job["metrics"] == {"totalTime": {"startTimeInMs": job["creationTime"]}}
    assert job["creationTime"] == job["updateTime"] > 1_700_000_000_000


async def test_a_journey_is_shown_and_told_as_it_was_named(open_house: Interfaces) -> None:
    journey = {"versionId": "v3", "namespace": "Email", "id": "j-7", "name": "Grüße im Mai"}
    async with open_house.client() as client:
        job = await created(client, journey=journey)
        shown = (await client.get(f"{JOBS}/{job['id']}")).json()
    assert job["journey"] == shown["journey"] == {**journey, "testMode": False}
    event = await open_house.place.last_event(await open_house.place.store.get(SCOPE, job["id"]))
    assert event[JOURNEY] == {
        ORCHESTRATION_ID: "j-7",
        JOURNEY_VERSION: "v3",
        ORCHESTRATION + "name": "Grüße im Mai",
    }


async def test_a_creation_that_is_sent_again_answers_with_the_same_job(
    open_house: Interfaces,
) -> None:
    async with open_house.client() as client:
        answers = [
            await client.post(JOBS, json=BODY, headers={"x-request-id": "again"}) for _ in range(3)
        ]
        other = await client.post(
            JOBS, json={**BODY, "fields": "person.name"}, headers={"x-request-id": "again"}
        )
        without = [(await created(client))["id"] for _ in range(2)]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert other.status_code == 409
    assert other.json()["errors"]["409"][0]["code"] == "UPAPI-100102-409"
    assert without[0] != without[1]


async def test_what_is_wrong_with_a_body_is_told_at_once(open_house: Interfaces) -> None:
    async with open_house.client() as client:
        answer = await client.post(
            JOBS,
            json={
                "filter": {"segments": [{"segmentNs": "ups"}], "emptyProfiles": "perhaps"},
                "destination": {},
                "surprise": 1,
            },
        )
        unknown = await client.post(
            JOBS,
            json={**BODY, "filter": {"segments": [{"segmentId": "nope"}]}, "fields": "no.such"},
        )
    assert answer.status_code == 400
    body = answer.json()
    assert (body["status"], body["title"]) == (400, "Bad Request")
    assert body["requestId"] == answer.headers["x-request-id"]
    assert {entry["path"] for entry in body["errors"]["400"]} == {
        "filter.segments.0.segmentId",
        "filter.emptyProfiles",
        "destination.datasetId",
        "surprise",
    }
    assert [entry["path"] for entry in unknown.json()["errors"]["400"]] == [
        "filter.segments.0.segmentId",
        "fields",
    ]


async def test_a_bad_part_of_a_body_does_not_hide_what_is_not_there(
    open_house: Interfaces,
) -> None:
    body = {
        "destination": {"datasetId": "../etc", "segmentPerBatch": "yes"},
        "filter": {"segments": [{"segmentId": "nope"}, {"segmentNs": 3}, {"segmentId": "gold"}]},
        "fields": "no.such",
        "mergePolicy": {"id": "away"},
        "surprise": 1,
    }
    async with open_house.client() as client:
        answer = await client.post(JOBS, json=body, headers={"x-request-id": "x" * 200})
        own = await client.post("/jobs", json=body, params={"requestId": "x" * 200})
    paths = {
        *("destination.datasetId", "destination.segmentPerBatch", "surprise", "fields"),
        *(f"filter.segments.{part}" for part in ("0.segmentId", "1.segmentId", "1.segmentNs")),
        "mergePolicy",
    }
    told = [entry["path"] for entry in answer.json()["errors"]["400"]]
    assert sorted(told) == sorted({*paths, "x-request-id"})
    told = [entry["path"] for entry in own.json()["problems"]]
    assert sorted(told) == sorted({*paths, "requestId"})


async def test_what_is_wrong_with_a_body_is_told_also_where_nothing_can_be_looked_up(
    open_place: OpenPlace, tmp_path: Path
) -> None:
    place = await open_place(profiles=tmp_path / "none")
    async with serving(place) as house, house.client() as client:
        wrong = await client.post(JOBS, json={**BODY, "surprise": 1})
        right = await client.post(JOBS, json=BODY)
    assert [entry["path"] for entry in wrong.json()["errors"]["400"]] == ["surprise"]
    assert right.status_code == 503


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"a=b", "application/x-www-form-urlencoded", 415),
        (json.dumps(BODY).encode(), "application/json; charset=utf-8", 200),
    ],
)
async def test_a_body_has_to_be_json(
    content: bytes, kind: str, status: int, open_house: Interfaces
) -> None:
    async with open_house.client() as client:
        answer = await client.post(JOBS, content=content, headers={"content-type": kind})
    assert answer.status_code == status


# The life of a job


async def test_a_job_is_followed_to_its_end(open_house: Interfaces) -> None:
    async with open_house.client() as client, open_house.place.working():
        job = await created(client)
        done = await ended(client, job["id"])
    (batch,) = open_house.place.dataset.batches()
    assert done["status"] == "SUCCEEDED"
    assert done["destination"]["batchId"] == batch.manifest.batch
    assert done["metrics"]["totalExportedProfileCounter"] == 20
    assert done["metrics"]["exportedProfileByNamespaceCounter"] == {"Email": 16}
    for span in ("totalTime", "profileExportTime"):
        time = done["metrics"][span]
        assert time["totalTimeInMs"] == time["endTimeInMs"] - time["startTimeInMs"] >= 0
    assert len(done["computeGatewayJobId"]["exportJob"]) == 36
    assert "errors" not in done
    assert done["updateTime"] >= done["creationTime"] == job["creationTime"]


async def test_metrics_grow_while_a_job_runs(open_house: Interfaces) -> None:
    store = open_house.place.store
    async with open_house.client() as client:
        shown = await created(client)
        job = await store.claim("somebody", timedelta(minutes=1), limit=1)
        assert job is not None
        for step in (steps.claim, initialize, start):
            job = await advanced(store, job, step)
        exported = []
        for index in range(3):
            metrics = (await client.get(f"{JOBS}/{shown['id']}")).json()["metrics"]
            assert metrics["totalTime"].keys() == {"startTimeInMs"}
            assert metrics["profileExportTime"].keys() == {"startTimeInMs"}
            counted = metrics["exportedProfileByNamespaceCounter"].get("Email", 0)
            exported.append((metrics["totalExportedProfileCounter"], counted))
            data = DataFile(name=f"{index}", rows=7, size=1, sha256="")
            part = FinishedPart(selected=9, discarded=2, data=data, namespaces={"Email": 5})
            piece = FinishedPiece(index=index, epoch=job.epoch, parts=(part,))
            await store.save_piece(Lease(job.id, "somebody", job.epoch), piece)
    assert exported == [(0, 0), (7, 5), (14, 10)]


async def test_each_segment_may_have_its_batch(open_house: Interfaces) -> None:
    async with open_house.client() as client, open_house.place.working():
        job = await created(client, destination={"dataSetId": "audience", "segmentPerBatch": True})
        done = await ended(client, job["id"])
    (batch,) = open_house.place.dataset.batches()
    assert "batchId" not in done["destination"]
    assert done["destination"]["batches"] == [
        {
            "segmentId": "gold",
            "segmentNs": "ups",
            "status": ["realized"],
            "batchId": batch.manifest.batch,
        }
    ]


async def test_a_waiting_job_is_cancelled_and_says_so(open_house: Interfaces) -> None:
    async with open_house.client() as client:
        job = await created(client)
        answer = await client.delete(f"{JOBS}/{job['id']}")
        shown = (await client.get(f"{JOBS}/{job['id']}")).json()
        again = await client.delete(f"{JOBS}/{job['id']}")
    assert (answer.status_code, answer.json()) == (200, {"status": True, "message": CANCELLING})
    assert (again.status_code, again.json()) == (200, {"status": True, "message": ENDED})
    assert shown["status"] == "FAILED"
    (error,) = shown["errors"]
    assert error["msg"] == "cancelled on request"
    assert error["code"].isdigit()
    assert error["callStack"]
    assert (await open_house.place.store.get(SCOPE, job["id"])).state is JobState.CANCELLED
    # It has never begun, and so has exported nobody.
    metrics = shown["metrics"]
    assert metrics.keys() >= {"totalTime", "totalExportedProfileCounter"}
    assert metrics["totalTime"].keys() >= {"endTimeInMs", "totalTimeInMs"}
    assert metrics["totalExportedProfileCounter"] == 0
    assert metrics["exportedProfileByNamespaceCounter"] == {}
    assert "profileExportTime" not in metrics


async def test_a_job_that_is_being_published_is_too_far_to_be_cancelled(
    open_house: Interfaces,
) -> None:
    place = open_house.place
    async with open_house.client() as client:
        job = await created(client)
        stored = await place.store.get(SCOPE, job["id"])
        for step in (steps.claim, initialize, start, publish):
            stored = await advanced(place.store, stored, step)
        answer = await client.delete(f"{JOBS}/{job['id']}")
    assert answer.status_code == 409
    assert answer.json()["errors"]["409"][0]["code"] == "UPAPI-100203-409"


# Lists


async def test_a_job_that_ends_before_its_cancel_is_not_said_to_be_cancelled(
    open_house: Interfaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = type(open_house.place.commands)
    cancel = commands.cancel

    async def cancel_too_late(self: Commands, *args: Any, **options: Any) -> Job:
        async with open_house.place.working():
            await ended(client, job["id"])
        return await cancel(self, *args, **options)

    monkeypatch.setattr(commands, "cancel", cancel_too_late)
    async with open_house.client() as client:
        job = await created(client)
        answer = await client.delete(f"{JOBS}/{job['id']}")
    assert answer.json() == {"status": True, "message": ENDED}


async def test_a_repetition_is_answered_also_when_what_it_names_is_gone(
    open_place: OpenPlace, people: Path, tmp_path: Path
) -> None:
    profiles = tmp_path / "profiles-that-go"
    profiles.symlink_to(people)
    place = await open_place(profiles=profiles)
    named = {"x-request-id": "nightly"}
    async with serving(place) as house, house.client() as client:
        first = await client.post(JOBS, json=BODY, headers=named)
        profiles.unlink()
        again = await client.post(JOBS, json=BODY, headers=named)
        other = await client.post(JOBS, json={**BODY, "fields": "x"}, headers=named)
        new = await client.post(JOBS, json=BODY)
    assert (again.status_code, again.json()) == (200, first.json())
    assert other.status_code == 409
    assert new.status_code == 503


async def test_no_page_skips_or_repeats_a_job_while_new_ones_arrive(
    open_house: Interfaces,
) -> None:
    async with open_house.client() as client:
        there = [(await created(client))["id"] for _ in range(7)]
        seen: list[int] = []
        following = f"{JOBS}?limit=2"
        while following:
            page = (await client.get(following)).json()
            seen += [record["id"] for record in page["records"]]
            assert page["page"]["pageSize"] == 2
            assert page["page"] | {"pageOffset": "", "pageSize": 0} == {
                "sortField": "createdTime",
                "sort": "desc",
                "pageOffset": "",
                "pageSize": 0,
            }
            await created(client)
            # Whatever was created since: the page's own cursor gives it again.
            again = await client.get(
                JOBS, params={"limit": 2, "offset": page["page"]["pageOffset"]}
            )
            assert [r["id"] for r in again.json()["records"]] == [r["id"] for r in page["records"]]
            following = page["link"]["next"] and f"/data/core/ups{page['link']['next']}"
    assert following == ""
    assert seen == list(reversed(there))


async def test_the_first_page_has_nothing_of_the_next_millisecond(
    open_house: Interfaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)

    async def clock() -> datetime:
        return now

    monkeypatch.setattr(open_house.place.store, "now", clock)
    async with open_house.client() as client:
        first = await created(client)
        page = (await client.get(JOBS)).json()
        now += timedelta(milliseconds=1)
        second = await created(client)
        again = await client.get(JOBS, params={"offset": page["page"]["pageOffset"]})
        newest = (await client.get(JOBS)).json()
    assert [record["id"] for record in again.json()["records"]] == [first["id"]]
    assert [record["id"] for record in newest["records"]] == [second["id"], first["id"]]


async def test_a_list_may_be_filtered_by_status(open_house: Interfaces) -> None:
    async with open_house.client() as client, open_house.place.working() as worker:
        done = await created(client)
        await ended(client, done["id"])
        worker.stop()
        waiting = [(await created(client))["id"] for _ in range(3)]
        cancelled = waiting.pop()
        await client.delete(f"{JOBS}/{cancelled}")

        async def listed(status: str) -> list[int]:
            answer = await client.get(JOBS, params={"status": status})
            return [record["id"] for record in answer.json()["records"]]

        assert await listed("NEW") == waiting[::-1]
        assert await listed("SUCCEEDED") == [done["id"]]
        assert await listed("FAILED") == [cancelled]
        page = (await client.get(JOBS, params={"status": "NEW", "limit": 1})).json()
        assert "status=NEW" in page["link"]["next"]


async def test_an_empty_list_has_no_next(open_house: Interfaces) -> None:
    async with open_house.client() as client:
        assert (await client.get(JOBS)).json() == {
            "records": [],
            "page": {
                "sortField": "createdTime",
                "sort": "desc",
                "pageOffset": "",
                "pageSize": 100,
            },
            "link": {"next": ""},
        }


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "offset=12", "offset=a_b", "status=DONE"]
)
async def test_a_query_that_is_wrong_is_refused(query: str, open_house: Interfaces) -> None:
    async with open_house.client() as client:
        answer = await client.get(f"{JOBS}?{query}")
    assert answer.status_code == 400
    assert answer.json()["errors"]["400"][0]["path"] == query.partition("=")[0]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("limit=-1", {"limit": "must be from 1 to 1000"}),
        ("limit=99999999999", {"limit": "must be from 1 to 1000"}),
        ("limit=many", {"limit": "must be a whole number from 1 to 1000"}),
        ("limit=", {"limit": "must be a whole number from 1 to 1000"}),
        ("status=DONE", {"status": "must be 'NEW', 'SUCCEEDED' or 'FAILED'"}),
        ("limit=1&limit=2", {"limit": "is there 2 times; say it once"}),
        ("Limit=1", {"Limit": "there is no such parameter; did you mean limit?"}),
        ("ofset=1_1", {"ofset": "there is no such parameter; did you mean offset?"}),
        (
            "a%1Bb=1",
            {"'a\\x1bb'": "there is no such parameter; there are limit, offset, status"},
        ),
        ("=1", {"''": "there is no such parameter; there are limit, offset, status"}),
        (
            "limits=1&limit=0&offset=x&status=NEW&status=FAILED",
            {
                "limits": "there is no such parameter; did you mean limit?",
                "status": "is there 2 times; say it once",
                "limit": "must be from 1 to 1000",
                "offset": "must be <creationTime in ms>_<job id>, as link.next has it",
            },
        ),
        (
            "limit=0&offset=x",
            {
                "limit": "must be from 1 to 1000",
                "offset": "must be <creationTime in ms>_<job id>, as link.next has it",
            },
        ),
    ],
)
async def test_all_that_is_wrong_with_a_query_is_told_at_once(
    query: str, told: dict[str, str], open_house: Interfaces
) -> None:
    async with open_house.client() as client:
        answer = await client.get(f"{JOBS}/?{query}")
    assert answer.status_code == 400
    assert {one["path"]: one["message"] for one in answer.json()["errors"]["400"]} == told


async def test_what_no_operation_has_in_its_query_is_refused(open_house: Interfaces) -> None:
    async with open_house.client() as client:
        job = await created(client)
        for method, where, body in (
            ("GET", f"{JOBS}/{job['id']}", None),
            ("HEAD", f"{JOBS}/{job['id']}", None),
            ("DELETE", f"{JOBS}/{job['id']}/", None),
            ("POST", JOBS, BODY),
        ):
            answer = await client.request(method, f"{where}?limit=1", json=body)
            assert answer.status_code == 400, method
            assert method == "HEAD" or "there is none" in answer.text
        shown = (await client.get(JOBS)).json()["records"]
    assert [(one["id"], one["status"]) for one in shown] == [(job["id"], "NEW")]


async def test_who_may_not_come_in_learns_nothing_of_the_query(house: Interfaces) -> None:
    async with house.client() as client:
        assert (await client.get(f"{JOBS}?limits=1")).status_code == 403


async def test_addresses_are_the_same_with_a_slash_at_their_end(open_house: Interfaces) -> None:
    async with open_house.client() as client:
        job = (await client.post(f"{JOBS}/", json=BODY)).json()
        assert (await client.get(f"{JOBS}/")).json()["records"][0]["id"] == job["id"]
        assert (await client.get(f"{JOBS}/{job['id']}/")).json()["id"] == job["id"]
        assert (await client.delete(f"{JOBS}/{job['id']}/")).status_code == 200


# What is not there


@pytest.mark.parametrize("job_id", ["1", "0", "abc", "9" * 16, "9" * 400, "-1", "1.5"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_job_that_is_not_there_is_not_found(
    method: str, job_id: str, open_house: Interfaces
) -> None:
    async with open_house.client() as client:
        answer = await client.request(method, f"{JOBS}/{job_id}")
    assert answer.status_code == 404
    body = answer.json()
    assert body["errors"]["404"][0]["code"] == "UPAPI-100201-404"
    assert body["type"] == "urn:segexport:job.not_found"


async def test_other_methods_are_not_allowed(open_house: Interfaces) -> None:
    async with open_house.client() as client:
        answer = await client.put(JOBS, json=BODY)
        elsewhere = await client.get("/data/core/ups/segment/jobs")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")
    assert elsewhere.status_code == 404


async def test_while_the_store_is_away_clients_are_told_to_come_again(
    open_house: Interfaces,
) -> None:
    await open_house.place.store.close()
    async with open_house.client() as client:
        answer = await client.get(JOBS)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "jobs.sqlite" not in answer.text
