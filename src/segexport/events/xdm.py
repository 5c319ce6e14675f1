"""The two forms of a document's keys, and the way from one to the other.

URI form is what XDM schemas describe: every key is a URI or a prefixed name. Compact form
is what tables and queries use: short names, nested.

    https://ns.adobe.com/experience/journeyOrchestration/journey       URI form
      https://ns.adobe.com/experience/journeyOrchestration/versionID
    _experience.journeyOrchestration.journey.versionID                 compact form

An inner key keeps only its last segment, and objects differ in the URI in front of it. So
the way back cannot be computed from the name: both ways go by a table that is read from
the schemas' properties. Keys that the schemas do not know stay as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from segexport.errors import InvalidEvent
from segexport.events.schema import EACH, properties
from segexport.events.versions import CURRENT, VERSIONS, Version
from segexport.events.vocabulary import SEGMENT_EXPORT_JOB, Form

Document = Mapping[str, Any]
"""A JSON object as a parser makes it: a dict, to be looked at and not changed."""
Path = tuple[str | int, ...]
"""Keys and indexes from the document's root."""

_NAMESPACE: Final = "https://ns.adobe.com/"


@dataclass(frozen=True, slots=True)
class Field:
    """A top-level key of the URI form, where its value stands in the compact form, and the
    names of the keys inside it, each way. `version` is that of a key of our own, else None.

    The keys are those of the value, or with a `depth` those of what lies that many maps and
    lists below it."""

    uri: str
    compact: tuple[str, ...]
    short: Mapping[str, str]
    long: Mapping[str, str]
    version: Version | None = None
    depth: int = 0


@cache
def table() -> Mapping[str, Field]:
    """The fields that the schemas know, by their URI-form key, in all versions."""
    fields = {}
    for version in VERSIONS.values():
        for uri, tree in properties(version.schema).items():
            inner, depth = tree, 0
            while EACH in inner:
                inner, depth = inner[EACH], depth + 1
            short = {key: name for key in inner if (name := _short(key)) != key}
            long = {name: key for key, name in short.items()}
            ours = uri.startswith(version.own)
            home = ("_segexport", uri.removeprefix(version.own)) if ours else _home(uri)
            fields[uri] = Field(uri, home, short, long, version if ours else None, depth)
    return fields


def _short(key: str) -> str:
    return key.removeprefix("xdm:").rpartition("/")[2]


def _home(uri: str) -> tuple[str, ...]:
    if uri.startswith("@"):
        return ("_" + uri[1:],)
    if uri.startswith(_NAMESPACE):
        first, *rest = uri.removeprefix(_NAMESPACE).split("/")
        return ("_" + first, *rest)
    return (uri.removeprefix("xdm:"),)


@cache
def _tries() -> Mapping[int, Mapping[str, Any]]:
    """For each version, its fields by the steps of their compact path."""
    return {number: _trie(version) for number, version in VERSIONS.items()}


def _trie(version: Version) -> Mapping[str, Any]:
    root: dict[str, Any] = {}
    for field in table().values():
        if field.version in (None, version):
            *parents, leaf = field.compact
            branch = root
            for parent in parents:
                branch = branch.setdefault(parent, {})
            branch[leaf] = field
    return root


def form_of(document: Document) -> Form | None:
    """The form in which a document holds a `segmentExportJob`; None if it holds none.

    Raises `InvalidEvent` for a document that holds one in each form.
    """
    uri = SEGMENT_EXPORT_JOB in document
    if _has(document, table()[SEGMENT_EXPORT_JOB].compact):
        if uri:
            raise InvalidEvent(
                "the document holds a segmentExportJob in URI form and one in compact form; "
                "keep one of them"
            )
        return Form.COMPACT
    return Form.URI if uri else None


def _has(document: Any, path: Sequence[str]) -> bool:
    for step in path:
        if not isinstance(document, dict) or step not in document:
            return False
        document = document[step]
    return True


def to_compact(document: Document) -> dict[str, Any]:
    """The compact form of a document in URI form, with keys of our own of one version.

    Raises `InvalidEvent` where a key of the compact form is in the way, or of another version.
    """
    fields = table()
    result = {key: value for key, value in document.items() if key not in fields}
    ours: Field | None = None
    for key, value in document.items():
        if key in fields:
            field = fields[key]
            if field.version is not None:
                if ours is not None and ours.version is not field.version:
                    raise InvalidEvent(
                        f"{ours.uri!r} and {key!r} are keys of two versions of the contract; "
                        "keep those of one"
                    )
                ours = field
            _put(result, field.compact, _renamed(value, field.short, field.depth), key)
    return result


def to_uri(document: Document, version: Version = CURRENT) -> dict[str, Any]:
    """The URI form of a document in compact form, with keys of our own of this version.

    Raises `InvalidEvent` where a key of the URI form is in the way.
    """
    result: dict[str, Any] = {}
    for key, value in _lift(document, _tries()[version.number], result).items():
        _put(result, (key,), value, key)
    return result


def compact_path(path: Sequence[str | int]) -> tuple[str | int, ...]:
    """Where the value at a path of the URI form stands in the compact form."""
    if not path or (field := table().get(str(path[0]))) is None:
        return tuple(path)
    inner = list(path[1:])
    for step in inner[field.depth : field.depth + 1]:
        inner[field.depth] = field.short.get(str(step), step)
    return (*field.compact, *inner)


def without_namespaces(document: Document) -> Document:
    """What `to_uri` has made, without the compact names that it does not know and left.

    A name with a `_` in front, such as a tenant's, stands for keys below
    `https://ns.adobe.com/`: how they are cut is said by schemas that are not here.
    """
    if any(key.startswith("_") for key in document):
        return {key: value for key, value in document.items() if not key.startswith("_")}
    return document


def without_own_keys(document: Document, version: Version) -> Document:
    """A document in URI form without our own keys of a version, of which XDM knows nothing."""
    own = _own_keys()[version]
    return {key: value for key, value in document.items() if key not in own}


def version_of(document: Document) -> Version | None:
    """The version whose keys of our own a document in URI form has; None if it has none.

    Of a document that mixes them, the latest: to it, the keys of the others are unknown.
    """
    for version, keys in _own_keys().items():
        if not keys.isdisjoint(document):
            return version
    return None


@cache
def _own_keys() -> Mapping[Version, frozenset[str]]:
    """The keys of our own in each version, the latest first."""
    return {
        version: frozenset(uri for uri, field in table().items() if field.version is version)
        for version in reversed(tuple(VERSIONS.values()))
    }


def _lift(document: Document, trie: Mapping[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """Move the fields of the trie into `result`; returns what is left."""
    rest: dict[str, Any] = {}
    for key, value in document.items():
        branch = trie.get(key)
        if isinstance(branch, Field):
            _put(result, (branch.uri,), _renamed(value, branch.long, branch.depth), key)
        elif branch is not None and isinstance(value, dict) and value:
            if left := _lift(value, branch, result):
                rest[key] = left
        else:
            rest[key] = value
    return rest


def _renamed(value: Any, names: Mapping[str, str], depth: int = 0) -> Any:
    if names and depth:
        if isinstance(value, dict):
            return {key: _renamed(below, names, depth - 1) for key, below in value.items()}
        if isinstance(value, list):
            return [_renamed(below, names, depth - 1) for below in value]
    if not names or not isinstance(value, dict):
        return value
    renamed = {names.get(key, key): inner for key, inner in value.items()}
    if len(renamed) < len(value):
        both = next(key for key in value if key in names and names[key] in value)
        raise InvalidEvent(f"{both!r} and {names[both]!r} are the same key in two forms; keep one")
    return renamed


def _put(target: dict[str, Any], path: Sequence[str], value: Any, key: str) -> None:
    """Set a value at a path. Objects on the way are copied: they may belong to the caller."""
    *parents, leaf = path
    for step in parents:
        below = target.get(step, {})
        if not isinstance(below, dict):
            raise _in_the_way(key, step)
        target[step] = below = dict(below)
        target = below
    if leaf in target:
        raise _in_the_way(key, leaf)
    target[leaf] = value


def _in_the_way(key: str, step: str) -> InvalidEvent:
    return InvalidEvent(
        f"{key!r} cannot be converted: {step!r} already stands in its place; "
        "write the document in one form only"
    )
