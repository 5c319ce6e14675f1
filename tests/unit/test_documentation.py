"""Documentation that states facts of the code states the right ones."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from segexport.settings import Settings
from support.diagram import lifecycle_diagram

DOCS = Path(__file__).parents[2] / "docs"


def test_the_lifecycle_diagram_is_that_of_the_table() -> None:
    page = (DOCS / "architecture.md").read_text()
    drawn = page.split("<!-- lifecycle:begin -->")[1].split("<!-- lifecycle:end -->")[0].strip()
    assert drawn == lifecycle_diagram(), f"put this between the markers:\n{lifecycle_diagram()}"


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
