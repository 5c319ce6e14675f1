"""The columns of an export: attributes by their dotted paths, and what stands beside them."""

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType
from typing import Final, TypeAlias

from segexport.profiles.snapshots import Attribute

PERSON_ID: Final = "person_id"
"""The store's id of the person, the first column of every batch: that of the discard events."""
IDENTITY_MAP: Final = "identityMap"
"""The identities of a profile by namespace, as XDM keeps them."""
IDENTITIES: Final = "identities"
"""The same identities as a flat list, resolved through the identity map."""
IDENTITY_PARTS: Final = ("id", "namespace")
"""What can be asked of an identity in the flat list, in the order of its columns."""
SEGMENT_MEMBERSHIP: Final = "segmentMembership"
"""The profile's standing in every segment, exported whole."""
EVENT_LIST: Final = "eventList"
"""The events of a profile."""

BESIDE: Final = frozenset(
    {IDENTITY_MAP, SEGMENT_MEMBERSHIP, IDENTITIES, *(f"{IDENTITIES}.{p}" for p in IDENTITY_PARTS)}
)
"""The paths that a request can ask for and that are no attributes."""

NOT_A_FIELD: Mapping[str, str] = MappingProxyType(
    {
        PERSON_ID: "it is the first column of every batch; leave it out",
        EVENT_LIST: "ask for events with additionalFields.eventList",
    }
)
"""Columns that are not asked for in `fields`, and what to do instead."""

PLAIN_EVENT: Final = (Attribute("_id", "VARCHAR"), Attribute("timestamp", "VARCHAR"))
"""What the events of a store have in any case, even of one that has no event."""

Tree: TypeAlias = Mapping[str, "Attribute | Tree"]
"""Attributes as they nest: `person.name.lastName` is at ["person"]["name"]["lastName"]."""


def chosen(paths: Sequence[str], attributes: Sequence[Attribute]) -> tuple[Attribute, ...]:
    """The attributes that these paths are or begin; all of them without a path."""
    asked = set(paths)
    return tuple(
        attribute
        for attribute in attributes
        if not asked or not asked.isdisjoint(_beginnings(attribute.path))
    )


def beside(paths: Sequence[str]) -> frozenset[str]:
    """The columns that an export of these paths has beside attributes, events aside."""
    asked = {path.partition(".")[0] for path in paths} if paths else {IDENTITY_MAP}
    return frozenset({PERSON_ID, *(asked & {IDENTITY_MAP, IDENTITIES, SEGMENT_MEMBERSHIP})})


def unknown(
    paths: Sequence[str], attributes: Sequence[Attribute], others: Collection[str]
) -> Iterator[tuple[str, str]]:
    """The paths that are neither an attribute, nor begin one, nor are among `others`.

    Each with a hint at what may be meant.
    """
    leaves = [attribute.path for attribute in attributes]
    known = {path for leaf in leaves for path in _beginnings(leaf)}
    for path in paths:
        if path not in others and path not in known:
            hint = (
                NOT_A_FIELD.get(path)
                or _whole(path, attributes)
                or like(path, [*leaves, *sorted(others)])
            )
            yield path, hint or "give the dotted path of an attribute"


def _whole(path: str, attributes: Sequence[Attribute]) -> str | None:
    """A hint at the attribute of type JSON that a path leads into."""
    for attribute in attributes:
        if attribute.type == "JSON" and path.startswith(f"{attribute.path}."):
            return f"{attribute.path!r} is one value, a map or of mixed types: ask for it whole"
    return None


def like(name: str, known: Sequence[str]) -> str | None:
    """A question whether one of the known names was meant, if any is close."""
    close = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else None


def clashes(attributes: Sequence[Attribute], others: Collection[str]) -> Iterator[str]:
    """Attributes that cannot lie in one table: names there are compared without case."""
    spelled = {name.lower(): name for name in others}
    leaves = {attribute.path.lower(): attribute.path for attribute in attributes}
    for attribute in attributes:
        steps = attribute.path.split(".")
        for length in range(1, len(steps) + 1):
            path = ".".join(steps[:length])
            other = spelled.setdefault(path.lower(), path)
            if path in others:
                yield f"{path!r} is an attribute as well as the profile's own; it cannot be both"
            elif other != path:
                yield f"{other!r} and {path!r} differ only in case; ask for one of them"
            elif length < len(steps) and path.lower() in leaves:
                yield f"{path!r} has a value of its own and {attribute.path!r} lies below it"


def tree(attributes: Sequence[Attribute]) -> Tree:
    """The attributes as they nest; they must not clash."""
    root: dict[str, Attribute | Tree] = {}
    for attribute in attributes:
        *parents, leaf = attribute.path.split(".")
        node = root
        for parent in parents:
            below = node.setdefault(parent, {})
            assert isinstance(below, dict)  # noqa: S101  (a check of the request refuses clashes)
            node = below
        node[leaf] = attribute
    return root


def _beginnings(leaf: str) -> Iterator[str]:
    """`a`, `a.b` and `a.b.c` of `a.b.c`."""
    return accumulate(leaf.split("."), "{}.{}".format)
