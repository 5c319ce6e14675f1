"""Spark's SQL (4 and later, ANSI mode)."""

from collections.abc import Mapping
from datetime import UTC, datetime

from segexport.exports.engines.dialect import JSON_TOKENS, MAYBE_NOT_FINITE, NOT_FINITE


class SparkDialect:
    """How Spark says what engines say differently; see `segexport.exports.engines.dialect`."""

    materialized = ""

    def identifier(self, name: str) -> str:
        """A name in backticks."""
        return "`" + name.replace("`", "``") + "`"

    def literal(self, value: str) -> str:
        """A string; backslashes are Spark's escape."""
        return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"

    def timestamp(self, moment: datetime) -> str:
        """Parquet's timestamps without zone are TIMESTAMP_NTZ."""
        plain = moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
        return f"CAST({self.literal(plain)} AS TIMESTAMP_NTZ)"

    def text(self, value: str) -> str:
        """A value as STRING."""
        return f"CAST({value} AS STRING)"

    def digest(self, value: str) -> str:
        """As BINARY."""
        return f"unhex(md5({value}))"

    def rfc3339(self, value: str) -> str:
        """Always with microseconds; the session's time zone is UTC."""
        return f"date_format({value}, {self.literal(_RFC_3339)})"

    def finite_json(self, value: str) -> str:
        """Token by token, where there may be such a number at all."""
        tokens = (
            f"transform(regexp_extract_all({value}, {self.literal(JSON_TOKENS)}, 0), "
            f"token -> CASE WHEN token RLIKE {self.literal(f'^{NOT_FINITE}$')} THEN 'null' "
            "ELSE token END)"
        )
        return (
            f"CASE WHEN {value} RLIKE {self.literal(MAYBE_NOT_FINITE)} "
            f"THEN array_join({tokens}, '') ELSE {value} END"
        )

    def struct(self, fields: Mapping[str, str]) -> str:
        """`named_struct`."""
        inner = ", ".join(f"{self.literal(name)}, {value}" for name, value in fields.items())
        return f"named_struct({inner})"

    def latest(self, value: str, key: str) -> str:
        """`max_by` would take a NULL for a value."""
        return f"max_by({value}, {key}) FILTER (WHERE {value} IS NOT NULL)"

    def listed(self, value: str, key: str) -> str:
        """`collect_list` drops NULLs, but no structs of them; it has no order of its own.

        Sorted by the keys alone: the values may be maps, which cannot be compared.
        """
        keyed = f"collect_list(named_struct('k', {key}, 'v', {value}))"
        order = "CASE WHEN l.k < r.k THEN -1 WHEN l.k > r.k THEN 1 ELSE 0 END"
        return f"transform(array_sort({keyed}, (l, r) -> {order}), e -> e.v)"

    def transform(self, items: str, name: str, body: str) -> str:
        """`transform`."""
        return f"transform({items}, {name} -> {body})"

    def filter(self, items: str, name: str, condition: str) -> str:
        """`filter`."""
        return f"filter({items}, {name} -> {condition})"

    def least(self, items: str) -> str:
        """`array_min`; structs compare field by field."""
        return f"array_min({items})"

    def first(self, items: str) -> str:
        """`element_at` counts from 1."""
        return f"element_at({items}, 1)"

    def length(self, items: str) -> str:
        """`array_size`, which is NULL of NULL in every mode."""
        return f"array_size({items})"

    def exploded(self, items: str) -> str:
        """`explode`."""
        return f"explode({items})"

    def empty_list(self) -> str:
        """An array of VOID."""
        return "array()"

    def size(self, mapping: str) -> str:
        """By its keys, for the sake of NULL."""
        return f"array_size(map_keys({mapping}))"

    def entries(self, mapping: str) -> str:
        """`map_entries`."""
        return f"map_entries({mapping})"

    def at(self, mapping: str, key: str) -> str:
        """`try_element_at`, which gives NULL for a key that is not there."""
        return f"try_element_at({mapping}, {key})"


_RFC_3339 = "yyyy-MM-dd'T'HH:mm:ss.SSSSSS'Z'"
