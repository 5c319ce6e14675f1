"""Finding JSON documents in lines, whatever kind of file they come from."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segexport.events import lookahead
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
        ("[]", 1),
        ("[\n]", 2),
        ('{"a": 1} // the first', 1),
        ('{"a": 1},', 1),
        ("[2026-03-01 12:00] INFO the job has begun", 1),
        ("{\n  a: 1,\n  b: 2\n}", 2),
        (b'{"a":\n"caf\xe9"}', 2),
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


GOOD = st.integers(0, 99).map(lambda number: json.dumps({"a": number, "b": [{"c": "]}{["}]}))
BROKEN = st.sampled_from(
    [
        *("nonsense", "{broken", "{broken, too", '"', "\\", "\x00", "{'a': 1}", '{"a": tru}'),
        *("{", "[", "}", "]", "[{", "[[", '{"a":', '{"a": [', '{"a": 1,', '{"a": "x', '{"a": 1}}'),
        *('{"a": 1},', '[{"a": 1}', '[{"a": 1},', "[INFO] ready", "[2026-03-01] ready", "}{"),
    ]
)


@given(st.lists(GOOD | BROKEN, max_size=12))
def test_broken_lines_hide_no_other_however_many_there_are_and_wherever(lines: list[str]) -> None:
    good = {number: line for number, line in enumerate(lines, 1) if '"b"' in line}
    found = {it.line: it.document for it in read("\n".join(lines)) if isinstance(it, Located)}
    closed = closes_what_is_open(lines)
    assert {number: json.loads(line) for number, line in good.items() if number not in closed} == {
        number: found.get(number) for number in good if number not in closed
    }


def closes_what_is_open(lines: list[str]) -> set[int]:
    """Lines that are JSON only as a part of what begins on the line before and ends after them."""
    return {
        number
        for number in range(2, len(lines))
        if lines[number - 2].endswith((":", "[", "{")) and lines[number].startswith(("}", "]"))
    }


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_broken_first_lines_do_not_make_one_document_of_a_file(count: int) -> None:
    broken = ["{broken", "{broken, too", "{", '{"a": ', "["]
    for first in broken:
        lines = [first] * count + ['{"a": 1}', '{"a": 2}'] * 20
        found = read("\n".join(lines))
        unreadable = [it.line for it in found if isinstance(it, Unreadable)]
        assert len(found) - len(unreadable) == 40, first
        assert unreadable
        if first != "[":
            assert unreadable == list(range(1, count + 1))


@pytest.mark.parametrize("opening", ["{", '{"a":', "[1,", '{"a": ['])
def test_a_line_may_be_indented_more_than_the_broken_one_before_it(opening: str) -> None:
    found = read(f'{opening}\n  {{"a": 2}}\n  {{"a": 3}}\n')
    assert isinstance(found[0], Unreadable)
    assert [it.document for it in found if isinstance(it, Located)] == [{"a": 2}, {"a": 3}]


@pytest.mark.parametrize("indent", [1, 2, 4])
@pytest.mark.parametrize("broken", ["{", '"b": [1, ,', '"b": 1 2', '"b": "x', "}"])
def test_of_documents_over_many_lines_a_broken_one_hides_itself_alone(
    indent: int, broken: str
) -> None:
    documents = [{"a": number, "b": [{"c": 1}, {"d": [2]}], "e": {}} for number in range(5)]
    texts = [json.dumps(document, indent=indent) for document in documents]
    lines = texts[2].splitlines()
    lines[2] = " " * indent + broken
    texts[2] = "\n".join(lines)
    for whole in ("\n".join(texts), "[\n" + ",\n".join(texts) + "\n]"):
        found = read(whole)
        good = [it.document for it in found if isinstance(it, Located)]
        assert [it for it in good if "e" in it] == [*documents[:2], *documents[3:]]
        assert [it for it in found if isinstance(it, Unreadable)]


def test_a_broken_document_is_told_once_and_where() -> None:
    broken = '{\n  "a": 1,\n  "b": [\n    {"c": ,},\n    {"d": 1}\n  ]\n}'
    (unreadable, following) = read(broken + '\n{\n  "a": 2\n}')
    assert isinstance(unreadable, Unreadable)
    assert unreadable.line == 4
    assert following == Located(8, None, {"a": 2})
    array = json.dumps([{"a": 1}, {"a": 2}, {"a": 3}], indent=2).replace('"a": 2', '"a" 2')
    assert [type(it) for it in read(array)] == [Located, Unreadable, Located]
    assert [it.line for it in read(array)] == [2, 6, 8]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('[{"a": 1}, {"a": }, {"a": 3}]', [0, None, 2]),
        ('[{"a": 1}, {"a" 2}, nonsense, {"a": 4}]', [0, None, None, 3]),
        ('[{"a": 1}, {"a": [}, {"a": 3}]', [0, None]),
        ('[{"a": 1} {"a": 2}]', [0, None, 1]),
        ('[{"a": 1}, ]', [0, None]),
        ('[\n, {"a": 1}]', [None, 0]),
        ('[\n{"a": 1}\n{"a": 2}\n{"a": 3}', [0, None, 1, 2]),
        ('[{"a": 1}', [0, None]),
        ('[\n{"a": 1}\n], 5', [0, None]),
    ],
)
def test_a_broken_element_of_an_array_hides_no_other(text: str, found: list[int | None]) -> None:
    assert [it.index if isinstance(it, Located) else None for it in read(text)] == found


def test_documents_may_follow_each_other_without_a_line_between_them() -> None:
    assert documents('{"a": 1}{"a": 2} {"a": 3}\n{"a":\n4}{"a": 5}[{"a": 6}]\n{"a": 7}') == [
        {"a": number} for number in range(1, 8)
    ]


@given(st.lists(GOOD | BROKEN, max_size=8), st.lists(st.integers(1, 40), min_size=1))
def test_the_pieces_in_which_a_text_comes_change_nothing(
    lines: list[str], sizes: list[int]
) -> None:
    data = "\n".join(lines).encode()
    assert list(read_documents(cut(data, sizes))) == read(data)


@given(st.lists(GOOD, min_size=1, max_size=8), st.lists(st.integers(1, 40), min_size=1))
def test_lines_that_are_too_long_to_be_held_are_read_piece_by_piece(
    texts: list[str], sizes: list[int]
) -> None:
    expected = list(map(json.loads, texts))
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(lookahead, "MAX_LINE", 8)
        for data in ("[" + ",".join(texts) + "]", "".join(texts), "\n".join(texts)):
            found = list(read_documents(cut(data.encode(), sizes)))
            assert [it.document for it in found if isinstance(it, Located)] == expected
            assert len(found) == len(expected)


@pytest.mark.parametrize("text", ["x" * 100, "é" * 50, "\\" * 50, '"' * 50, "\u2028" * 30])
def test_a_string_may_be_cut_anywhere(text: str) -> None:
    expected = [{"a": text, text: 1}] * 3
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(lookahead, "MAX_LINE", 8)
        for size in (1, 2, 3, 7, 20):
            for ascii_only in (True, False):
                data = json.dumps(expected, ensure_ascii=ascii_only).encode()
                found = list(read_documents(cut(data, [size])))
                assert found == [Located(1, index, it) for index, it in enumerate(expected)]


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    place, turn = 0, 0
    while place < len(data):
        size = sizes[turn % len(sizes)]
        yield data[place : place + size]
        place, turn = place + size, turn + 1


@pytest.mark.parametrize("opening", ['{"a": [', '{"a": "', '[{"a": [', "", '{"a": [\n'])
def test_a_document_that_is_too_large_is_told_and_not_held(opening: str) -> None:
    filling = b"1, " * 2000 if opening.endswith("[") else b"x" * 6000
    following = b'\n{"b": 1}\n'
    data = opening.encode() + filling * 10 + following
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(lookahead, "MAX_DOCUMENT", 2000)
        patching.setattr(lookahead, "MAX_LINE", 1000)
        found = list(read_documents(cut(data, [100])))
    assert isinstance(found[0], Unreadable)
    last = found[-1]
    assert isinstance(last, Located)
    assert (last.line, last.document) == (data.count(b"\n"), {"b": 1})
