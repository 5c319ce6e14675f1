"""What pydantic finds wrong is said in our words."""

import re
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from pydantic_core._pydantic_core import list_all_errors

from segexport.clerk import JobDocument
from segexport.http.keys import Key
from segexport.http.own_api import Cancellation
from segexport.http.pinpoint_job import ExportJobRequest
from segexport.jobs.request import ExportRequest
from segexport.settings import Settings
from segexport.validation import all_words, in_words, path_of, repeated_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"a": 1, "b": {"a": 1}, "c": [{"a": 1}, {"a": 1}]}', None),
        ('{"a": 1, "a": 1}', "a"),
        ('{"a": 1, "\\u0061": 2}', "a"),
        ('[[{"x": {"b": 1, "a": 2, "b": 3}}]]', "b"),
        ("[]", None),
        ("no json", None),
        ("[" * 100_000, None),
    ],
)
def test_a_name_that_an_object_has_twice_is_found_at_any_depth(text: str, name: str | None) -> None:
    assert repeated_name(text) == name
    assert repeated_name(text.encode()) == name


THEIRS = re.compile(r"Input should|should be|should have|should match|Value error|pydantic|ctx")


@pytest.mark.parametrize("error", list_all_errors(), ids=lambda error: error["type"])
def test_none_of_pydantics_own_words_are_told(error: Any) -> None:
    words = in_words(
        {
            "type": error["type"],
            "msg": error["example_message_python"],
            "ctx": error.get("example_context") or {},
        }
    )
    assert words
    assert not THEIRS.search(words)


@pytest.mark.parametrize(
    "model", [ExportRequest, ExportJobRequest, Cancellation, JobDocument, Settings, Key]
)
@pytest.mark.parametrize("value", [3, [], "x", None, True, {"a": 1}, 1.5])
def test_whatever_stands_in_the_place_of_each_part_is_refused_in_our_words(
    model: Any, value: object
) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(model)
    names = adapter.json_schema(mode="validation")["properties"]
    with pytest.raises(ValidationError) as caught:
        adapter.validate_python(dict.fromkeys(names, value) | {"strange": value})
    assert not THEIRS.search(all_words(caught.value))
    assert "is none of the values that may stand here" not in all_words(caught.value)


def test_a_path_says_nothing_to_a_terminal_and_does_not_get_long() -> None:
    assert path_of({"loc": ("filter", "segments", 0)}) == "filter.segments.0"
    assert path_of({"loc": ("\x1b[2J", "a\u202eb")}) == r"'\x1b[2J'.'a\u202eb'"
    assert len(path_of({"loc": ("x" * 100_000,)})) < 200
