"""Where the endpoints of a Pinpoint job go, and where they may not."""

from pathlib import Path
from typing import Any

import pytest

from segexport.errors import DatasetError, SettingsError
from segexport.exports.outlets import Outlets
from segexport.jobs.job import Scope
from segexport.jobs.reading import parse_request
from segexport.jobs.request import ExportRequest
from segexport.settings import Settings, load_settings
from segexport.settings.http import ApplicationSettings, PinpointSettings

SCOPE = Scope("acme", "prod")


def request_to(url: str, application: str = "shop") -> ExportRequest:
    return parse_request(
        {
            "destination": {"datasetId": "d"},
            "pinpoint": {
                "applicationId": application,
                "roleArn": "arn:aws:iam::111122223333:role/export",
                "s3UrlPrefix": url,
            },
        }
    )


def outlets(destinations: dict[str, str], organization: str = "acme") -> Outlets:
    application = ApplicationSettings(organization=organization, destinations=destinations)
    return Outlets.of(Settings(pinpoint=PinpointSettings(applications={"shop": application})))


def address(found: Outlets, url: str) -> str:
    asked = request_to(url).pinpoint
    assert asked is not None
    assert not found.problems(SCOPE, request_to(url))
    return str(found.location(SCOPE, asked))


def test_the_rest_of_a_url_becomes_folders_below_the_mapped_one(tmp_path: Path) -> None:
    found = outlets({"s3://bucket/exports": str(tmp_path)})
    assert address(found, "s3://bucket/exports") == str(tmp_path)
    assert address(found, "s3://bucket/exports/a/b c:d") == f"{tmp_path}/a/b c:d"


def test_on_s3_a_url_is_what_it_says() -> None:
    found = outlets({"s3://bucket": "s3"})
    assert address(found, "s3://bucket") == "s3://bucket"
    assert address(found, "s3://bucket/a/b/") == "s3://bucket/a/b"


def test_the_longest_prefix_counts(tmp_path: Path) -> None:
    found = outlets({"s3://bucket": "s3", "s3://bucket/local/": str(tmp_path)})
    assert address(found, "s3://bucket/local/x/") == f"{tmp_path}/x"
    assert address(found, "s3://bucket/locally/") == "s3://bucket/locally"


@pytest.mark.parametrize("url", ["s3://bucket/", "s3://bucket/exporting/", "s3://other/exports/"])
def test_a_prefix_that_nothing_covers_is_refused(tmp_path: Path, url: str) -> None:
    found = outlets({"s3://bucket/exports/": str(tmp_path)})
    (problem,) = found.problems(SCOPE, request_to(url))
    assert problem.path == "pinpoint.s3UrlPrefix"
    assert "pinpoint.applications.shop.destinations" in problem.message
    asked = request_to(url).pinpoint
    assert asked is not None
    with pytest.raises(DatasetError, match="no place to go"):
        found.location(SCOPE, asked)


def test_an_application_of_somebody_else_is_like_one_that_is_not_there(tmp_path: Path) -> None:
    prefix = "s3://bucket/exports/"
    foreign = outlets({prefix: str(tmp_path)}, organization="globex")
    (problem,) = foreign.problems(SCOPE, request_to(prefix))
    assert problem.path == "pinpoint.applicationId"
    assert (problem,) == Outlets({}).problems(SCOPE, request_to(prefix))
    mine = outlets({prefix: str(tmp_path)})
    assert not mine.problems(SCOPE, request_to(prefix))
    assert mine.problems(Scope("acme", "stage"), request_to(prefix))


def test_a_request_that_wants_no_endpoints_needs_no_application() -> None:
    assert not Outlets({}).problems(SCOPE, parse_request({"destination": {"datasetId": "d"}}))


@pytest.mark.parametrize("place", ["", "s3://elsewhere/x", "https://example.com"])
def test_a_destination_is_s3_or_a_folder(place: str) -> None:
    application: Any = {"organization": "acme", "destinations": {"s3://bucket/": place}}
    with pytest.raises(SettingsError, match="a destination is 's3', or a folder"):
        load_settings(pinpoint={"applications": {"shop": application}})
