"""The OpenAPI documents: valid ones, whose examples are what their schemas say."""

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from segexport.commands import Commands
from segexport.http.app import Door, create_app
from segexport.http.health import Health
from segexport.http.tail import Tail
from segexport.settings import Settings

Document = dict[str, Any]
PATHS = ("/data/core/ups/openapi.json", "/v1/openapi.json", "/openapi.json")
NOBODY_ANSWERS = cast("Any", None)


@pytest.fixture(params=PATHS)
async def document(request: pytest.FixtureRequest, tmp_path: Path) -> Document:
    """Each of the documents, as it is served; what is behind the interfaces is not asked."""
    settings = Settings(data=tmp_path)
    app = create_app(
        settings,
        cast("Commands", NOBODY_ANSWERS),
        Door.of(settings),
        cast("Tail", NOBODY_ANSWERS),
        Health(*[NOBODY_ANSWERS] * 4),
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.get(request.param)
    return dict(answer.raise_for_status().json())


def operations(document: Document) -> Iterator[tuple[str, Document]]:
    """Every operation, with what it is called."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def contents(document: Document) -> Iterator[tuple[str, Document]]:
    """Every body, of requests and of answers, with whose it is."""
    for name, operation in operations(document):
        holders = {"request": operation.get("requestBody", {}), **operation["responses"]}
        for whose, holder in holders.items():
            for kind, content in holder.get("content", {}).items():
                yield f"{name} {whose} {kind}", content


def examples(content: Document) -> list[Any]:
    """The examples of a body."""
    several = [example["value"] for example in content.get("examples", {}).values()]
    return [content["example"], *several] if "example" in content else several


def test_a_document_is_a_valid_one(document: Document) -> None:
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["version"] == version("segexport")
    OpenAPIV31SpecValidator(document).validate()


def test_every_body_has_an_example_which_is_what_its_schema_says(document: Document) -> None:
    for where, content in contents(document):
        schema = {**content["schema"], "components": document["components"]}
        validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
        assert examples(content), where
        for example in examples(content):
            problems = [f"{one.json_path}: {one.message}" for one in validator.iter_errors(example)]
            assert not problems, f"{where}: {problems}"


def test_everything_is_described_in_words(document: Document) -> None:
    for name, operation in operations(document):
        assert operation["summary"], name
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description"), f"{name} {parameter['name']}"
        for status, answer in operation["responses"].items():
            assert answer["description"], f"{name} {status}"


def test_examples_of_errors_say_the_status_that_they_are_shown_with(document: Document) -> None:
    for name, operation in operations(document):
        for status, answer in operation["responses"].items():
            for content in answer.get("content", {}).values():
                for example in examples(content):
                    told = example.get("status")
                    assert type(told) is not int or told == int(status), f"{name} {status}"
