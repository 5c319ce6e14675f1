"""The bundled JSON Schemas, and the validators compiled from them.

The schemas are files of the package (`segexport/schemas`), so an installed wheel has them
as a checkout does. Two libraries read them: jsonschema-rs decides, because it takes about a
microsecond, and jsonschema explains. Neither asserts formats, which the two do not agree
on; what the contracts demand of timestamps is checked in `segexport.events.contract`.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

import jsonschema
import jsonschema_rs
from referencing import Registry
from referencing.jsonschema import DRAFT6, EMPTY_REGISTRY, Schema

SERVICE_EVENT: Final = "service-event"
"""Name of the schema that puts the XDM field groups of one record together."""
EMITTED: Final = "emitted"
"""Name of the schema of what segexport emits; those of earlier versions have a number."""

EACH: Final = "*"
"""In a tree of properties: each entry of a list, or each value of a map whose keys are data."""

_SUFFIX = ".schema.json"


@cache
def schemas() -> Mapping[str, Mapping[str, Any]]:
    """All bundled schemas by name, which is the file's name without `.schema.json`."""
    folder = files("segexport").joinpath("schemas")
    found = sorted(file.name for file in folder.iterdir() if file.name.endswith(_SUFFIX))
    return MappingProxyType(
        {
            name.removesuffix(_SUFFIX): json.loads(folder.joinpath(name).read_bytes())
            for name in found
        }
    )


def find(name: str) -> str | None:
    """The name of a schema, from its name or its `$id`, with or without a slash at the end."""
    wanted = name.rstrip("/")
    for known, schema in schemas().items():
        if wanted in (known, schema["$id"].rstrip("/")):
            return known
    return None


def pointer(name: str, definition: str | None = None) -> str:
    """The reference to a schema, or to one of its definitions."""
    base = str(schemas()[name]["$id"])
    return base if definition is None else f"{base}#/definitions/{definition}"


def title(name: str, definition: str | None = None) -> str:
    """What a schema, or one of its definitions, calls itself."""
    found = schemas()[name] if definition is None else schemas()[name]["definitions"][definition]
    return str(found["title"])


@cache
def fast(name: str, definition: str | None = None) -> jsonschema_rs.Validator:
    """The compiled validator that decides."""
    return jsonschema_rs.Draft6Validator(
        {"$ref": pointer(name, definition)},
        registry=_fast_registry(),
        validate_formats=False,
        offline=True,
    )


@cache
def reference(name: str, definition: str | None = None) -> jsonschema.Draft6Validator:
    """The reference validator, whose errors say what is wrong where."""
    return jsonschema.Draft6Validator(
        {"$ref": pointer(name, definition)}, registry=_reference_registry()
    )


@cache
def _fast_registry() -> jsonschema_rs.Registry:
    return jsonschema_rs.Registry(
        [(schema["$id"], dict(schema)) for schema in schemas().values()],
        draft=jsonschema_rs.Draft6,
    )


@cache
def _reference_registry() -> Registry[Schema]:
    return EMPTY_REGISTRY.with_resources(
        (schema["$id"], DRAFT6.create_resource(schema)) for schema in schemas().values()
    )


def resolve(reference: str, inside: str) -> tuple[Any, str]:
    """What a reference means in the schema with the `$id` `inside`, and the `$id` it leads to."""
    identifier, _, path = reference.partition("#")
    identifier = identifier or inside
    part: Any = next(schema for schema in schemas().values() if schema["$id"] == identifier)
    for step in path.split("/")[1:]:
        part = part[step]
    return part, identifier


def properties(name: str) -> Mapping[str, Mapping[str, Any]]:
    """The keys that a schema knows, as a tree, however it nests what it says about them.

    `EACH` stands for all entries of a list or a map.
    The conversion between the forms of keys is read from this tree.
    """
    tree: dict[str, dict[str, Any]] = {}
    _collect(schemas()[name], pointer(name), tree)
    return tree


def _collect(schema: Any, inside: str, tree: dict[str, Any]) -> None:
    if not isinstance(schema, Mapping):
        return
    if "$ref" in schema:
        _collect(*resolve(schema["$ref"], inside), tree)
        return
    for key, below in schema.get("properties", {}).items():
        _collect(below, inside, tree.setdefault(key, {}))
    for keyword in ("items", "additionalProperties"):
        if schema.get(keyword):
            _collect(schema[keyword], inside, tree.setdefault(EACH, {}))
    for keyword in ("allOf", "anyOf", "oneOf"):
        for part in schema.get(keyword, ()):
            _collect(part, inside, tree)
