"""What makes a record refused: the rules that any JSON record has to keep, and how they are said.

A rule is SQL that finds who breaks it. The first rules, `READABLE`, are about JSON itself;
`parsed` gives the columns that they look at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from segexport.jobs.values import MAX_NAME
from segexport.sql import literal

MAX_ID: Final = 256
"""Characters in an identity or a person key's part."""
MAX_DEPTH: Final = 64
"""Objects and arrays in one another; DuckDB's JSON functions fail for good beyond 125."""

MAX_RECORD: Final = 16 * 2**20
"""Bytes in one record: of its text, or of the JSON that a row of Parquet makes."""
KEPT: Final = 1_000
"""Bytes, or characters, of a record that is too large to be kept."""

NOT_UTF8: Final = "not_utf8"
NOT_JSON: Final = "not_json"
TOO_LARGE: Final = "too_large"

WORD: Final = r"[^\x00-\x1f\x7f-\x9f]+"
"""Text without control characters, for DuckDB's regular expressions."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A reason to refuse a record: its stable name, an explanation, the SQL that finds it."""

    reason: str
    explanation: str
    broken: str


READABLE: Final = (
    Rule(
        TOO_LARGE,
        f"the record is larger than {MAX_RECORD >> 20} MiB; only its beginning is kept",
        "too_large",
    ),
    Rule(
        "too_deep",
        f"objects and arrays lie more than {MAX_DEPTH} deep in one another",
        "too_deep",
    ),
    Rule(NOT_JSON, "the record is not JSON", "document IS NULL"),
    Rule("not_an_object", "the record is JSON but not an object", "NOT is_object"),
    Rule(
        "duplicate_name",
        "an object has a name twice, and nobody can tell which value is meant; say it once, "
        "and no name both with and without the prefix xdm:",
        """list_contains(list_transform(
             list_append(json_keys(document, '$.**'), json_keys(document)), lambda names:
               CASE WHEN len(names) < 2 THEN false
                    WHEN len(names) = 2 THEN names[1] = names[2]
                    ELSE len(names) <> len(list_distinct(names)) END), true)""",
    ),
)

# One bracket in another, MAX_DEPTH times; RE2 cannot recurse, but this deep it can count.
_NESTED: Final = r"(?:[\[{]" * MAX_DEPTH + r"[\]}])*" * MAX_DEPTH
_BRACKETS: Final = r"""regexp_replace(raw, '"(?:[^"\\]|\\.)*"|[^\[\]{}]', '', 'g')"""
# The first condition is cheap and nearly always false.
_TOO_DEEP: Final = f"""
    strlen(raw) - strlen(replace(replace(raw, '[', ''), '{{', '')) > {MAX_DEPTH}
    AND NOT regexp_full_match({_BRACKETS}, {literal(_NESTED)})
    AND TRY_CAST(raw AS JSON) IS NOT NULL"""


# The quote is that of a name: in a string, one has a backslash before it.
_URI_NAME: Final = r"""([{,\s])"xdm:((?:[^"\\]|\\.)+"\s*:)"""
_URI_ID: Final = r"""([{,\s])"@id("\s*:)"""
_COMPACT: Final = f"""
    CASE WHEN contains(text, '"xdm:') OR contains(text, '"@id"')
         THEN regexp_replace(regexp_replace(text, {literal(_URI_NAME)}, '\\1"\\2', 'g'),
                             {literal(_URI_ID)}, '\\1"_id\\2', 'g')
         ELSE text END"""


def parsed(records: str, text: str = "raw") -> str:
    """A query for the JSON of records, which gives their position BIGINT and text VARCHAR.

    It gives what they give, and too_large BOOLEAN, too_deep BOOLEAN, document JSON (NULL where
    there is none that can be looked at) and is_object BOOLEAN. In the document, names of XDM's
    URI form (`xdm:person`, `@id`) are those of its compact form (`person`, `_id`). `text` is the
    SQL of what is read as JSON.
    """
    return f"""
        SELECT *, coalesce(json_type(document) = 'OBJECT', false) AS is_object
        FROM (SELECT *, strlen(raw) > {MAX_RECORD} AS too_large,
                     NOT too_large AND {_TOO_DEEP} AS too_deep,
                     CASE WHEN NOT (too_large OR too_deep) THEN TRY_CAST({_COMPACT} AS JSON) END
                       AS document
              FROM (SELECT *, {text} AS text FROM ({records})))"""


def refused_text() -> str:
    """SQL for the text that is kept of a record with a `reason`: all of it, unless that is much."""
    return f"CASE reason WHEN {literal(TOO_LARGE)} THEN left(raw, {KEPT}) ELSE raw END"


def first_broken(rules: Sequence[Rule]) -> str:
    """SQL for the reason of the first of these rules that is broken, NULL where none is."""
    arms = " ".join(f"WHEN {rule.broken} THEN {literal(rule.reason)}" for rule in rules)
    return f"CASE {arms} END"


def not_an_identity(namespace: str, id_: str) -> str:
    """SQL for whether these strings are no namespace and no id that an identity can have."""
    return (
        f"(length({id_}) NOT BETWEEN 1 AND {MAX_ID} "
        f"OR NOT regexp_full_match({id_}, {literal(WORD)}) "
        f"OR length({namespace}) NOT BETWEEN 1 AND {MAX_NAME} OR contains({namespace}, ':') "
        f"OR NOT regexp_full_match({namespace}, {literal(WORD)}))"
    )
