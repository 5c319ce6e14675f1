"""Endpoints of Pinpoint jobs: what lies under a prefix in the end, and what never does."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from s3fs import S3FileSystem
from structlog.testing import capture_logs

from segexport.clerk import JobDocument
from segexport.cli.present import print_status
from segexport.errors import EngineError, InvalidRequest
from segexport.events.vocabulary import OWN
from segexport.exports.location import Location
from segexport.exports.outlets import Outlets
from segexport.jobs.job import FaultKind, Job, Scope
from segexport.jobs.lifecycle import JobState
from segexport.jobs.publication import Counts
from segexport.jobs.reading import parse_request
from segexport.jobs.request import ExportRequest
from segexport.profiles.snapshots import Attribute
from segexport.settings import S3Settings
from segexport.settings.http import ApplicationSettings, PinpointSettings
from support.endpoints import (
    APPLICATION,
    ENDPOINT_ATTRIBUTES,
    REACHABLE,
    endpoints_of,
    in_order,
    read_endpoints,
)
from support.people import Identity, Person, write_snapshot
from support.s3 import Bucket
from support.stuck import Failing, Gate, gated, is_reached
from support.workplace import DATASET, SCOPE, Workplace

GONE = "s3://there-is-none/"


def request_to(url: str) -> ExportRequest:
    return parse_request(
        {
            "destination": {"datasetId": DATASET},
            "pinpoint": {
                "applicationId": APPLICATION,
                "roleArn": "arn:aws:iam::111122223333:role/export",
                "s3UrlPrefix": url,
            },
        }
    )


@dataclass(frozen=True)
class Outlet:
    """A workplace whose jobs may export below `url`."""

    place: Workplace
    url: str
    folder: Location

    async def submit(self) -> Job:
        return await self.place.submit(request_to(self.url))

    def require_complete(self, job: Job) -> None:
        """Everybody's endpoints are there, under names of the job, and nothing else is."""
        assert job.state is JobState.COMPLETED
        assert job.counts == Counts(total=6, realized=6, failed=0)
        assert job.publication is not None
        names = [
            f"endpoints-{job.id}-part-{index:05d}.json.gz"
            for index in range(len(job.publication.endpoints))
        ]
        assert sorted(self.folder.sizes()) == names
        files = [(self.folder / name).read() or b"" for name in names]
        found, ids = read_endpoints(*files)
        assert in_order(found) == in_order(endpoints_of(REACHABLE))
        assert job.publication.unknown_consents == 0
        assert len(set(ids)) == sum(file.rows for file in job.publication.endpoints) == 12
        (batch,) = self.place.dataset.batches()
        batch.verify()
        assert not self.place.left_behind()

    def require_nothing(self) -> None:
        """Nothing lies under the prefix, nor in the dataset."""
        assert not self.folder.exists()
        assert not self.place.dataset.batches()
        assert not self.place.left_behind()


async def open_outlet(
    folder: Path, bucket: Bucket | None, mapped: Path, datasets: Mapping[str, Any]
) -> Outlet:
    name = bucket.name if bucket else "bucket"
    url = f"s3://{name}/pinpoint/today/"
    destinations = {f"s3://{name}/pinpoint": "s3" if bucket else str(mapped)}
    if bucket:
        destinations[GONE] = "s3"
    application = ApplicationSettings(organization=SCOPE.organization, destinations=destinations)
    others: dict[str, Any] = {
        "pinpoint": PinpointSettings(applications={APPLICATION: application}),
        "s3": bucket.settings["s3"] if bucket else S3Settings(),
        **datasets,
    }
    place = await Workplace.open(folder, others, pieces_in_flight=1)
    write_snapshot(
        place.settings.profiles_folder, REACHABLE, buckets=3, attributes=ENDPOINT_ATTRIBUTES
    )
    asked = request_to(url).pinpoint
    assert asked is not None
    return Outlet(place, url, Outlets.of(place.settings).location(SCOPE, asked))


def require_unreachable(job: Job, url: str, why: str) -> None:
    """The job has been tried again, and has then failed at its beginning."""
    assert (job.state, job.attempts) == (JobState.FAILED, 2)
    assert job.fault is not None
    assert job.fault.kind is FaultKind.UNREACHABLE
    assert "nothing can be written below the S3 prefix" in job.fault.message
    assert job.fault.detail is not None
    assert f"cannot be written to {url}" in job.fault.detail
    assert why in job.fault.detail


@pytest.fixture(params=["folder", "s3"])
async def outlet(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Outlet]:
    """Datasets in a folder; endpoints go to another one, or to S3."""
    bucket = request.getfixturevalue("bucket") if request.param == "s3" else None
    outlet = await open_outlet(tmp_path, bucket, tmp_path / "mapped", {})
    yield outlet
    await outlet.place.store.close()


async def test_the_rows_and_bytes_of_the_last_event_are_those_of_the_batch(outlet: Outlet) -> None:
    async with outlet.place.working():
        job = await outlet.place.ended(await outlet.submit())
    (batch,) = outlet.place.dataset.batches()
    told = await outlet.place.last_event(job)
    files = batch.manifest.files
    assert told[OWN + "rows"] == sum(file.rows for file in files) == 6
    assert told[OWN + "bytes"] == sum(file.size for file in files)
    assert told[OWN + "batches"] == [batch.manifest.batch]


async def test_endpoints_lie_under_the_prefix_once_the_job_is_complete(outlet: Outlet) -> None:
    async with outlet.place.working():
        job = await outlet.place.ended(await outlet.submit())
    outlet.require_complete(job)


async def test_datasets_and_endpoints_may_share_a_bucket(bucket: Bucket, tmp_path: Path) -> None:
    outlet = await open_outlet(tmp_path, bucket, tmp_path, {"datasets": bucket.root})
    async with outlet.place.working():
        job = await outlet.place.ended(await outlet.submit())
    outlet.require_complete(job)
    await outlet.place.store.close()


async def test_two_jobs_with_one_prefix_keep_out_of_each_others_way(outlet: Outlet) -> None:
    async with outlet.place.working():
        jobs = [await outlet.submit(), await outlet.submit()]
        ended = [await outlet.place.ended(job) for job in jobs]
    assert {job.state for job in ended} == {JobState.COMPLETED}
    for job in ended:
        mine = [name for name in outlet.folder.sizes() if name.startswith(f"endpoints-{job.id}-")]
        found, _ = read_endpoints(*((outlet.folder / name).read() or b"" for name in mine))
        assert in_order(found) == in_order(endpoints_of(REACHABLE))


async def test_another_worker_keeps_the_endpoints_of_finished_pieces(outlet: Outlet) -> None:
    place, gate = outlet.place, Gate("write_endpoints", nth=2)
    async with place.working(place.new_worker(change=gated(gate))):
        job = await outlet.submit()
        await is_reached(gate)
        assert not outlet.folder.exists()
    async with place.working(place.new_worker("two")):
        job = await place.ended(job)
    assert [piece.epoch for piece in await place.store.pieces(job.id)] == [1, 2, 2]
    outlet.require_complete(job)


async def test_consents_that_are_not_understood_are_told_of_with_the_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One in each of three pieces, two of which another worker has done."""
    outlet = await open_outlet(tmp_path, None, tmp_path / "mapped", {})
    place, gate = outlet.place, Gate("write_endpoints", nth=3)
    path = "consents.marketing.email.val"
    people = [
        Person(number, [{path: value}], {"Email": [Identity(f"{number}@example.com")]})
        for number, value in enumerate(("n", "y", "N", "yes", True, None), start=1)
    ]
    write_snapshot(
        place.settings.profiles_folder,
        people,
        buckets=3,
        attributes=[Attribute(path, "JSON")],
        snapshot_id="00000002-20260301T120000Z",
    )
    async with place.working(place.new_worker(change=gated(gate))):
        job = await outlet.submit()
        await is_reached(gate)
    with capture_logs() as logged:
        async with place.working(place.new_worker("two")):
            job = await place.ended(job)
    said = [one for one in logged if one["event"] == "consents are not understood"]
    assert [(one["log_level"], one["endpoints"]) for one in said] == [("warning", 3)]
    document = JobDocument.of(await place.commands.status(job.scope, job.id))
    assert document.document()["unknownConsents"] == 3
    print_status(document)
    assert "3 endpoints are opted out" in capsys.readouterr().out
    await place.store.close()


async def test_a_piece_whose_endpoints_have_vanished_is_run_again(outlet: Outlet) -> None:
    place, gate = outlet.place, Gate("write_endpoints", nth=3)
    async with place.working(place.new_worker(change=gated(gate))):
        job = await outlet.submit()
        await is_reached(gate)
    (place.dataset.staging(job.id) / "endpoints-00001-e1.json.gz").unlink()
    async with place.working(place.new_worker("two")):
        job = await place.ended(job)
    assert [piece.epoch for piece in await place.store.pieces(job.id)] == [1, 2, 2]
    outlet.require_complete(job)


async def test_a_cancelled_job_leaves_nothing_under_the_prefix(outlet: Outlet) -> None:
    place, gate = outlet.place, Gate("write_endpoints", nth=3)
    async with place.working(place.new_worker(change=gated(gate))):
        job = await outlet.submit()
        await is_reached(gate)
        await place.commands.cancel(SCOPE, job.id)
        job = await place.ended(job)
    assert job.state is JobState.CANCELLED
    outlet.require_nothing()


async def test_a_failed_job_leaves_nothing_under_the_prefix(outlet: Outlet) -> None:
    place = outlet.place
    failing = Failing("write_endpoints", EngineError("no such luck"), times=99, after=1)
    async with place.working(place.new_worker(change=failing.engine)):
        job = await place.ended(await outlet.submit())
    assert job.fault is not None
    assert job.fault.kind is FaultKind.FAILED
    assert failing.calls > 2
    outlet.require_nothing()


@pytest.mark.parametrize("outlet", ["s3"], indirect=True)
async def test_a_bucket_that_refuses_is_tried_again_and_then_counts_as_unreachable(
    outlet: Outlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = S3FileSystem._call_s3

    async def refuse(self: Any, method: str, *arguments: Any, **options: Any) -> Any:
        if method == "create_multipart_upload":
            raise PermissionError("Access Denied")
        return await call(self, method, *arguments, **options)

    monkeypatch.setattr(S3FileSystem, "_call_s3", refuse)
    async with outlet.place.working():
        job = await outlet.place.ended(await outlet.submit())
    require_unreachable(job, outlet.url, "Access Denied")
    outlet.require_nothing()


@pytest.mark.parametrize("outlet", ["s3"], indirect=True)
async def test_a_bucket_that_is_not_there_counts_as_unreachable(outlet: Outlet) -> None:
    async with outlet.place.working():
        job = await outlet.place.ended(await outlet.place.submit(request_to(GONE)))
    require_unreachable(job, GONE, "no bucket")


@pytest.mark.parametrize("outlet", ["folder"], indirect=True)
async def test_a_folder_that_cannot_be_written_counts_as_unreachable(
    outlet: Outlet, tmp_path: Path
) -> None:
    (tmp_path / "mapped").write_text("a file where a folder must be")
    async with outlet.place.working():
        job = await outlet.place.ended(await outlet.submit())
    require_unreachable(job, outlet.url, "cannot be written")


async def test_a_destination_that_is_withdrawn_fails_the_job_at_once(outlet: Outlet) -> None:
    job = await outlet.submit()
    settings = outlet.place.settings.model_copy(update={"pinpoint": PinpointSettings()})
    async with replace(outlet.place, settings=settings).working():
        job = await outlet.place.ended(job)
    assert (job.state, job.attempts) == (JobState.FAILED, 1)
    assert job.fault is not None
    assert "leads nowhere any more" in job.fault.message
    assert job.fault.detail is not None
    assert "no place to go" in job.fault.detail
    outlet.require_nothing()


async def test_a_prefix_that_is_not_allowed_is_refused_when_it_is_asked_for(
    outlet: Outlet,
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await outlet.place.submit(request_to("s3://elsewhere/x/"))
    assert [problem.path for problem in refused.value.problems] == ["pinpoint.s3UrlPrefix"]
    with pytest.raises(InvalidRequest) as refused:
        await outlet.place.commands.submit(Scope("globex", "prod"), request_to(outlet.url))
    assert [problem.path for problem in refused.value.problems] == ["pinpoint.applicationId"]
