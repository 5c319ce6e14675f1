"""Documentation that states facts of the code states the right ones."""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from segexport import errors
from segexport.exports.engines.consents import OTHERS, REFUSALS
from segexport.http.experience_platform import _NUMBERS, GATEWAY_CODES
from segexport.http.experience_platform_api import MAX_LIMIT
from segexport.http.health import LARGE_BACKLOG
from segexport.http.metered import MAX_HEAD
from segexport.http.pinpoint_api import MAX_PAGE
from segexport.http.problems import STATUS_OF_FAULT
from segexport.http.server import KEEP_ALIVE
from segexport.http.sigv4 import TOLERANCE
from segexport.settings import Settings
from support.diagram import lifecycle_diagram, status_table

DOCS = Path(__file__).parents[2] / "docs"


def test_the_lifecycle_diagram_is_that_of_the_table() -> None:
    page = (DOCS / "architecture.md").read_text()
    drawn = page.split("<!-- lifecycle:begin -->")[1].split("<!-- lifecycle:end -->")[0].strip()
    assert drawn == lifecycle_diagram(), f"put this between the markers:\n{lifecycle_diagram()}"


HTTP = (DOCS / "http.md").read_text()


def between(marker: str) -> str:
    return HTTP.split(f"<!-- {marker}:begin -->")[1].split(f"<!-- {marker}:end -->")[0].strip()


def test_the_statuses_of_the_interfaces_are_those_of_the_table() -> None:
    assert between("statuses") == status_table(), f"put this between:\n{status_table()}"


def test_the_tree_of_errors_names_every_error_below_what_it_is_derived_from() -> None:
    drawn: list[tuple[str, str]] = []
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"    ([│├└─ ]*)([A-Z]\w+)", line):
            above[len(found[1]) // 4 :] = [found[2]]
            drawn.append((above[-2] if len(above) > 1 else "Exception", found[2]))
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert sorted(drawn) == sorted(
        (kind.__bases__[0].__name__, kind.__name__)
        for kind in kinds
        if issubclass(kind, errors.SegexportError)
    )


def test_the_consents_are_documented_with_what_they_mean() -> None:
    page = (DOCS / "exports.md").read_text()
    table = page.split("<!-- consents:begin -->")[1].split("<!-- consents:end -->")[0]
    rows = [
        (re.findall(r"`(\w+)`", values), opt_out)
        for values, opt_out in re.findall(r"^\| (`.*?) \| .* \| `(\w+)` \|$", table, re.MULTILINE)
    ]
    meant = {value: opt_out for values, opt_out in rows for value in values}
    assert meant == {
        **dict.fromkeys(REFUSALS, "ALL"),
        **dict.fromkeys(OTHERS, "NONE"),
    }


def test_every_code_of_the_gateway_is_documented_with_its_status() -> None:
    shown = re.findall(r"^\| `(\d+)` \| (\d+) \|", between("gateway"), re.MULTILINE)
    assert shown == [
        (code, str(STATUS_OF_FAULT.get(fault, HTTPStatus.FORBIDDEN).value))
        for fault, code in GATEWAY_CODES.items()
    ]


def test_every_code_of_the_service_is_documented() -> None:
    shown = re.findall(
        r"^\| `UPAPI-(\d+)-(\d+)` \| `urn:segexport:([\w.]+)` \| (\d+) \|",
        between("service"),
        re.MULTILINE,
    )
    assert {kind: number for number, _, kind, _ in shown} == dict(_NUMBERS)
    assert all(in_code == status for _, in_code, _, status in shown)


def test_the_limits_of_the_interfaces_are_those_of_the_code() -> None:
    assert (MAX_LIMIT, MAX_PAGE, MAX_HEAD, KEEP_ALIVE) == (1000, 200, 16 * 1024, 75)
    assert timedelta(minutes=5) == TOLERANCE
    assert LARGE_BACKLOG == 100_000


def test_every_setting_is_documented() -> None:
    page = (DOCS / "operations.md").read_text()
    names = set(_names(Settings.model_fields))
    missing = sorted(name for name in names if f"`{name}`" not in page)
    assert not missing
    assert "kafka.sasl_password" in names


def _names(fields: Mapping[str, FieldInfo], prefix: str = "") -> Iterator[str]:
    for name, field in fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield from _names(section.model_fields, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_links_between_pages_lead_somewhere() -> None:
    pages = [DOCS.parent / "README.md", *DOCS.rglob("*.md")]
    broken = [
        f"{page.relative_to(DOCS.parent)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert not broken
