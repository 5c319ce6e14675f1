"""The SQL in which engines differ: what the one set of queries is written with.

Everything that DuckDB and Spark SQL say alike (joins, `SEMI JOIN`, `CASE`, `coalesce`,
`flatten`, `map_from_entries`, `VALUES`) stands in the queries as it is; names and strings
are quoted by the dialect, too. All arguments but names, strings and times are SQL.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Protocol

from segexport.sql import identifier, joined, literal

# Regular expressions that RE2 and Java read alike. A string without escapes in one step, because
# Java's stack grows with every other one.
JSON_TOKENS: Final = r'"[^"\\]*(?:\\.[^"\\]*)*"|-?[A-Za-z]+|[^"A-Za-z-]+|-'
"""The tokens of a JSON text, of which words that stand alone are one each."""
NOT_FINITE: Final = r"(?i)-?(?:nan|inf|infinity)"
"""A token that is a number, but not a finite one, as DuckDB reads JSON."""
MAYBE_NOT_FINITE: Final = r"(?i)(?:^|[:,\[])-?(?:nan|inf)"
"""What a JSON text without white space matches that has such a token; few others do."""


class Dialect(Protocol):
    """How one engine says what engines say differently."""

    @property
    def materialized(self) -> str:
        """What stands behind AS in a common table that is to be made once, or nothing."""
        ...

    def identifier(self, name: str) -> str:
        """A quoted name."""
        ...

    def literal(self, value: str) -> str:
        """A string."""
        ...

    def timestamp(self, moment: datetime) -> str:
        """A point in time to compare a column of UTC timestamps without zone with."""
        ...

    def text(self, value: str) -> str:
        """A value as a string."""
        ...

    def digest(self, value: str) -> str:
        """The MD5 of a string, in whatever type takes 16 bytes and can be compared."""
        ...

    def rfc3339(self, value: str) -> str:
        """A UTC timestamp as a string such as 2018-01-01T00:00:00.000000Z."""
        ...

    def finite_json(self, value: str) -> str:
        """A JSON text with null in place of the numbers in it that are not finite."""
        ...

    def struct(self, fields: Mapping[str, str]) -> str:
        """A struct of at least one field, in this order."""
        ...

    def latest(self, value: str, key: str) -> str:
        """An aggregate: the value, among those that are not NULL, with the greatest key."""
        ...

    def listed(self, value: str, key: str) -> str:
        """An aggregate: the values as a list in the order of their keys, NULLs kept."""
        ...

    def transform(self, items: str, name: str, body: str) -> str:
        """The list of `body` for each item, which is called `name` in it; NULL of NULL."""
        ...

    def filter(self, items: str, name: str, condition: str) -> str:
        """The items for which `condition` holds, in which each is called `name`."""
        ...

    def least(self, items: str) -> str:
        """The least item of a list that has no NULL, NULL where it is empty."""
        ...

    def first(self, items: str) -> str:
        """The first item of a list that is not empty."""
        ...

    def length(self, items: str) -> str:
        """How many items a list has; NULL of NULL."""
        ...

    def exploded(self, items: str) -> str:
        """In a SELECT list: a row for each item."""
        ...

    def empty_list(self) -> str:
        """A list of nothing, which takes the type of the lists beside it."""
        ...

    def size(self, mapping: str) -> str:
        """How many keys a map has; NULL of NULL."""
        ...

    def entries(self, mapping: str) -> str:
        """A map as a list of structs `key`, `value`."""
        ...

    def at(self, mapping: str, key: str) -> str:
        """What a map has under a key, NULL where it has nothing."""
        ...


class DuckDBDialect:
    """DuckDB's SQL."""

    materialized = "MATERIALIZED"

    def identifier(self, name: str) -> str:
        """A quoted name."""
        return identifier(name)

    def literal(self, value: str) -> str:
        """A string."""
        return literal(value)

    def timestamp(self, moment: datetime) -> str:
        """The store's columns are TIMESTAMP in UTC; the cast says microseconds."""
        plain = moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
        return f"CAST({literal(plain)} AS TIMESTAMP)"

    def text(self, value: str) -> str:
        """A value as VARCHAR."""
        return f"CAST({value} AS VARCHAR)"

    def digest(self, value: str) -> str:
        """As an unsigned number."""
        return f"md5_number({value})"

    def rfc3339(self, value: str) -> str:
        """Always with microseconds."""
        return f"strftime({value}, '%Y-%m-%dT%H:%M:%S.%fZ')"

    def finite_json(self, value: str) -> str:
        """Token by token, where there may be such a number at all."""
        tokens = (
            f"list_transform(regexp_extract_all({value}, {literal(JSON_TOKENS)}), lambda token: "
            f"CASE WHEN regexp_full_match(token, {literal(NOT_FINITE)}) THEN 'null' ELSE token END)"
        )
        return (
            f"CASE WHEN regexp_matches({value}, {literal(MAYBE_NOT_FINITE)}) "
            f"THEN {joined(tokens, '')}::JSON ELSE {value} END"
        )

    def struct(self, fields: Mapping[str, str]) -> str:
        """A struct literal."""
        inner = ", ".join(f"{literal(name)}: {value}" for name, value in fields.items())
        return f"{{{inner}}}"

    def latest(self, value: str, key: str) -> str:
        """`arg_max` passes over NULLs."""
        return f"arg_max({value}, {key})"

    def listed(self, value: str, key: str) -> str:
        """`list` keeps NULLs."""
        return f"list({value} ORDER BY {key})"

    def transform(self, items: str, name: str, body: str) -> str:
        """`list_transform`."""
        return f"list_transform({items}, lambda {name}: {body})"

    def filter(self, items: str, name: str, condition: str) -> str:
        """`list_filter`."""
        return f"list_filter({items}, lambda {name}: {condition})"

    def least(self, items: str) -> str:
        """`list_min`; structs compare field by field."""
        return f"list_min({items})"

    def first(self, items: str) -> str:
        """Lists count from 1."""
        return f"{items}[1]"

    def length(self, items: str) -> str:
        """`len`."""
        return f"len({items})"

    def exploded(self, items: str) -> str:
        """`unnest`."""
        return f"unnest({items})"

    def empty_list(self) -> str:
        """An empty list literal."""
        return "[]"

    def size(self, mapping: str) -> str:
        """`cardinality`."""
        return f"cardinality({mapping})"

    def entries(self, mapping: str) -> str:
        """`map_entries`."""
        return f"map_entries({mapping})"

    def at(self, mapping: str, key: str) -> str:
        """Brackets, which give NULL for a key that is not there."""
        return f"{mapping}[{key}]"
