"""A value of a profile, read alike whatever type its column has, as SQL for DuckDB.

The type of a column follows from the values of all people: one odd value makes it JSON, and
an object beside plain values makes one JSON column of all that lies below. What is read of
one person must not depend on that.

| column | text | number | truth | strings |
|---|---|---|---|---|
| VARCHAR | itself | | | a list of itself |
| BIGINT, DOUBLE, DECIMAL … | its digits, `5` of `5.0`, `1.5` of `1.50` | itself | | |
| BOOLEAN | `true`, `false` | | itself | a list of its text |
| a list | | | | the texts of its items, without NULLs |
| JSON | as in a column of the value's own type; of an object only strings: its JSON | | | |

A column of any other type is read as the JSON that it becomes.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from segexport.profiles.attributes import DECIMAL
from segexport.profiles.numbers import decimal_json, plain, unmarked
from segexport.profiles.snapshots import Attribute
from segexport.sql import literal

_NUMBER: Final = re.compile(r"BIGINT|HUGEINT|DOUBLE|DECIMAL\(.*\)")
_PLAIN: Final = frozenset({"VARCHAR", "BOOLEAN"})
_INTEGER: Final = "-?[0-9]+"
_ZEROS: Final = r"\.0+$|(\.[0-9]*[1-9])0+$"


def leaf_at(
    path: str, attributes: Iterable[Attribute], column: Callable[[str], str]
) -> "Leaf | None":
    """The value at a dotted path: an attribute, or what lies within one that is JSON.

    `column` writes the column of an attribute's path.
    """
    for attribute in attributes:
        if attribute.path == path:
            return Leaf(column(path), attribute.type)
        if attribute.type == "JSON" and path.startswith(f"{attribute.path}."):
            names = path.removeprefix(f"{attribute.path}.").split(".")
            return Leaf(column(attribute.path), attribute.type, tuple(names))
    return None


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value: a column of this type by the snapshot, or what has these names within its JSON.

    Each member is SQL that is NULL where the value is absent, null, or nothing of the kind.
    A JSON column may be one of strings, as Spark writes it.
    """

    column: str
    type: str
    inside: tuple[str, ...] = ()

    @property
    def json(self) -> str:
        """JSON: the value, for a JSON column."""
        return f"nullif({self._json}::VARCHAR, 'null')::JSON"

    @property
    def text(self) -> str:
        """VARCHAR: the one string, number or truth value."""
        if self.type == "VARCHAR":
            return self.column
        if self.type == "BOOLEAN":
            return f"{self.column}::VARCHAR"
        if _is_number(self.type):
            # A double as JSON has it, and not as SQL.
            return _digits(f"to_json({self.column})" if self.type == "DOUBLE" else self.column)
        if self._is_list:
            return "NULL::VARCHAR"
        return f"CASE WHEN json_type({self._json}) NOT IN ('OBJECT', 'ARRAY') THEN {self._text} END"

    @property
    def string(self) -> str:
        """VARCHAR: the value where it is a string."""
        if self.type == "VARCHAR":
            return self.column
        return self._if("= 'VARCHAR'", f"json_extract_string({self._json}, '$')", "VARCHAR")

    @property
    def number(self) -> str:
        """DOUBLE: the value where it is a number."""
        if _is_number(self.type):
            return f"{self.column}::DOUBLE"
        return self._if(_IS_NUMBER, f"TRY_CAST({self._json}::VARCHAR AS DOUBLE)", "DOUBLE")

    @property
    def exact(self) -> str:
        """JSON: the value where it is a finite number, with all its digits, maybe marked.

        For marks see `segexport.profiles.numbers`; within JSON they have to be there.
        """
        if not _is_number(self.type):
            return self._if(_IS_NUMBER, f"{self._json}::JSON", "JSON")
        if self.type.startswith(DECIMAL):
            return decimal_json(self.column, self.type)
        return f"CASE WHEN isfinite({self.column}::DOUBLE) THEN to_json({self.column}) END"

    @property
    def integer(self) -> str:
        """HUGEINT: the value where it is a number in JSON that is written without a fraction."""
        written = f"{self._json}::VARCHAR"
        is_one = f"{_IS_NUMBER} AND regexp_full_match({written}, {literal(_INTEGER)})"
        return self._if(is_one, f"TRY_CAST({written} AS HUGEINT)", "HUGEINT")

    @property
    def truth(self) -> str:
        """BOOLEAN: the value where it is true or false."""
        if self.type == "BOOLEAN":
            return self.column
        return self._if("= 'BOOLEAN'", f"{self._json}::VARCHAR = 'true'", "BOOLEAN")

    @property
    def strings(self) -> str:
        """VARCHAR[]: the value as strings; numbers have none."""
        if _is_number(self.type):
            return "NULL::VARCHAR[]"
        if self.type in _PLAIN:
            return f"CASE WHEN {self.column} IS NOT NULL THEN [{self.text}] END"
        if self._is_list:
            item = Leaf("item", self.type[:-2])
            return _known_items(f"list_transform({self.column}, lambda item: {item.text})")
        items = _known_items(f"list_transform({self.items}, lambda item: {_text_of('item')})")
        return (
            f"CASE json_type({self._json}) WHEN 'ARRAY' THEN {items} "
            f"WHEN 'VARCHAR' THEN [{self._text}] WHEN 'BOOLEAN' THEN [{self._text}] "
            f"WHEN 'OBJECT' THEN CASE WHEN {self.is_there} THEN [{self._text}] END END"
        )

    @property
    def items(self) -> str:
        """JSON[]: the items of the value, for a JSON column, where it is an array."""
        return self._if("= 'ARRAY'", f"json_extract({self._json}, '$[*]')", "JSON[]")

    @property
    def is_there(self) -> str:
        """BOOLEAN: whether there is any value. Null and an empty object are none."""
        if self.type in _PLAIN or _is_number(self.type) or self._is_list:
            return f"({self.column} IS NOT NULL)"
        said = f"json_merge_patch('{{}}', {self._json})::VARCHAR"  # leaves out what is null
        return f"coalesce({said} NOT IN ('null', '{{}}'), false)"

    @property
    def is_blocked(self) -> str:
        """BOOLEAN: whether something stands above the value that is no object."""
        above = [
            f"json_type({self.column}{_pointer(self.inside[:depth])})"
            for depth in range(len(self.inside))
        ]
        blocked = " OR ".join(
            f"coalesce({each} NOT IN ('OBJECT', 'NULL'), false)" for each in above
        )
        return f"({blocked or 'false'})"

    @property
    def _is_list(self) -> bool:
        element = self.type.removesuffix("[]")
        return element != self.type and (element in _PLAIN or _is_number(element))

    @property
    def _json(self) -> str:
        if self.type != "JSON":
            return f"to_json({self.column})"
        if not self.inside:
            return self.column
        found = f"json_extract({self.column}{_pointer(self.inside)})"
        if any(map(str.isdecimal, self.inside)):  # it may be the place of an item as well
            return f"CASE WHEN NOT {self.is_blocked} THEN {found} END"
        return found

    @property
    def _text(self) -> str:
        return _text_of(self._json)

    def _if(self, condition: str, value: str, kind: str) -> str:
        """The value of a JSON column whose type meets a condition; of others, NULL."""
        if self.type in _PLAIN or _is_number(self.type) or self._is_list:
            return f"NULL::{kind}"
        return f"CASE WHEN json_type({self._json}) {condition} THEN {value} END"


_IS_NUMBER: Final = "NOT IN ('OBJECT', 'ARRAY', 'VARCHAR', 'BOOLEAN', 'NULL')"


def _is_number(kind: str) -> bool:
    return _NUMBER.fullmatch(kind) is not None


def _text_of(value: str) -> str:
    """A JSON value as a string: strings without quotes, all others as they are written.

    Without marks, where numbers have some.
    """
    return (
        f"CASE WHEN json_type({value}) IN ('VARCHAR', 'NULL') "
        f"THEN json_extract_string({value}, '$') "
        f"WHEN json_type({value}) {_IS_NUMBER} THEN {_digits(unmarked(value))} "
        f"ELSE {plain(value)}::VARCHAR END"
    )


def _digits(number: str) -> str:
    """A number without zeros at the end of its fraction, of which some types add their own."""
    return f"regexp_replace({number}::VARCHAR, {literal(_ZEROS)}, '\\1')"


def _known_items(texts: str) -> str:
    return f"list_filter({texts}, lambda text: text IS NOT NULL)"


def _pointer(names: Sequence[str]) -> str:
    """The argument of DuckDB's JSON functions that leads to what has these names; none, nothing.

    In a path of theirs a name that is an asterisk would stand for all names, even in quotes.
    """
    steps = (name.replace("~", "~0").replace("/", "~1") for name in names)
    return f", {literal('/' + '/'.join(steps))}" if names else ""
