"""Numbers in JSON of which a double would lose digits, as SQL for DuckDB.

DuckDB's JSON functions keep integers of 64 bits as they are, and the text of a number that no
double comes near; any other number they read as a double and write anew. So a number that they
would change is *marked*: it gets an exponent that puts it out of their reach, and loses it again
when they are done. All arguments are SQL for strings.
"""

from typing import Final

from segexport.sql import joined, literal

DIGITS: Final = 38
"""Digits, before and behind the point, of a number that is kept exactly: DuckDB's DECIMAL."""

LOST_INTEGER: Final = "2"
"""What to give `is_lost` to hear of integers only."""

_MARK: Final = "e99999"
_LOST: Final = "e99998"
_SAFE: Final = 15
"""Digits of which a double holds all, as long as its exponent has no more than two."""
_BEGINNINGS: Final = tuple("-0123456789")
_STRING: Final = r'"(?:[^"\\]|\\.)*"'
# Numbers, and all that stands between two of them.
_TOKENS: Final = rf"(?s)(?:{_STRING}|[^\"0-9-])+|-?[0-9][0-9.eE+-]*|."
_MANTISSA: Final = rf"[0-9][0-9.]{{{_SAFE},}}(?:[eE][-+]?[0-9]+)?"
_EXPONENT: Final = r"[0-9][0-9.]*[eE][-+]?[0-9]{3,}"
_LONG: Final = rf"(?:^|[:,\[])\s*(-?(?:{_MANTISSA}|{_EXPONENT}))"


def inexact(document: str) -> str:
    """The numbers in a JSON text that a double does not hold, as a list of their texts.

    Cheap, and nearly always empty. What looks like such a number within a string counts.
    """
    numbers = f"regexp_extract_all({document}, {literal(_LONG)}, 1)"
    return f"list_filter({numbers}, lambda number: NOT {in_double('number')})"


def marked(document: str, numbers: str | None = None, *, is_stored: bool = False) -> str:
    """The JSON text with every number marked that would be changed.

    One that cannot be kept is replaced by a number that `is_lost` finds, unless it `is_stored`
    already: older versions let in what is beyond the range of a double. `numbers` are the
    `inexact` ones of the text, if they are known.
    """
    changed = f"list_filter({numbers or inexact(document)}, lambda one: NOT {_in_bigint('one')})"
    lost = (
        f"WHEN regexp_full_match(token, '-?[0-9]+') THEN '{LOST_INTEGER}{_LOST}' ELSE '0.5{_LOST}'"
    )
    tokens = (
        f"list_transform(regexp_extract_all({document}, {literal(_TOKENS)}), lambda token: "
        f"CASE WHEN {_is_short('token')} OR token[1] NOT IN {_BEGINNINGS} THEN token "
        f"WHEN {in_double('token')} OR {_in_bigint('token')} THEN token "
        f"WHEN {_in_decimal('token')} THEN {_without_exponent('token')} || '{_MARK}' "
        f"{'ELSE token' if is_stored else lost} END)"
    )
    return f"CASE WHEN len({changed}) > 0 THEN {joined(tokens, '')} ELSE {document} END"


def plain(document: str) -> str:
    """The JSON without marks."""
    without = f"regexp_replace({document}, {literal(f'({_STRING})|{_MARK}')}, '\\1', 'g')"
    return f"CASE WHEN contains({document}, '{_MARK}') THEN {without}::JSON ELSE {document} END"


def is_lost(document: str, number: str = "") -> str:
    """Whether a marked JSON text has lost a number that cannot be kept."""
    return (
        f"(contains({document}, '{number}{_LOST}') AND contains("
        f"regexp_replace({document}, {literal(_STRING)}, '', 'g'), '{number}{_LOST}'))"
    )


def unmarked(number: str) -> str:
    """The text of one number without its mark."""
    return f"replace({number}::VARCHAR, '{_MARK}', '')"


def in_double(number: str) -> str:
    """Whether a double holds this number: written as a double is, it is the same number.

    The digits tell, because a double that is nearest to a number is as large.
    """
    double = f"TRY_CAST({number} AS DOUBLE)::VARCHAR"
    return (
        f"coalesce({double} = {number} OR {_significant(double)} = {_significant(number)}, false)"
    )


def digits(number: str) -> str:
    """How many digits the number has before the point, and how many behind it, as a struct.

    NULL of one that is not finite.
    """
    before = f"length(ltrim({_before(number)}, '0')) + {_exponent(number)}"
    behind = f"length(rtrim({_behind(number)}, '0')) - {_exponent(number)}"
    return (
        f"CASE WHEN regexp_matches({number}, '[0-9]') THEN struct_pack("
        f"before := greatest(0, {before}), behind := greatest(0, {behind})) END"
    )


def decimal_text(value: str, kind: str) -> str:
    """A DECIMAL of this type as the shortest text of the number."""
    text = f"{value}::VARCHAR"
    return text if kind.endswith(",0)") else f"regexp_replace({text}, '\\.?0+$', '')"


def decimal_json(value: str, kind: str) -> str:
    """A DECIMAL of this type, or a list of them, as marked JSON."""
    if kind.endswith("[]"):
        return f"to_json(list_transform({value}, lambda one: {decimal_json('one', kind[:-2])}))"
    return f"({decimal_text(value, kind)} || '{_MARK}')::JSON"


def _is_short(token: str) -> str:
    exponent = f"contains({token}, 'e') OR contains({token}, 'E')"
    return f"(length({token}) <= {_SAFE} AND NOT ({exponent}))"


def _in_bigint(number: str) -> str:
    return f"coalesce(TRY_CAST({number} AS BIGINT)::VARCHAR = {number}, false)"


def _in_decimal(number: str) -> str:
    known = f"regexp_full_match({number}, '-?(?:0|[1-9][0-9]*)(?:\\.[0-9]+)?(?:[eE][-+]?[0-9]+)?')"
    return f"({known} AND {digits(number)}.before + {digits(number)}.behind <= {DIGITS})"


def _without_exponent(number: str) -> str:
    """The number, of no more than `DIGITS` digits, as digits and a point."""
    all_digits = f"({_before(number)} || {_behind(number)})"
    point = f"(length({_before(number)}) + {_exponent(number)})"
    padded = f"({all_digits} || repeat('0', {point} - length({all_digits})))"
    shifted = (
        f"CASE WHEN {point} <= 0 THEN '0.' || repeat('0', -{point}) || {all_digits} "
        f"ELSE ltrim({padded}[:{point} - 1], '0') || {padded}[{point}:{point}] "
        f"|| '.' || {padded}[{point} + 1:] || '0' END"
    )
    sign = f"CASE WHEN {number}[1] = '-' THEN '-' ELSE '' END"
    return f"CASE WHEN regexp_matches({number}, '[eE]') THEN {sign} || {shifted} ELSE {number} END"


def _before(number: str) -> str:
    return f"regexp_extract({number}, '^-?([0-9]+)', 1)"


def _behind(number: str) -> str:
    return f"regexp_extract({number}, '\\.([0-9]+)', 1)"


def _exponent(number: str) -> str:
    return f"coalesce(TRY_CAST(regexp_extract({number}, '[eE][+]?(-?[0-9]+)$', 1) AS INTEGER), 0)"


def _significant(number: str) -> str:
    mantissa = f"replace(regexp_replace({number}, '[eE].*', ''), '.', '')"
    return f"regexp_extract({mantissa}, '^-?0*([0-9]*?)0*$', 1)"
