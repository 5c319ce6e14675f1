"""Texts are cut into records wherever blocks of them end."""

import io
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segexport.profiles import cutting
from segexport.profiles.cutting import Cut, CutShort, cut_lines, cut_values

PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(0, 999),
    st.text(alphabet='"\\\\[]{}:,\\n é', max_size=6),
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=20,
)
BLOCKS = st.sampled_from((1, 2, 3, 7, 50, 10_000))


def cut(text: bytes, block: int, *, in_array: bool, limit: int = 10_000) -> list[Any]:
    """The values, parsed; of those that are too large, their beginnings."""

    def found() -> Iterator[Any]:
        for whole, too_large in cut_values(io.BytesIO(text), in_array=in_array):
            yield from map(orjson.loads, whole)
            if too_large is not None:
                yield too_large

    with mock.patch.multiple(cutting, BLOCK=block, MAX_RECORD=limit, KEPT=4):
        return list(found())


@given(values=st.lists(VALUES, max_size=5), block=BLOCKS, indent=st.booleans())
def test_the_values_of_an_array_are_cut_as_they_are(
    values: list[Any], block: int, indent: bool
) -> None:
    text = orjson.dumps(values, option=orjson.OPT_INDENT_2 if indent else None)
    assert cut(b" \n" + text + b"\n", block, in_array=True) == values
    with pytest.raises(CutShort, match="breaks off"):
        cut(text[:-1], block, in_array=True)
    with pytest.raises(CutShort, match="something follows"):
        cut(text + b"]", block, in_array=True)


@given(
    values=st.lists(VALUES.filter(lambda value: isinstance(value, dict | list)), max_size=5),
    block=BLOCKS,
    indent=st.booleans(),
)
def test_values_that_follow_one_another_are_cut_as_they_are(
    values: list[Any], block: int, indent: bool
) -> None:
    option = orjson.OPT_INDENT_2 if indent else None
    text = b" ".join(orjson.dumps(value, option=option) for value in values)
    assert cut(text, block, in_array=False) == values
    if values:
        with pytest.raises(CutShort, match="breaks off"):
            cut(text[:-1], block, in_array=False)


@given(values=st.lists(VALUES, max_size=5), block=BLOCKS)
def test_a_value_is_whole_or_too_large_and_harms_no_other(values: list[Any], block: int) -> None:
    found = cut(orjson.dumps(values), block, in_array=True, limit=30)
    assert len(found) == len(values)
    for one, value in zip(found, values, strict=True):
        assert one == value or orjson.dumps(value)[:4] == one
        assert one == value or len(orjson.dumps(value)) > 28


@given(lines=st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\n", b""))), block=BLOCKS)
def test_lines_are_cut_at_their_ends(lines: list[bytes], block: int) -> None:
    def found(cuts: Iterator[Cut]) -> Sequence[bytes]:
        return [line for whole, _ in cuts for line in whole]

    with mock.patch.object(cutting, "BLOCK", block):
        ended = b"".join(line + b"\n" for line in lines)
        assert found(cut_lines(io.BytesIO(ended))) == lines
        assert found(cut_lines(io.BytesIO(ended + b"last"))) == [*lines, b"last"]
