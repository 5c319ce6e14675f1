"""Trees of attributes: found, joined, flattened, and read from older columns."""

from collections.abc import Sequence
from typing import Any

import duckdb
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segexport.errors import ProfileStoreError
from segexport.profiles.attributes import (
    EMPTY_ARRAY,
    MAX_NAMES,
    Tree,
    column_in_base,
    column_in_document,
    flatten,
    found_by,
    found_in,
    join,
    structure,
    tree_of,
)
from segexport.profiles.snapshots import Attribute
from segexport.sql import identifier, literal
from support.examples import examples

DATABASE = duckdb.connect()
PLAIN = ("BOOLEAN", "BIGINT", "DOUBLE", "DECIMAL(38,2)", "DECIMAL(38,10)", "VARCHAR")
ARRAYS = ("VARCHAR[]", "BIGINT[]", "DOUBLE[]", "DECIMAL(38,4)[]", EMPTY_ARRAY)
LEAVES = st.sampled_from([*PLAIN, *ARRAYS, "JSON"])
NAMES = st.sampled_from(["a", "b", "c"])
TREES = st.dictionaries(
    NAMES,
    st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, min_size=1), max_leaves=6),
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.sampled_from([0.5, "x", "{}", "quo\"te's"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.lists(st.dictionaries(NAMES, VALUES), min_size=1, max_size=6)


@given(one=TREES, other=TREES, third=TREES)
def test_joining_does_not_depend_on_order_or_grouping(one: Tree, other: Tree, third: Tree) -> None:
    assert join(one, other) == join(other, one)
    assert join(join(one, other), third) == join(one, join(other, third))
    assert join(one, one) == one


@given(tree=TREES)
def test_a_tree_can_be_had_back_from_its_leaves(tree: Tree) -> None:
    attributes = flatten(tree)
    assert flatten(tree_of(attributes)) == attributes
    assert [one.path for one in attributes] == sorted(one.path for one in attributes)


@settings(deadline=None, max_examples=examples(60))
@given(documents=DOCUMENTS, cut=st.integers(0, 6))
def test_attributes_do_not_depend_on_how_documents_were_sliced(
    documents: list[dict[str, Any]], cut: int
) -> None:
    assert join(_found(documents[:cut]), _found(documents[cut:])) == _found(documents)


@settings(deadline=None, max_examples=examples(60))
@given(documents=DOCUMENTS)
def test_no_value_is_lost_on_its_way_into_columns(documents: list[dict[str, Any]]) -> None:
    attributes = _columns_of(_found(documents))
    for document in documents:
        columns = _columns(document, attributes)
        assert _rebuilt(columns) == _without_nothing(document)


@settings(deadline=None, max_examples=examples(60))
@given(documents=DOCUMENTS, later=DOCUMENTS)
def test_no_value_is_lost_when_later_documents_change_the_columns(
    documents: list[dict[str, Any]], later: list[dict[str, Any]]
) -> None:
    found = _found(documents)
    base = _columns_of(found)
    attributes = _columns_of(join(found, _found(later)))
    for document in documents:
        columns = _columns(document, base, then=attributes)
        assert _rebuilt(columns) == _without_nothing(document)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], "BIGINT"),
        ([1, -2], "BIGINT"),
        ([1, 0.5], "DOUBLE"),
        ([1, "x"], "JSON"),
        ([True, None], "BOOLEAN"),
        ([[], ["x"]], "VARCHAR[]"),
        ([[], [1]], "BIGINT[]"),
        ([[]], EMPTY_ARRAY),
        ([[None], []], EMPTY_ARRAY),
        ([[1], [0.5]], "DOUBLE[]"),
        ([{}, 1], "BIGINT"),
        ([{"x": {"y": None, "z": {}}}, "x"], "VARCHAR"),
        ([{"x": None}, [1]], "BIGINT[]"),
        ([[1], ["x"]], "JSON"),
        ([[{"x": 1}]], "JSON"),
        ([[[1]]], "JSON"),
        ([{"x": 1}, 1], "JSON"),
        ([{"a.b": 1}], "JSON"),
        ([{"A": 1, "a": 1}], "JSON"),
        ([{f"n{number}": 1 for number in range(MAX_NAMES + 1)}], "JSON"),
        ([[{}]], "JSON"),
        ([None, {}], None),
    ],
)
def test_the_type_of_an_attribute_follows_from_its_values(
    values: list[Any], kind: str | None
) -> None:
    found = {one.path: one.type for one in flatten(_found([{"it": value} for value in values]))}
    assert found.get("it") == kind


def test_json_that_is_stored_keeps_all_its_numbers_within_other_json() -> None:
    # Older versions let in numbers beyond the range of a double.
    numbers = '[1e400,0.12345678901234567890,9007199254740993,"1e400 e99999"]'
    base = [Attribute("a.b", "JSON"), Attribute("a.c", "DECIMAL(38,4)")]
    ((found,),) = DATABASE.execute(
        f"SELECT {column_in_base(Attribute('a', 'JSON'), base)} "
        'FROM (SELECT ?::JSON AS "a.b", 1.5::DECIMAL(38, 4) AS "a.c")',
        [numbers],
    ).fetchall()
    assert found == f'{{"b":{numbers},"c":1.5}}'


def test_names_at_the_top_that_differ_only_in_case_are_refused() -> None:
    with pytest.raises(ProfileStoreError, match="differ only in case"):
        flatten({"City": "VARCHAR", "city": {"name": "VARCHAR"}})


def _found(documents: list[dict[str, Any]]) -> Tree:
    DATABASE.execute(
        f"SELECT {found_by('one')} FROM (SELECT unnest(?::VARCHAR[]) AS one)",
        [[orjson.dumps(document).decode() for document in documents]],
    )
    ((found,),) = DATABASE.fetchall()
    return found_in(found)


def _columns_of(found: Tree) -> Sequence[Attribute]:
    """The columns of what was found: arrays that have no element are some of strings."""
    return [
        Attribute(one.path, "VARCHAR[]" if one.type == EMPTY_ARRAY else one.type)
        for one in flatten(found)
    ]


def _columns(
    document: dict[str, Any],
    attributes: Sequence[Attribute],
    then: Sequence[Attribute] | None = None,
) -> dict[str, Any]:
    """The document's columns; with `then`, as a later snapshot reads them."""
    if not attributes:
        return {}
    read = ", ".join(
        f"{column_in_document(one, 'document', 'text')} AS {identifier(one.path)}"
        for one in attributes
    )
    query = (
        f"SELECT {read} FROM (SELECT text, from_json(text, {literal(structure(attributes))}) "
        "AS document FROM (SELECT ?::VARCHAR AS text))"
    )
    if then is not None:
        again = ", ".join(
            f"{column_in_base(one, attributes)} AS {identifier(one.path)}" for one in then
        )
        query = f"SELECT {again} FROM ({query})"
    DATABASE.execute(query, [orjson.dumps(document).decode()])
    ((*values,),) = DATABASE.fetchall()
    return {
        one.path: orjson.loads(value) if one.type == "JSON" and value is not None else value
        for one, value in zip(then or attributes, values, strict=True)
    }


def _rebuilt(columns: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for path, value in columns.items():
        *branches, leaf = path.split(".")
        branch = document
        for name in branches:
            branch = branch.setdefault(name, {})
        branch[leaf] = value
    return _without_nothing(document)


def _without_nothing(value: dict[str, Any]) -> dict[str, Any]:
    """Null and empty objects say nothing: they are left out, outside of arrays."""
    inner = {
        name: _without_nothing(one) if isinstance(one, dict) else one for name, one in value.items()
    }
    return {name: one for name, one in inner.items() if one is not None and one != {}}
