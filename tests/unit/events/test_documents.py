"""Finding JSON documents in lines, whatever kind of file they come from."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segexport.events.documents import Located, Unreadable, read_documents

DOCUMENTS = st.lists(
    st.dictionaries(st.text(), st.integers(-(2**63), 2**63 - 1) | st.text()), min_size=1, max_size=5
)


def read(text: str | bytes) -> list[Located | Unreadable]:
    data = text.encode() if isinstance(text, str) else text
    return list(read_documents(data.splitlines(keepends=True)))


def documents(text: str | bytes) -> list[Any]:
    found = read(text)
    assert all(isinstance(it, Located) for it in found), found
    return [it.document for it in found if isinstance(it, Located)]


@given(DOCUMENTS)
def test_the_same_documents_are_found_in_every_layout(expected: list[dict[str, Any]]) -> None:
    lines = [json.dumps(document) for document in expected]
    assert documents("\n".join(lines)) == expected
    assert documents("\n\n".join(lines) + "\n\n") == expected
    assert documents(json.dumps(expected)) == expected
    assert documents(json.dumps(expected, indent=2)) == expected
    assert documents("[" + ",\n".join(lines) + "]") == expected
    assert documents("[\n" + ",\n".join(lines) + "\n]") == expected
    for document in expected:
        assert documents(json.dumps(document, indent=2)) == [document]
        assert documents("\ufeff" + json.dumps(document)) == [document]


def test_a_document_is_located_by_its_line_and_its_index_in_an_array() -> None:
    assert read('{"a": 1}\n\n{"a": 2}\n') == [
        Located(1, None, {"a": 1}),
        Located(3, None, {"a": 2}),
    ]
    assert read('\n[{"a": 1}, {"a": 2}]') == [
        Located(2, 0, {"a": 1}),
        Located(2, 1, {"a": 2}),
    ]


def test_a_broken_line_does_not_hide_the_lines_after_it() -> None:
    found = read('{"a": 1}\n{"a":\n{"a": 3}\n')
    assert found[0] == Located(1, None, {"a": 1})
    assert isinstance(found[1], Unreadable)
    assert found[1].line == 2
    assert found[2] == Located(3, None, {"a": 3})


def test_a_broken_first_line_does_not_either() -> None:
    found = read('{"a":\n{"a": 2}\n{"a": 3}\n')
    assert isinstance(found[0], Unreadable)
    assert found[1:] == [Located(2, None, {"a": 2}), Located(3, None, {"a": 3})]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("\n  \n", 1),
        ("nonsense", 1),
        ('{"a": 1', 1),
        ("{\n\n}}", 3),
        ('{\n  "a": 1,\n\n  "b": ,\n}', 4),
        (b'{"a": "\xff"}', 1),
        (b"\x1f\x8b\x08\x00", 1),
        ("{", 1),
    ],
)
def test_what_is_not_json_is_unreadable_and_says_where(text: str | bytes, line: int) -> None:
    (found,) = read(text)
    assert isinstance(found, Unreadable)
    assert found.line == line
    assert found.reason


@given(st.lists(st.binary(max_size=20), max_size=6))
def test_no_bytes_whatsoever_raise(lines: list[bytes]) -> None:
    assert list(read_documents(line + b"\n" for line in lines))


def test_of_ndjson_no_more_than_two_lines_are_held() -> None:
    given_out = 0

    def lines() -> Iterator[bytes]:
        nonlocal given_out
        for number in range(1000):
            given_out += 1
            yield b'{"a": %d}\n' % number

    for read_so_far, _ in enumerate(read_documents(lines()), 1):
        assert given_out <= read_so_far + 1
