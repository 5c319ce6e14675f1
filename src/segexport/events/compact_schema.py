"""The bundled schemas for documents in compact form, made from those for URI form.

segexport itself converts a compact document and asks the one schema. Whoever reads compact
records with other tools needs a schema that describes them as they are; `ce_dataschema`
names it. It is the same schema with its keys moved to where the compact form has them, and
with every reference resolved, so that it stands alone.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from segexport.events import schema, xdm

_BESIDE: Final = ("$id", "$schema", "definitions", "examples")
"""What a schema says about itself, not about documents."""

_NAMESPACE: Final = "^_(?!id$)"
"""In compact form, names that stand for keys below `https://ns.adobe.com/`."""
_OURS: Final = "urn:segexport:schema:"
"""How the `$id` of each schema of our own begins."""

_Schema = dict[str, Any]


def compact_id(name: str) -> str:
    """The `$id` of the compact form of a bundled schema."""
    identifier = schema.pointer(name)
    return f"{identifier if identifier.startswith(_OURS) else _OURS + name}:compact"


def find_compact(identifier: str) -> str | None:
    """The name of the bundled schema whose compact form has this `$id`."""
    return next((name for name in schema.schemas() if compact_id(name) == identifier), None)


def compact_schema(name: str) -> _Schema:
    """The bundled schema `name` for documents in compact form."""
    source = schema.schemas()[name]
    compact = {
        "$id": compact_id(name),
        "$schema": source["$schema"],
        "title": None,
        **_of_document(source, schema.pointer(name)),
    }
    compact["title"] = f"{source['title']}, in compact form"
    if "examples" in source:
        compact["examples"] = [xdm.to_compact(example) for example in source["examples"]]
    return compact


def _of_document(part: Any, inside: str) -> _Schema:
    """A schema about whole documents, inside the schema of that `$id`: keys move to their homes."""
    part, inside = _resolved(part, inside)
    result: _Schema = {}
    homes = [result]
    for keyword, value in part.items():
        match keyword:
            case "properties":
                homes += _move(value, result, inside)
            case "required":
                for key in value:
                    _require(result, _home(key))
            case "allOf" | "anyOf" | "oneOf" | "not":
                result[keyword] = _in_each(value, lambda inner: _of_document(inner, inside))
            case "patternProperties":
                result[keyword] = {**value, _NAMESPACE: {}}
                _admit(result, _root_names(), value)
            case "additionalProperties":
                pass
            case _:
                result[keyword] = value
    if "additionalProperties" in part:
        for home in homes:
            home["additionalProperties"] = part["additionalProperties"]
    return result


def _move(properties: Mapping[str, Any], result: _Schema, inside: str) -> list[_Schema]:
    """Put properties where the compact form has them; the objects made on the way."""
    made = []
    for key, value in properties.items():
        *parents, leaf = _home(key)
        home = result
        for step in parents:
            home = _child(home, step)
            made.append(home)
        field = xdm.table().get(key)
        names, depth = (field.short, field.depth) if field else ({}, 0)
        home.setdefault("properties", {})[leaf] = _of_value(value, names, depth, inside)
    return made


def _require(home: _Schema, path: list[str]) -> None:
    for place, step in enumerate(path, 1):
        required = home.setdefault("required", [])
        if step not in required:
            required.append(step)
        if place < len(path):
            home = _child(home, step)


def _home(key: str) -> list[str]:
    return [str(step) for step in xdm.compact_path((key,))]


def _child(home: _Schema, step: str) -> _Schema:
    child: _Schema = home.setdefault("properties", {}).setdefault(step, {"type": "object"})
    return child


def _renamed(about: Mapping[str, Any], names: Mapping[str, str]) -> _Schema:
    return {names.get(key, key): value for key, value in about.items()}


def _admit(result: _Schema, names: Mapping[str, str], patterns: Iterable[str]) -> None:
    """Name those short names whose keys match a pattern: the names themselves match none."""
    for key, short in names.items():
        if any(re.search(pattern, key) for pattern in patterns):
            result.setdefault("properties", {}).setdefault(short, {})


def _root_names() -> Mapping[str, str]:
    """The short names at the root, by their keys, without those that `_NAMESPACE` admits."""
    roots = {field.uri: field.compact[0] for field in xdm.table().values()}
    return {key: name for key, name in roots.items() if not re.search(_NAMESPACE, name)}


def _of_value(part: Any, names: Mapping[str, str], depth: int, inside: str) -> Any:
    """A schema about a field's value: the keys `depth` maps and lists below get short names."""
    part, inside = _resolved(part, inside)
    if not isinstance(part, Mapping):
        return part
    here = {} if depth else names
    result: _Schema = {}
    for keyword, value in part.items():
        match keyword:
            case "properties":
                about = {key: _of_value(below, {}, 0, inside) for key, below in value.items()}
                result.setdefault(keyword, {}).update(_renamed(about, here))
            case "required":
                result[keyword] = list(_renamed(dict.fromkeys(value), here))
            case "patternProperties":
                result[keyword] = value
                _admit(result, here, value)
            case "allOf" | "anyOf" | "oneOf" | "not":
                result[keyword] = _in_each(
                    value, lambda inner: _of_value(inner, names, depth, inside)
                )
            case "items" | "additionalProperties":
                below = (names, depth - 1) if depth else ({}, 0)
                result[keyword] = _of_value(value, *below, inside)
            case _:
                result[keyword] = value
    return result


def _in_each(value: Any, change: Callable[[Any], Any]) -> Any:
    """The one schema, or all of a list, changed."""
    return [change(inner) for inner in value] if isinstance(value, list) else change(value)


def _resolved(part: Any, inside: str) -> tuple[Any, str]:
    """What a reference leads to, without what it says about itself."""
    while isinstance(part, Mapping) and "$ref" in part:
        part, inside = schema.resolve(part["$ref"], inside)
    if isinstance(part, Mapping):
        part = {key: value for key, value in part.items() if key not in _BESIDE}
    return part, inside
