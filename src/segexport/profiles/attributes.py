"""The attributes of a snapshot as a tree of types: found in documents, joined, flattened.

A branch is an object, a leaf a DuckDB type. Only leaves become columns, named by their
dotted path. What has no single type becomes a leaf of type JSON: objects and plain values
under one name, arrays of anything but one plain type, and objects that are really maps
(more than `MAX_NAMES` names, or names that cannot be part of a path).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from segexport.errors import ProfileStoreError
from segexport.profiles.numbers import decimal_json, marked, plain, unmarked
from segexport.profiles.rules import MAX_DEPTH
from segexport.profiles.snapshots import Attribute
from segexport.sql import identifier, literal

MAX_NAMES: Final = 256
"""Names in one object; one with more is a map."""
NAME: Final = r"[^.,\x00-\x1f\x7f]{1,128}"
"""What a name must be to stand in a path: no dot, comma or control character (RE2 and Python)."""

Tree = dict[str, "Tree | str"]
"""Names to DuckDB types (`BIGINT`, `VARCHAR[]`, …) or to the tree of an object."""

_JSON: Final = "JSON"
EMPTY_ARRAY: Final = "NULL[]"
"""The type of arrays that have no element but null: a column has it only until all is known."""
DECIMAL: Final = "DECIMAL(38,"
"""What begins the type of numbers of which a double would lose digits; then come the digits
behind the point, and a parenthesis."""
NUMBERS: Final = ("BIGINT", "DOUBLE", DECIMAL)
"""What begins the types of numbers, each of which can hold what the ones before it can."""

_EMPTY_MEMBER: Final = (
    r'([^\\](?:\\\\)*)":\{\}'  # within a string, the quote has a backslash of its own
)
_PLAIN: Final = {
    "BOOLEAN": "BOOLEAN",
    "BIGINT": "BIGINT",
    # Integers beyond 63 bits are marked when a fragment is checked, and so none of these.
    "UBIGINT": "BIGINT",
    "HUGEINT": "BIGINT",
    "DOUBLE": "DOUBLE",
    "VARCHAR": "VARCHAR",
}


def found_by(documents: str) -> str:
    """The SQL aggregate that finds the structure of the JSON `documents`, for `found_in`.

    It keeps every document in memory until it ends: to be used on some thousands at a time.
    DuckDB calls a member JSON for good that is an empty object, or one of nulls beside another
    value, though these say as little as null does. The documents are without white space.
    """
    merged = f"json_merge_patch('{{}}', {documents})::VARCHAR"  # has no member that is null
    nulled = f"regexp_replace(one, {literal(_EMPTY_MEMBER)}, '\\1\":null', 'g')"
    without = f"""list_reduce(list_prepend({merged}, repeat([''], {MAX_DEPTH})), lambda one, _:
        CASE WHEN contains(one, ':{{}}') THEN json_merge_patch('{{}}', {nulled})::VARCHAR
             ELSE one END)"""
    return f"""json_group_structure((
        CASE WHEN contains({documents}, ':{{}}') THEN {without}
             WHEN contains({documents}, ':null') THEN
               CASE WHEN contains({merged}, ':{{}}') THEN {without} ELSE {merged} END
             ELSE {documents} END)::JSON)"""


def found_in(structure: str | None) -> Tree:
    """The tree of what `found_by` found; names that were only ever null are left out."""
    names = orjson.loads(structure) if structure else {}
    if not isinstance(names, dict):  # all documents were empty
        return {}
    kinds = {name: _kind(shape) for name, shape in names.items()}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def tree_of(attributes: Sequence[Attribute]) -> Tree:
    """The tree that `attributes` are the leaves of."""
    tree: Tree = {}
    for attribute in attributes:
        *branches, leaf = attribute.path.split(".")
        branch = tree
        for name in branches:
            inner = branch.setdefault(name, {})
            assert isinstance(inner, dict)  # noqa: S101  (no path of a snapshot leads through a leaf)
            branch = inner
        branch[leaf] = attribute.type
    return tree


def join(one: Tree, other: Tree) -> Tree:
    """The tree that fits what fits either. Commutative, associative, and idempotent."""
    return {
        **one,
        **other,
        **{name: _joined(one[name], other[name]) for name in one.keys() & other.keys()},
    }


def flatten(tree: Tree) -> Sequence[Attribute]:
    """The leaves, sorted by path. Arrays that were only ever empty stay `EMPTY_ARRAY`.

    Raises `ProfileStoreError` if two names at the top differ only in case: nothing above
    them could be a map, and both cannot be columns.
    """
    seen: dict[str, str] = {}
    for name in tree:
        twin = seen.setdefault(name.lower(), name)
        if twin != name:
            raise ProfileStoreError(
                f"the attributes {twin!r} and {name!r} differ only in case and cannot both be "
                "columns; rename one of them in the fragments"
            )
    return tuple(Attribute(path, kind) for path, kind in sorted(leaves(tree)))


def scale_of(kind: str) -> int:
    """The digits behind the point of a DECIMAL type, or of lists of it."""
    return int(kind.removeprefix(DECIMAL).partition(")")[0])


def structure(attributes: Sequence[Attribute]) -> str:
    """The structure that DuckDB's `from_json` reads a document with, as a JSON text."""

    def shape(kind: Tree | str) -> Any:
        if isinstance(kind, dict):
            return {name: shape(inner) for name, inner in kind.items()}
        element = "VARCHAR" if kind.startswith(DECIMAL) else kind.removesuffix("[]")
        return [element] if kind.endswith("[]") else element

    return orjson.dumps(shape(tree_of(attributes))).decode()


def pointer(path: str) -> str:
    """The JSON pointer of an attribute."""
    steps = (step.replace("~", "~0").replace("/", "~1") for step in path.split("."))
    return "".join(f"/{step}" for step in steps)


def column_in_document(attribute: Attribute, document: str, text: str) -> str:
    """SQL for the attribute in the struct `document` that `from_json` made with `structure`.

    `text` is the JSON that it was made of.
    """
    column = ".".join((document, *map(identifier, attribute.path.split("."))))
    match attribute.type:
        case "JSON":
            return plain(column)
        case "VARCHAR":
            # An object that says nothing would come as its text.
            is_object = f"json_type({text}, {literal(pointer(attribute.path))}) = 'OBJECT'"
            return (
                f"CASE WHEN starts_with({column}, '{{') AND {is_object} THEN NULL ELSE {column} END"
            )
        case kind if not kind.startswith(DECIMAL):
            return column
        case kind if kind.endswith("[]"):
            numbers = f"list_transform({column}, lambda number: {unmarked('number')})"
            return f"{numbers}::{kind}"
        case kind:
            return f"CASE WHEN NOT starts_with({column}, '{{') THEN {unmarked(column)}::{kind} END"


def column_in_base(attribute: Attribute, base: Sequence[Attribute]) -> str:
    """SQL that reads the attribute from the columns of an older snapshot."""
    kinds = {old.path: old.type for old in base}
    kind = kinds.get(attribute.path)
    if kind == attribute.type:
        return identifier(attribute.path)
    column = identifier(attribute.path)
    if kind is not None and attribute.type == _JSON:
        return plain(_json(column, kind))
    if kind is not None:
        # By its text: as a number, a double has other digits than it is written with.
        text = "VARCHAR[]" if kind.endswith("[]") else "VARCHAR"
        return f"{column}::{text}::{attribute.type}"
    inside = [old for old in base if old.path.startswith(f"{attribute.path}.")]
    if not inside:
        return f"NULL::{attribute.type}"
    # What was an object with columns of its own has become one JSON column.
    branch: Tree | str = tree_of(inside)
    for name in attribute.path.split("."):
        assert isinstance(branch, dict)  # noqa: S101  (`inside` lies below the path)
        branch = branch[name]
    assert isinstance(branch, dict)  # noqa: S101  (as above)
    return plain(_object(branch, attribute.path))


def _kind(shape: Any) -> Tree | str | None:
    match shape:
        case dict():
            kinds = {name: _kind(inner) for name, inner in shape.items()}
            return _branch({name: kind for name, kind in kinds.items() if kind is not None})
        case [str(element)]:
            if element == "NULL":
                return EMPTY_ARRAY
            return f"{_PLAIN[element]}[]" if element in _PLAIN else _JSON
        case "NULL":
            return None
        case str():
            return _PLAIN.get(shape, _JSON)
        case _:
            return _JSON


def _branch(tree: Tree) -> Tree | str:
    names = list(tree)
    is_map = (
        len(names) > MAX_NAMES
        or len({name.lower() for name in names}) < len(names)
        or not all(re.fullmatch(NAME, name) for name in names)
    )
    return _JSON if is_map else tree


def _joined(one: Tree | str, other: Tree | str) -> Tree | str:
    if one == other:
        return one
    match one, other:
        case dict(), dict():
            return _branch(join(one, other))
        case (str(known), "NULL[]") | ("NULL[]", str(known)) if known.endswith("[]"):
            return known
        case (str(known), dict(nothing)) | (dict(nothing), str(known)) if not nothing:
            return known
        case str(), str() if one.endswith("[]") == other.endswith("[]"):
            ranks = {_rank(one): one, _rank(other): other}
            return _JSON if None in ranks else ranks[max(rank for rank in ranks if rank)]
        case _:
            return _JSON


def _rank(kind: str) -> tuple[int, int] | None:
    """How much a type of numbers can hold, to be compared with others; None of other types."""
    for rank, beginning in enumerate(NUMBERS):
        if kind.startswith(beginning):
            return rank, scale_of(kind) if beginning == DECIMAL else 0
    return None


def leaves(tree: Tree, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of a tree, each with its path behind the prefix."""
    for name, kind in tree.items():
        if isinstance(kind, dict):
            yield from leaves(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, kind


def _json(column: str, kind: str) -> str:
    """SQL for a column of this type as marked JSON."""
    if kind.startswith(DECIMAL):
        return decimal_json(column, kind)
    return f"{marked(column, is_stored=True)}::JSON" if kind == _JSON else f"to_json({column})"


def _object(branch: Mapping[str, Tree | str], path: str) -> str:
    """SQL that puts columns together again as a JSON object; NULL where all of them are."""
    columns = [identifier(leaf) for leaf, _ in leaves(dict(branch), f"{path}.")]
    members = ", ".join(
        f"{literal(name)}, "
        + (
            _object(kind, f"{path}.{name}")
            if isinstance(kind, dict)
            else _json(identifier(f"{path}.{name}"), kind)
        )
        for name, kind in branch.items()
    )
    return (
        f"CASE WHEN {' OR '.join(f'{column} IS NOT NULL' for column in columns)} "
        f"THEN json_merge_patch('{{}}', json_object({members})) END"
    )
