"""Names that a JSON text has twice in one object."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segexport.events.parsing import MAX_REPEATED, parse

NAMES = st.sampled_from(["a", "b", ":", "a:b", "\\u003a", "é", '"', "\\"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | NAMES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(st.tuples(NAMES, inner), max_size=3).map(tuple)
    ),
    max_leaves=12,
)
"""JSON values; objects are tuples of pairs, in which a name may be twice."""


def written(value: Any, *, spaced: bool, ascii_only: bool) -> str:
    """A value as JSON, with all the pairs of its objects."""
    how = {"spaced": spaced, "ascii_only": ascii_only}
    if isinstance(value, tuple):
        pairs = (f"{written(name, **how)}:{written(it, **how)}" for name, it in value)
        return "{" + (" , " if spaced else ",").join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(written(it, **how) for it in value) + "]"
    return json.dumps(value, ensure_ascii=ascii_only)


def repeats(value: Any) -> bool:
    """Whether a name is twice in an object, at any depth."""
    if isinstance(value, tuple):
        names = [name for name, _ in value]
        return len(set(names)) < len(names) or any(repeats(it) for _, it in value)
    return isinstance(value, list) and any(map(repeats, value))


@given(VALUES, st.booleans(), st.booleans())
def test_a_name_that_is_there_twice_is_found_at_any_depth_and_in_any_spelling(
    value: Any, spaced: bool, ascii_only: bool
) -> None:
    text = written(value, spaced=spaced, ascii_only=ascii_only).encode()
    for spelled in (text, text.replace(b":", b" : ")):
        parsed = parse(spelled)
        assert parsed.document == orjson.loads(spelled)
        assert bool(parsed.repeated) is repeats(json.loads(spelled, object_pairs_hook=tuple))


@pytest.mark.parametrize(
    ("text", "repeated"),
    [
        ('{"a": 1, "b": 2, "a": 3}', [("a",)]),
        ('{"a": [{"b": 1}, {"b": {"c": 1, "c": 1}}]}', [("a", 1, "b", "c")]),
        ('[{"a": 1, "a": 1}, {"b": 1, "b": 1}]', [(0, "a"), (1, "b")]),
        ('{"a": {"x": 1, "x": 2}, "a": 3}', [("a",), ("a", "x")]),
        ('{"\\u0061": 1, "a": 2}', [("a",)]),
        ('{"a": "\\u003a", "b": 1, "b": 2}', [("b",)]),
        ('{"a": "\\u003A:", "b": 1}', []),
        ('"\\u003a"', []),
    ],
)
def test_the_place_of_each_is_told(text: str, repeated: list[tuple[str | int, ...]]) -> None:
    assert list(parse(text.encode()).repeated) == repeated


def test_of_many_no_more_than_some_are_told() -> None:
    text = "[" + ",".join(['{"a": 1, "a": 2}'] * 1000) + "]"
    assert len(parse(text.encode()).repeated) == MAX_REPEATED


@pytest.mark.parametrize("depth", [10, 300, 1000, 1020])
def test_how_deep_does_not_matter(depth: int) -> None:
    nest = "[" * depth + r'{"a": ":", "": "\\", "x:\"": "y:\"z", %s: 2}' + "]" * depth
    assert not parse((nest % '"b"').encode()).repeated
    assert parse((nest % '"a"').encode()).repeated
