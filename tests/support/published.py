"""XDM's classes as judges: from the bundle, and from a checkout of adobe/xdm where one is named."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import jsonschema
import jsonschema_rs
from referencing.jsonschema import DRAFT6, EMPTY_REGISTRY

from segexport.events import schema
from segexport.events.vocabulary import ORCHESTRATION, SEGMENT_EXPORT_JOB

VARIABLE: Final = "SEGEXPORT_TEST_XDM"
"""Names the folder of a checkout of https://github.com/adobe/xdm."""

STEP_EVENT: Final = ORCHESTRATION + "stepEvents/journeyStepEvent"
EXPERIENCE_EVENT: Final = "https://ns.adobe.com/xdm/context/experienceevent"
CLASSES: Final = (STEP_EVENT, EXPERIENCE_EVENT, SEGMENT_EXPORT_JOB + "/")
"""The classes that the field group extends, and the field group."""

Files = Mapping[str, Mapping[str, Any]]
"""Schemas by their `$id`."""
Judge = Callable[[Mapping[str, Any], str], bool]
"""Whether a document is valid to the schema of this `$id`."""


def bundled() -> Files:
    """The schemas that the package brings."""
    return {document["$id"]: document for document in schema.schemas().values()}


def published() -> Files | None:
    """Those of the checkout, all components and the extensions for journeys; None without one."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        return None
    roots = (Path(folder, "components"), Path(folder, "extensions/adobe/experience"))
    found = [path for root in roots for path in root.rglob("*.schema.json")]
    assert found, f"{VARIABLE}={folder} holds no schemas"
    documents = [json.loads(path.read_bytes()) for path in found]
    return {document["$id"]: document for document in documents if "$id" in document}


def judges() -> Mapping[str, Judge]:
    """All judges that there are, by what they are called. None asserts formats."""
    found = {"the bundle, by jsonschema": _by_jsonschema(bundled())}
    if files := published():
        found["what is published, by jsonschema"] = _by_jsonschema(files)
        found["what is published, by jsonschema-rs"] = _by_jsonschema_rs(files)
    return found


def _by_jsonschema(files: Files) -> Judge:
    registry = EMPTY_REGISTRY.with_resources(
        (name, DRAFT6.create_resource(document)) for name, document in files.items()
    )
    made = {name: jsonschema.Draft6Validator({"$ref": name}, registry=registry) for name in CLASSES}
    return lambda document, name: made[name].is_valid(document)


def _by_jsonschema_rs(files: Files) -> Judge:
    registry = jsonschema_rs.Registry(
        [(name, dict(files[name])) for name in _closure(files)], draft=jsonschema_rs.Draft6
    )
    made = {
        name: jsonschema_rs.Draft6Validator(
            {"$ref": name}, registry=registry, validate_formats=False, offline=True
        )
        for name in CLASSES
    }
    return lambda document, name: made[name].is_valid(document)


def _closure(files: Files) -> set[str]:
    seen: set[str] = set()
    waiting = list(CLASSES)
    while waiting:
        name = waiting.pop().partition("#")[0]
        if name and name not in seen:
            seen.add(name)
            waiting += _references(files[name])
    return seen


def _references(part: Any) -> Iterable[str]:
    if isinstance(part, Mapping):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for below in part.values():
            yield from _references(below)
    elif isinstance(part, list):
        for below in part:
            yield from _references(below)


def fields(files: Files, name: str) -> Mapping[str, Mapping[str, Any]]:
    """What a schema says about the values of its keys, by path, without its words about them."""
    found: dict[str, Mapping[str, Any]] = {}
    for definition in files[name].get("definitions", {}).values():
        _collect(definition, "", found)
    return found


_ABOUT_VALUES: Final = ("type", "format", "minimum", "maximum", "enum", "const", "$ref", "default")


def _collect(part: Mapping[str, Any], path: str, found: dict[str, Mapping[str, Any]]) -> None:
    for key, below in part.get("properties", {}).items():
        here = f"{path} > {key}"
        found[here] = {word: below[word] for word in _ABOUT_VALUES if word in below}
        _collect(below, here, found)
    for keyword in ("items", "additionalProperties"):
        if isinstance(part.get(keyword), Mapping):
            found[f"{path} > {keyword}"] = {
                word: part[keyword][word] for word in _ABOUT_VALUES if word in part[keyword]
            }
            _collect(part[keyword], f"{path} > {keyword}", found)
