"""Documentation that states facts of the code states the right ones."""

from pathlib import Path

from support.diagram import lifecycle_diagram

DOCS = Path(__file__).parents[2] / "docs"


def test_the_lifecycle_diagram_is_that_of_the_table() -> None:
    page = (DOCS / "architecture.md").read_text()
    drawn = page.split("<!-- lifecycle:begin -->")[1].split("<!-- lifecycle:end -->")[0].strip()
    assert drawn == lifecycle_diagram(), f"put this between the markers:\n{lifecycle_diagram()}"
