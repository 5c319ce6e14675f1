"""Values are read alike, whatever types their columns have."""

import json
from typing import Any

import duckdb
import pytest

from segexport.profiles.leaves import Leaf, leaf_at
from segexport.profiles.snapshots import Attribute
from segexport.sql import identifier, literal

MEMBERS = ("text", "string", "number", "truth", "strings")


def read(leaf: Leaf, value: str, *members: str) -> list[Any]:
    """What these members of a leaf over the column `value` say of a value, which is SQL."""
    items = ", ".join(getattr(leaf, member) for member in members)
    with duckdb.connect() as database:
        (row,) = database.execute(f"SELECT {items} FROM (SELECT {value} AS value)").fetchall()
    return list(row)


@pytest.mark.parametrize(
    ("kind", "value", "written", "expected"),
    [
        ("VARCHAR", "'n'", '"n"', ["n", "n", None, None, ["n"]]),
        ("VARCHAR", "'null'", '"null"', ["null", "null", None, None, ["null"]]),
        ("VARCHAR", "''", '""', ["", "", None, None, [""]]),
        ("BOOLEAN", "true", "true", ["true", None, None, True, ["true"]]),
        ("BOOLEAN", "false", "false", ["false", None, None, False, ["false"]]),
        ("BIGINT", "100", "100", ["100", None, 100.0, None, None]),
        (
            "BIGINT",
            "9007199254740993",
            "9007199254740993",
            ["9007199254740993", None, 2.0**53, None, None],
        ),
        ("DOUBLE", "5", "5", ["5", None, 5.0, None, None]),
        ("DOUBLE", "-1.5", "-1.50", ["-1.5", None, -1.5, None, None]),
        ("DOUBLE", "1e22", "1e22", ["1e22", None, 1e22, None, None]),
        ("DECIMAL(38,2)", "10.10", "10.10", ["10.1", None, 10.1, None, None]),
        ("DECIMAL(38,2)", "10", "10", ["10", None, 10.0, None, None]),
        ("VARCHAR[]", "['a', NULL, '']", '["a",null,""]', [None, None, None, None, ["a", ""]]),
        ("DOUBLE[]", "[1, 2.5]", "[1,2.5]", [None, None, None, None, ["1", "2.5"]]),
        ("BIGINT[]", "[1, NULL]", "[1,null]", [None, None, None, None, ["1"]]),
        ("BOOLEAN[]", "[true]", "[true]", [None, None, None, None, ["true"]]),
        ("VARCHAR[]", "[]", "[]", [None, None, None, None, []]),
        ("STRUCT(a BIGINT)", "{a: 1}", '{"a":1}', [None, None, None, None, ['{"a":1}']]),
        ("MAP(VARCHAR, BIGINT)", "map {'a': 1}", '{"a":1}', [None, None, None, None, ['{"a":1}']]),
        ("VARCHAR[][]", "[['a']]", '[["a"]]', [None, None, None, None, ['["a"]']]),
        ("VARCHAR", "NULL", "null", [None] * 5),
        ("BIGINT", "NULL", "null", [None] * 5),
        ("VARCHAR[]", "NULL", "null", [None] * 5),
    ],
)
@pytest.mark.parametrize("column", ["JSON", "VARCHAR"])
def test_a_value_reads_alike_in_a_column_of_its_type_and_in_one_of_json(
    kind: str, value: str, written: str, expected: list[Any], column: str
) -> None:
    """A column of JSON is one of strings in the files of Spark."""
    assert read(Leaf("value", kind), f"CAST({value} AS {kind})", *MEMBERS) == expected
    document = f"{literal(written)}::{column}"
    assert read(Leaf("value", "JSON"), document, *MEMBERS) == expected
    within = f"{literal(json.dumps({'a': {'b': json.loads(written)}}))}::{column}"
    if kind != "DECIMAL(38,2)":
        assert read(Leaf("value", "JSON", ("a", "b")), within, *MEMBERS) == expected


@pytest.mark.parametrize(
    ("document", "is_there", "is_blocked"),
    [
        ('{"a":{"b":"n"}}', True, False),
        ('{"a":{"b":{"c":1}}}', True, False),
        ('{"a":{"b":[]}}', True, False),
        ('{"a":{"b":{}}}', False, False),
        ('{"a":{"b":null}}', False, False),
        ('{"a":null}', False, False),
        ("{}", False, False),
        ("null", False, False),
        ('{"a":"n"}', False, True),
        ('{"a":[{"b":"n"}]}', False, True),
        ("5", False, True),
    ],
)
def test_it_is_known_whether_a_value_is_there_and_what_stands_above_it(
    document: str, *, is_there: bool, is_blocked: bool
) -> None:
    leaf = Leaf("value", "JSON", ("a", "b"))
    said = read(leaf, f"{literal(document)}::JSON", "is_there", "is_blocked")
    assert said == [is_there, is_blocked]


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a'b", "$[0]", "*", "0", "a/b~c"])
def test_names_within_json_are_data(name: str) -> None:
    attributes = [Attribute("map", "JSON")]
    leaf = leaf_at(f"map.{name}", attributes, lambda _: identifier("value"))
    assert leaf is not None
    document = literal(json.dumps({name: "n"}))
    assert read(leaf, f"{document}::JSON", "text") == ["n"]
    assert read(leaf, f"{literal(json.dumps(['n']))}::JSON", "text") == [None]


def test_a_path_is_an_attribute_or_within_one_of_json() -> None:
    attributes = [Attribute("a.b", "VARCHAR"), Attribute("c", "JSON"), Attribute("d", "VARCHAR")]
    found = {path: leaf_at(path, attributes, identifier) for path in ("a.b", "c.x.y", "a", "d.x")}
    assert found == {
        "a.b": Leaf('"a.b"', "VARCHAR"),
        "c.x.y": Leaf('"c"', "JSON", ("x", "y")),
        "a": None,
        "d.x": None,
    }
