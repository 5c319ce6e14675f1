"""Predicates: what is taken, what is refused and how, and what they say of a profile."""

import fnmatch
import json
import math
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segexport.errors import InvalidPredicate
from segexport.profiles.predicate import MAX_DEPTH, MAX_LENGTH, parse_predicate
from segexport.profiles.predicate_terms import FUNCTIONS
from segexport.profiles.snapshots import Attribute
from segexport.sql import identifier, literal
from support.examples import examples

ATTRIBUTES: Final = (
    Attribute("consents.marketing", "BOOLEAN"),
    Attribute("homeAddress.city", "VARCHAR"),
    Attribute("loyalty.points", "BIGINT"),
    Attribute("loyalty.tier", "VARCHAR"),
    Attribute("mixed", "JSON"),
    Attribute("order.order date", "VARCHAR"),
    Attribute("price", "DECIMAL(38,30)"),
    Attribute("prices", "DECIMAL(38,30)[]"),
    Attribute("scores", "BIGINT[]"),
    Attribute("spend", "DOUBLE"),
    Attribute("tags", "VARCHAR[]"),
    Attribute("total", "DECIMAL(38,0)"),
)
WITHIN: Final = Attribute("mixed.tier", "JSON")
"""What an evaluation reads within a JSON column is a column beside the others."""

Profile = Mapping[str, Any]
Evaluation = Callable[[Profile], Any]


@dataclass(frozen=True)
class Said:
    """A predicate as text, and in plain Python: True, False or None for unknown."""

    text: str
    means: Evaluation


def evaluated(text: str, profiles: Sequence[Profile]) -> list[Any]:
    """What DuckDB makes of a predicate for each of these profiles."""
    columns = ", ".join(f"{identifier(one.path)} {one.type}" for one in (*ATTRIBUTES, WITHIN))
    with duckdb.connect() as database:
        database.execute(f"CREATE TABLE merged (position INTEGER, {columns})")
        for position, profile in enumerate(profiles):
            database.execute(
                f"INSERT INTO merged VALUES (?{', ?' * len(ATTRIBUTES)}, ?)",
                [position, *(profile.get(one.path) for one in (*ATTRIBUTES, WITHIN))],
            )
        sql = parse_predicate(text, ATTRIBUTES).sql
        rows = database.execute(f"SELECT {sql} FROM merged ORDER BY position").fetchall()
    return [value for (value,) in rows]


def mixed(value: Any) -> Profile:
    """A profile with one value of mixed types, and with what lies in it, as it is evaluated."""
    within = value.get("tier") if isinstance(value, dict) else None
    return {
        "mixed": None if value is None else json.dumps(value),
        "mixed.tier": None if within is None else json.dumps(within),
        "loyalty.points": 5,
    }


# What is refused, and how


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "says nothing"),
        ("ELSE", "says nothing"),
        ("loyalty.pionts > 1", "at character 1 .*did you mean 'loyalty.points'"),
        ("spend > 1 AND loyalty > 1", "at character 15 .*name a value in it, such as 'loyalty.p"),
        ("loyalty.points = '5'", "at character 18 .*is a number and '5' is a string"),
        ("loyalty.tier", "loyalty.tier is a string: compare it with something"),
        ("mixed = mixed", "mixed is of mixed types: compare it with a value of one type"),
        ("mixed.below = NULL", "mixed.below is of mixed types: .* ask IS NULL"),
        ("coalesce(mixed, mixed) = 1", "at character 10 .*mixed is of mixed types"),
        ("mixed IN ('a', 1)", "mixed is a string and 1 is a number"),
        ("mixed > TRUE", "mixed is of mixed types"),
        ("length(mixed) = 'a'", "is a number and 'a' is a string"),
        ("tags = 'vip'", "tags is an array of strings: .*contains"),
        ("contains(loyalty.tier, 'x')", "loyalty.tier is a string; for a part .* LIKE"),
        ("contains(tags, 1)", "1 is a number, here stands a string"),
        ("consents.marketing > TRUE", "compare it with = or <>"),
        ("lower(spend) = 'x'", "spend is a number, here stands a string"),
        ("spend + loyalty.tier = 1", "loyalty.tier is a string, here stands a number"),
        ("spend AND TRUE", "spend is a number, here stands true or false"),
        ("now() > '2026'", "no function 'now'; there are lower"),
        ("abs(spend) = 1", "not a part of the language; its functions are lower"),
        ("spend IN (SELECT 1)", "no subquery"),
        ("EXISTS (SELECT 1)", "no subquery"),
        ("(SELECT TRUE)", "no subquery"),
        ("consents.marketing; DROP TABLE x", "cannot|does not belong|one condition"),
        ("TRUE; TRUE", "take out the semicolon"),
        ("DROP TABLE x", "does not belong to one condition"),
        ("spend = ", "something is missing"),
        ("lower(loyalty.tier, 'x') = 'x'", "too many arguments"),
        ("loyalty.tier = 'gold", "quote that is not closed"),
        ("loyalty.tier > DATE '2026-01-01'", "a date is a string"),
        ("CAST(spend AS VARCHAR) = '1'", "types stay what they are"),
        ("spend IN ()", "IN needs values"),
        ("spend IN scores", "not a part of the language"),
        ("loyalty.tier LIKE loyalty.tier", "a string that is written out"),
        ("loyalty.tier LIKE 'a!' ESCAPE '!'", "escapes nothing"),
        ("loyalty.tier LIKE 'a' ESCAPE '!!'", "names one character"),
        ("spend IS 5", "IS stands before"),
        ("spend BETWEEN SYMMETRIC 1 AND 2", "SYMMETRIC is not"),
        ('"loyalty.points" = 1', "each stands in its own quotes"),
        ("loyalty.points = 9223372036854775808", "at most 63 bits"),
        ("spend < 1e999", "too large"),
        ("spend = ?", "not a part of the language"),
        ("spend\x00 = 1", "control character"),
        ("loyalty.tier = '\ud800'", "control character"),
        ("(" * 200 + "TRUE" + ")" * 200, "too deeply|one another"),
        ("NOT " * (MAX_DEPTH + 1) + "TRUE", "one another"),
        ("1 + " * 2000 + "1 = 1", "one another"),
        (f"loyalty.tier = '{'x' * MAX_LENGTH}'", "say less"),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_what_to_do(text: str, words: str) -> None:
    with pytest.raises(InvalidPredicate, match=words):
        parse_predicate(text, ATTRIBUTES)


def test_without_a_snapshot_attributes_may_have_any_name_and_type() -> None:
    text = "a.b > 1 AND contains(c, 'x') AND d LIKE 'y%' AND e AND length(f) = 2"
    assert parse_predicate(text, None).attributes == ("a.b", "c", "d", "e", "f")
    with pytest.raises(InvalidPredicate, match="no function"):
        parse_predicate("f(a)", None)
    with pytest.raises(InvalidPredicate, match="is a number and 'x' is a string"):
        parse_predicate("a IN (1, 'x')", None)


MIXED: Final[Sequence[Any]] = (
    *("gold", "Gold", "", 5, 5.5, 2**53 + 1, True, False, {"tier": "gold"}, {}),
    *(["gold", 5, None], [2**53 + 1], [], None),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mixed = 'gold'", {"gold": True, "Gold": False, "": False}),
        ("'gold' <> mixed", {"gold": False, "Gold": True, "": True}),
        ("mixed IN ('gold', '')", {"gold": True, "Gold": False, "": True}),
        ("mixed BETWEEN 'a' AND 'z'", {"gold": True, "Gold": False, "": False}),
        ("mixed LIKE 'G%'", {"gold": False, "Gold": True, "": False}),
        ("lower(mixed) = 'gold'", {"gold": True, "Gold": True, "": False}),
        ("mixed = 5", {5: True, 5.5: False, 2**53 + 1: False}),
        ("mixed = 9007199254740993", {5: False, 5.5: False, 2**53 + 1: True}),
        ("mixed <> 9007199254740992", {5: True, 5.5: True, 2**53 + 1: True}),
        ("mixed > 5", {5: False, 5.5: True, 2**53 + 1: True}),
        ("loyalty.points <= mixed", {5: True, 5.5: True, 2**53 + 1: True}),
        ("mixed BETWEEN 5 AND 5.5", {5: True, 5.5: True, 2**53 + 1: False}),
        ("mixed + 1 < 6.5", {5: True, 5.5: False, 2**53 + 1: False}),
        ("-mixed = -5.5", {5: False, 5.5: True, 2**53 + 1: False}),
        ("mixed", {True: True, False: False}),
        ("NOT mixed", {True: False, False: True}),
        ("mixed = TRUE", {True: True, False: False}),
    ],
)
def test_an_attribute_of_mixed_types_is_unknown_of_who_has_another_type(
    text: str, expected: Mapping[Any, bool]
) -> None:
    wanted = [
        next(
            (said for one, said in expected.items() if one == value and type(one) is type(value)),
            None,
        )
        for value in MIXED
    ]
    assert evaluated(text, [mixed(value) for value in MIXED]) == wanted


@pytest.mark.parametrize(
    ("text", "among"),
    [
        ("mixed IS TRUE", [True]),
        ("contains(mixed, 'gold')", [["gold", 5, None]]),
        ("contains(mixed, 5)", [["gold", 5, None]]),
        ("contains(mixed, 9007199254740992)", []),
        ("contains(mixed, 9007199254740993)", [[2**53 + 1]]),
        ("contains(mixed, NULL)", []),
        ("contains(mixed.tier, 'gold')", []),
        ("length(mixed) = 4", ["gold", "Gold"]),
        ("length(mixed) = 0", ["", []]),
        ("coalesce(mixed, 'none') = 'gold'", ["gold"]),
        ("mixed.tier = 'gold'", [{"tier": "gold"}]),
        ("mixed.tier IS NOT NULL", [{"tier": "gold"}]),
    ],
)
def test_what_is_asked_of_mixed_types_is_true_of_who_has_it(
    text: str, among: Sequence[Any]
) -> None:
    found = evaluated(text, [mixed(value) for value in MIXED])
    assert [value for value, said in zip(MIXED, found, strict=True) if said is True] == among


LARGE: Final = 2**63 - 1
"""Has more digits than a DECIMAL(38, 30) has before the point."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"price < {LARGE}", True),
        (f"-{LARGE} >= price", False),
        (f"price = {LARGE}", False),
        ("price > 5", False),
        ("price BETWEEN 5 AND 99999999999", True),
        (f"price IN (5, {LARGE})", True),
        (f"price NOT IN (1, {LARGE}, NULL)", None),
        ("price < loyalty.points", True),
        ("price <> total", True),
        ("total > price AND total > mixed", True),
        ("mixed > price", True),
        ("total > 1e37", True),
        (f"coalesce(price, {LARGE}) = 5", True),
        (f"coalesce(spend, price, {LARGE}, total) = 5", True),
        ("coalesce(price, loyalty.points) = 5", True),
        (f"contains(prices, {LARGE})", False),
        ("contains(prices, 5)", True),
        ("contains(prices, loyalty.points)", False),
        ("contains(prices, mixed)", False),
        ("contains(prices, NULL)", None),
        ("contains(scores, price)", True),
        ("contains(mixed, price)", None),
    ],
)
def test_numbers_are_compared_however_many_digits_each_of_them_has(
    text: str, expected: Any
) -> None:
    profile = {
        "loyalty.points": LARGE,
        "mixed": str(LARGE),
        "price": Decimal(5),
        "prices": [Decimal("0.5"), Decimal(5)],
        "scores": [LARGE, 5],
        "total": Decimal("9" * 38),
    }
    assert evaluated(text, [profile]) == [expected]


def test_a_decimal_is_compared_with_all_its_digits() -> None:
    profiles = [{"price": Decimal(f"5.{'0' * 29}{digit}"), "loyalty.points": 5} for digit in (0, 1)]
    for text in ("price = 5", "price = loyalty.points", "coalesce(price, 0) = 5"):
        assert evaluated(text, profiles) == [True, False]


def test_a_hundred_conditions_in_a_row_are_not_deep() -> None:
    text = " OR ".join(f"loyalty.tier = 't{number}'" for number in range(300))
    assert evaluated(text, [{"loyalty.tier": "t299"}, {"loyalty.tier": "t300"}]) == [True, False]


def test_names_that_are_no_plain_words_stand_in_quotes() -> None:
    found = evaluated('"order"."order date" >= \'2026-02\'', [{"order.order date": "2026-02-01"}])
    assert found == [True]


def test_a_quote_in_a_string_stays_in_the_string() -> None:
    found = evaluated("loyalty.tier = 'x'' OR TRUE --'", [{"loyalty.tier": "x' OR TRUE --"}, {}])
    assert found == [True, None]


@pytest.mark.parametrize(
    ("text", "profile", "expected"),
    [
        ("spend / 0 > 1", {"spend": 1.0}, None),
        ("spend % 0 > 1", {"spend": 1.0}, None),
        ("loyalty.points + 1 > 0", {"loyalty.points": 2**63 - 1}, True),
        ("loyalty.points > 9223372036854775806", {"loyalty.points": 2**63 - 1}, True),
        ("spend = 1.1", {"spend": 1.1}, True),
        ("spend = -1.1", {"spend": -1.1}, True),
        ("loyalty.points BETWEEN 1 AND 2.5", {"loyalty.points": 2}, True),
        ("loyalty.tier LIKE '10!%%' ESCAPE '!'", {"loyalty.tier": "10% off"}, True),
        ("loyalty.tier NOT LIKE '10!%' ESCAPE '!'", {"loyalty.tier": "10% off"}, True),
        ("loyalty.tier LIKE 'a\\_b'", {"loyalty.tier": "a_b"}, False),
        ("loyalty.tier NOT IN ('a', NULL)", {"loyalty.tier": "b"}, None),
        ("loyalty.tier IS NULL OR FALSE AND TRUE", {}, True),
        ("NOT loyalty.tier = 'a' AND FALSE", {"loyalty.tier": "a"}, False),
        ("mixed IS NOT NULL", {"mixed": '{"a":1}'}, True),
        ("consents.marketing", {"consents.marketing": True}, True),
        ("consents.marketing IS NOT TRUE", {}, True),
        ("length(tags) = 2", {"tags": ["a", ""]}, True),
        ("length(loyalty.tier) = 1", {"loyalty.tier": "é"}, True),
        ("contains(tags, NULL)", {"tags": ["a"]}, None),
        ("2 + 3 * 2 = 8 AND 7 % 4 = 3 AND -7 % 4 = -3 AND 7 / 2 = 3.5", {}, True),
    ],
)
def test_values_are_what_the_language_says(text: str, profile: Profile, expected: Any) -> None:
    assert evaluated(text, [profile]) == [expected]


# Random predicates over random profiles equal plain Python

_LETTERS: Final = st.text("aAbB_%é ", max_size=3)
_INTEGERS: Final = st.integers(-4, 4)
_DOUBLES: Final = st.sampled_from([-2.5, -1.0, 0.0, 0.5, 1.0, 3.0])
_PROFILES: Final = st.fixed_dictionaries(
    {},
    optional={
        "consents.marketing": st.booleans(),
        "homeAddress.city": _LETTERS,
        "loyalty.points": _INTEGERS,
        "loyalty.tier": _LETTERS,
        "scores": st.lists(_INTEGERS, max_size=3),
        "spend": _DOUBLES,
        "tags": st.lists(_LETTERS, max_size=3),
    },
)


def known(apply: Callable[..., Any], *parts: Said) -> Evaluation:
    """What is unknown where a part is."""

    def means(profile: Profile) -> Any:
        values = [part.means(profile) for part in parts]
        return None if None in values else apply(*values)

    return means


def attribute(path: str) -> Said:
    return Said(path, lambda profile: profile.get(path))


def constant(text: str, value: Any) -> Said:
    return Said(text, lambda _: value)


def conjunction(parts: Sequence[Said], profile: Profile) -> Any:
    values = [part.means(profile) for part in parts]
    if False in values:
        return False
    return None if None in values else True


def negated(part: Said) -> Said:
    return Said(f"(NOT {part.text})", known(lambda value: not value, part))


def joined(parts: Sequence[Said], *, every: bool) -> Said:
    """AND, or OR by its law: a OR b is NOT (NOT a AND NOT b)."""
    text = f"({(' AND ' if every else ' OR ').join(part.text for part in parts)})"
    if every:
        return Said(text, lambda profile: conjunction(parts, profile))
    inverse = [negated(part) for part in parts]
    none = Said("", lambda profile: conjunction(inverse, profile))
    return Said(text, negated(none).means)


def compared(left: Said, operator: str, right: Said) -> Said:
    apply: Mapping[str, Callable[[Any, Any], bool]] = {
        "=": lambda a, b: a == b,
        "<>": lambda a, b: a != b,
        "!=": lambda a, b: a != b,
        "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b,
    }
    return Said(f"({left.text} {operator} {right.text})", known(apply[operator], left, right))


def among(value: Said, options: Sequence[Said]) -> Said:
    some = joined([compared(value, "=", option) for option in options], every=False)
    listed = ", ".join(option.text for option in options)
    return Said(f"({value.text} IN ({listed}))", some.means)


def between(value: Said, low: Said, high: Said) -> Said:
    both = joined([compared(value, ">=", low), compared(value, "<=", high)], every=True)
    return Said(f"({value.text} BETWEEN {low.text} AND {high.text})", both.means)


def like(value: Said, pattern: str, *, case: bool) -> Said:
    # As a shell's pattern; the alphabet of the texts has none of its special characters.
    shell = pattern.replace("%", "*").replace("_", "?")

    def matches(text: str) -> bool:
        if case:
            return fnmatch.fnmatchcase(text, shell)
        return fnmatch.fnmatchcase(text.lower(), shell.lower())

    word = "LIKE" if case else "ILIKE"
    return Said(f"({value.text} {word} {literal(pattern)})", known(matches, value))


def computed(left: Said, operator: str, right: Said) -> Said:
    apply: Mapping[str, Callable[[Any, Any], Any]] = {
        "+": lambda a, b: float(a) + float(b),
        "-": lambda a, b: float(a) - float(b),
        "*": lambda a, b: float(a) * float(b),
        "/": lambda a, b: float(a) / float(b) if b else None,
        "%": lambda a, b: math.fmod(a, b) if b else None,
    }
    return Said(f"({left.text} {operator} {right.text})", known(apply[operator], left, right))


def first_known(parts: Sequence[Said]) -> Said:
    def means(profile: Profile) -> Any:
        values = (part.means(profile) for part in parts)
        return next((value for value in values if value is not None), None)

    return Said(f"coalesce({', '.join(part.text for part in parts)})", means)


def is_null(part: Said, *, inverse: bool) -> Said:
    def means(profile: Profile) -> bool:
        return (part.means(profile) is None) is not inverse

    return Said(f"({part.text} IS {'NOT ' if inverse else ''}NULL)", means)


def contained(array: Said, member: Said) -> Said:
    text = f"contains({array.text}, {member.text})"
    return Said(text, known(lambda values, value: value in values, array, member))


def applied(function: str, part: Said) -> Said:
    apply: Mapping[str, Callable[[Any], Any]] = {
        "lower": lambda text: text.lower(),
        "upper": lambda text: text.upper(),
        "length": len,
    }
    return Said(f"{function}({part.text})", known(apply[function], part))


_NULL: Final = constant("NULL", None)
_STRINGS: st.SearchStrategy[Said] = st.deferred(
    lambda: st.one_of(
        st.sampled_from([attribute("homeAddress.city"), attribute("loyalty.tier"), _NULL]),
        _LETTERS.map(lambda text: constant(literal(text), text)),
        st.builds(applied, st.sampled_from(["lower", "upper"]), _STRINGS),
        st.lists(_STRINGS, min_size=1, max_size=3).map(first_known),
    )
)
_ARRAYS_OF_STRINGS: Final = st.just(attribute("tags"))
_NUMBERS: st.SearchStrategy[Said] = st.deferred(
    lambda: st.one_of(
        st.sampled_from([attribute("loyalty.points"), attribute("spend"), _NULL]),
        st.one_of(_INTEGERS, _DOUBLES).map(lambda number: constant(repr(number), number)),
        st.builds(computed, _NUMBERS, st.sampled_from("+-*/%"), _NUMBERS),
        st.builds(applied, st.just("length"), st.one_of(_STRINGS, _ARRAYS_OF_STRINGS)),
        st.lists(_NUMBERS, min_size=1, max_size=3).map(first_known),
    )
)
_ORDERS: Final = st.sampled_from(["=", "<>", "!=", "<", "<=", ">", ">="])
_PREDICATES: st.SearchStrategy[Said] = st.deferred(
    lambda: st.one_of(
        st.builds(compared, _NUMBERS, _ORDERS, _NUMBERS),
        st.builds(compared, _STRINGS, _ORDERS, _STRINGS),
        st.builds(compared, _PREDICATES, st.sampled_from(["=", "<>"]), _PREDICATES),
        st.builds(among, _NUMBERS, st.lists(_NUMBERS, min_size=1, max_size=3)),
        st.builds(among, _STRINGS, st.lists(_STRINGS, min_size=1, max_size=3)),
        st.builds(between, _NUMBERS, _NUMBERS, _NUMBERS),
        st.builds(between, _STRINGS, _STRINGS, _STRINGS),
        st.builds(like, _STRINGS, _LETTERS, case=st.booleans()),
        st.builds(is_null, st.one_of(_STRINGS, _NUMBERS, _PREDICATES), inverse=st.booleans()),
        st.builds(contained, _ARRAYS_OF_STRINGS, _STRINGS),
        st.builds(contained, st.just(attribute("scores")), _NUMBERS),
        st.sampled_from([attribute("consents.marketing"), constant("TRUE", True), _NULL]),
        st.builds(negated, _PREDICATES),
        st.builds(joined, st.lists(_PREDICATES, min_size=1, max_size=3), every=st.booleans()),
    )
)


def depth(text: str) -> int:
    deepest = open_ = 0
    for character in text:
        open_ += {"(": 1, ")": -1}.get(character, 0)
        deepest = max(deepest, open_)
    return deepest


@settings(max_examples=examples(300), deadline=None)
@given(
    predicate=_PREDICATES.filter(lambda said: depth(said.text) < MAX_DEPTH // 2),
    profiles=st.lists(_PROFILES, min_size=1, max_size=6),
)
def test_a_predicate_means_what_plain_python_makes_of_it(
    predicate: Said, profiles: Sequence[Profile]
) -> None:
    expected = [predicate.means(profile) for profile in profiles]
    assert evaluated(predicate.text, profiles) == expected


# Whatever somebody writes

_FRAGMENTS: Final = st.sampled_from(
    [
        *("spend", "loyalty.points", "loyalty.tier", "tags", "consents.marketing", '"', "'"),
        *("AND", "OR", "NOT", "IN", "BETWEEN", "LIKE", "IS", "NULL", "TRUE", "CASE", "WHEN"),
        *("SELECT", "FROM", "read_csv", "(", ")", ",", ";", "--", "/*", "*/", ".", "*", "=", "<"),
        *("+", "-", "::", "[", "]", "{", "}", "->", "$1", "?", "lower", "coalesce", "contains"),
        *("1", "1.5", "'x'", "$$x$$", "e'x'", "x'ff'", "OVER", "END", "INTERVAL", "lambda", ":"),
        *("UNION", "EXISTS", "ANY", "ESCAPE", "COLLATE", "@", "#", "%", "||", "~", "!", "^", "\\"),
    ]
)
_ANYTHING: Final = st.one_of(
    st.text(max_size=40),
    st.text(string.printable, max_size=40),
    st.lists(_FRAGMENTS, max_size=14).map(" ".join),
    st.lists(_FRAGMENTS, max_size=10).map("".join),
)


@settings(max_examples=examples(1500), deadline=None)
@given(_ANYTHING)
def test_any_text_is_a_predicate_of_known_parts_or_an_error_of_ours(text: str) -> None:
    try:
        predicate = parse_predicate(text, ATTRIBUTES)
    except InvalidPredicate:
        return
    assert set(predicate.attributes) <= {one.path for one in ATTRIBUTES}
    with duckdb.connect() as database:
        columns = ", ".join(f"NULL::{one.type} AS {identifier(one.path)}" for one in ATTRIBUTES)
        ((_, tree),) = database.execute(
            f"SELECT 1, json_serialize_sql({literal(f'SELECT {predicate.sql}')})"
        ).fetchall()
        assert "SUBQUERY" not in tree
        database.execute(f"SELECT {predicate.sql} FROM (SELECT {columns}) AS merged")


def test_the_message_names_every_function() -> None:
    for name in ("lower", "upper", "length", "coalesce", "contains"):
        assert f"{name}(" in FUNCTIONS
