"""The AsyncAPI description is of the events that are emitted."""

import json
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from segexport.events.contract import Contract, Kind, Verdict, judge, kind_of
from segexport.settings import KafkaSettings
from support.told import told

FILE = Path(__file__).parents[2] / "docs" / "asyncapi.json"
API: dict[str, Any] = json.loads(FILE.read_text())
MESSAGES: dict[str, Any] = API["components"]["messages"]
TRAIT: dict[str, Any] = API["components"]["messageTraits"]["cloudEvent"]


def references(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for below in part.values():
            yield from references(below)
    elif isinstance(part, list):
        for below in part:
            yield from references(below)


def resolved(reference: str) -> Any:
    file, _, pointer = reference.partition("#/")
    found: Any = json.loads((FILE.parent / file).read_text()) if file else API
    for step in pointer.split("/"):
        found = found[step]
    return found


def test_every_reference_leads_somewhere() -> None:
    found = list(references(API))
    assert found
    for reference in found:
        assert resolved(reference)


def test_it_describes_this_version_and_this_topic() -> None:
    channel = API["channels"]["events"]
    settings = KafkaSettings()
    assert API["info"]["version"] == version("segexport")
    assert channel["parameters"]["topic"]["default"] == settings.topic
    assert channel["bindings"]["kafka"]["partitions"] == settings.partitions
    assert channel["bindings"]["kafka"]["replicas"] == settings.replication_factor


def test_there_is_one_message_for_each_kind_of_event() -> None:
    assert MESSAGES.keys() == set(Kind)
    for where in (API["channels"]["events"]["messages"], MESSAGES):
        assert where.keys() == set(Kind)
    named = {reference.rpartition("/")[2] for reference in references(API["operations"])}
    assert named == {*Kind, "events"}


@pytest.mark.parametrize("kind", Kind)
def test_the_example_of_each_kind_is_one_that_is_emitted(kind: Kind) -> None:
    record = next(each for each in told() if kind_of(json.loads(each.value)) is kind)
    (example,) = MESSAGES[kind]["examples"]
    assert example["payload"] == json.loads(record.value)
    assert example["headers"] == {name: value.decode() for name, value in record.headers}
    assert judge(example["payload"], Contract.EMITTED).verdict is Verdict.VALID
    assert MESSAGES[kind]["payload"]["schema"]["$ref"].endswith(f"/definitions/{kind}")


@pytest.mark.parametrize("form", ["uri", "compact"])
@pytest.mark.parametrize("dialect", ["xdm", "journey-optimizer"])
def test_the_headers_and_keys_of_all_events_are_as_described(form: str, dialect: str) -> None:
    described = jsonschema.Draft7Validator(TRAIT["headers"])
    key = TRAIT["bindings"]["kafka"]["key"]["pattern"]
    for record in told(form, dialect):
        headers = {name: value.decode() for name, value in record.headers}
        described.validate(headers)
        assert headers.keys() == TRAIT["headers"]["properties"].keys()
        assert re.fullmatch(key, record.key.decode())
