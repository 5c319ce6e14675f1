"""Keys of both forms in one document.

A validator of either form takes a key of the other one for an unknown key and passes whatever
stands there, so a typing slip would go unnoticed.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from types import MappingProxyType
from typing import Any, Final

from segexport.events.explain import Finding
from segexport.events.vocabulary import Form
from segexport.events.xdm import Document, Path, table

_OWNED: Final = ("https://", "urn:")
_CONTAINERS: Final = (dict, list)
_MIXED: Final = MappingProxyType(
    {
        Form.URI: "is written in compact form, which nobody reads in a document in URI form",
        Form.COMPACT: "is written in URI form, which nobody reads in a document in compact form",
    }
)

_Ways = Mapping[str, "_Ways | None"]
"""Steps from an object to known keys of the compact form; None where a step is such a key."""
_WaysOn = Mapping[str, "_WaysOn"]
"""Those of these steps that lead on, each with the next ones."""


def mixture(document: Document, form: Form) -> Iterator[Finding]:
    """All that nobody reads in a document of this form, because it is not written in it."""
    for path in mixed_keys(document, form):
        yield Finding(path, "form", None, _MIXED[form])
    if form is Form.COMPACT:
        for path in blocked_ways(document):
            yield Finding(path, "type", None, "must be an object, and what it is nobody reads")


def mixed_keys(document: Document, form: Form) -> Iterator[Path]:
    """Paths of known keys that are written in the other form than the document's, at any level.

    Names that anybody may use (`timestamp`, `ID`) are the other form's only where that form has
    them: at the root, and in the known objects. Of a way such as `_experience.journeyOrchestration`
    that leads nowhere, because no object is there, the last part is named.
    """
    other = _other_form(form)
    if not _has_any(document, other.all):
        return
    waiting: list[tuple[Path, Any, int, frozenset[str]]] = [((), document, 0, other.at_root)]
    while waiting:
        path, part, depth, names = waiting.pop()
        mixed: Collection[str] = ()
        if isinstance(part, dict):
            strange = names if depth == 0 else other.anywhere
            if not strange.isdisjoint(part):
                mixed = [key for key in part if key in strange]
                yield from ((*path, key) for key in mixed)
            ways = other.nested_ways if path else other.ways
            if not ways.keys().isdisjoint(part):
                yield from _compact_keys(part, path, ways)
            steps: Iterable[tuple[str | int, Any]] = part.items()
        else:
            steps = enumerate(part)
        for step, value in steps:
            if isinstance(value, _CONTAINERS) and step not in mixed:
                below = (*path, step)
                waiting.append((below, value, *other.inside.get(below, (depth - 1, names))))


def _has_any(part: Any, keys: frozenset[str]) -> bool:
    """Whether one of the keys is anywhere in a document: nearly all have none, and are done."""
    waiting = [part]
    for each in waiting:  # which grows meanwhile
        values = each
        if isinstance(each, dict):
            if not keys.isdisjoint(each):
                return True
            values = each.values()
        waiting += [value for value in values if isinstance(value, _CONTAINERS)]
    return False


def _compact_keys(part: Document, path: Path, ways: _Ways) -> Iterator[Path]:
    for key, below in ways.items():
        if key in part:
            value = part[key]
            if below is None or not isinstance(value, dict):
                yield (*path, key)
            else:
                yield from _compact_keys(value, (*path, key), below)


def blocked_ways(document: Document) -> Iterator[Path]:
    """Paths of a document in compact form that lead to known keys, but end in no object.

    Its conversion leaves them as they are, and the schema takes them for unknown keys.
    """
    yield from _blocked(document, _ways_on(), ())


def _blocked(part: Document, ways: _WaysOn, path: Path) -> Iterator[Path]:
    for key, below in ways.items():
        if key in part:
            if not isinstance(part[key], dict):
                yield (*path, key)
            elif below:
                yield from _blocked(part[key], below, (*path, key))


@dataclass(frozen=True)
class _OtherForm:
    """What is looked for in a document of one form: keys that only the other one has.

    `inside` tells, for the path of each value with known keys, how many maps and lists the objects
    that have these lie below it, and which keys would be wrong there. `all` has every key that
    may be wrong somewhere.
    """

    at_root: frozenset[str]
    anywhere: frozenset[str]
    inside: Mapping[Path, tuple[int, frozenset[str]]]
    ways: _Ways
    nested_ways: _Ways

    @cached_property
    def all(self) -> frozenset[str]:
        inside = (names for _, names in self.inside.values())
        return self.at_root.union(self.anywhere, self.ways, *inside)


@lru_cache(maxsize=len(Form))
def _other_form(form: Form) -> _OtherForm:
    if form is Form.URI:
        inside: dict[Path, tuple[int, frozenset[str]]] = {
            (it.uri,): (it.depth, frozenset(it.long.keys() - it.short.keys()))
            for it in table().values()
        }
        ways = _ways()
        nested = {key: below for key, below in ways.items() if below is not None}
        return _OtherForm(frozenset(), frozenset(), inside, ways, nested)
    keys = {key for field in table().values() for key in (field.uri, *field.short)}
    anywhere = frozenset(key for key in keys if key.startswith(_OWNED))
    inside = {
        it.compact: (it.depth, anywhere | (it.short.keys() - it.long.keys()))
        for it in table().values()
    }
    return _OtherForm(anywhere | table().keys(), anywhere, inside, {}, {})


@cache
def _ways() -> _Ways:
    root: dict[str, Any] = {}
    for field in table().values():
        *parents, leaf = field.compact
        branch = root
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[leaf] = None
    return root


@cache
def _ways_on() -> _WaysOn:
    return _leading_on(_ways())


def _leading_on(ways: _Ways) -> _WaysOn:
    return {key: _leading_on(below) for key, below in ways.items() if below is not None}
