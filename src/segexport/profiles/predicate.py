"""Predicates over merged attributes: who is in a segment, in a safe piece of SQL.

What somebody writes is parsed, and every part of it has to be one that is known here; then
it is written anew. Nothing of the text itself ever reaches the database.

SQL's logic of three values holds: what is unknown about a person does not put him into the
segment. Every operation has a result for all values, so that no profile can break a query:
arithmetic is that of doubles, and what is divided by zero is unknown.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlglot import Dialect, exp
from sqlglot.errors import ParseError, SqlglotError

from segexport.errors import InvalidPredicate
from segexport.profiles.predicate_term import Refusal
from segexport.profiles.predicate_terms import FUNCTIONS, Terms
from segexport.profiles.snapshots import Attribute

MAX_LENGTH: Final = 8_192
"""Characters of a predicate."""
MAX_DEPTH: Final = 16
"""Parentheses, functions and operators in one another. AND and OR in a row count once."""

_SHOWN: Final = 24  # characters of a predicate in a message
_QUOTE: Final = 'an attribute whose name is no plain word stands in double quotes: "order".id'


@dataclass(frozen=True, slots=True)
class Predicate:
    """A checked predicate.

    `attributes` are the paths that it reads, each once; `sql` is a DuckDB expression, TRUE
    for who is in the segment, over columns `merged."<path>"`.
    """

    attributes: tuple[str, ...]
    sql: str


def parse_predicate(text: str, attributes: Sequence[Attribute] | None) -> Predicate:
    """Check a predicate against the attributes of a snapshot.

    Without any (None: there is no snapshot yet) attributes may have any name and type.

    Raises `InvalidPredicate` with what is wrong, at which character, and what to do.
    """
    node = _parsed(text)
    kinds: Mapping[str, str] | None = None
    if attributes is not None:
        kinds = {attribute.path: attribute.type for attribute in attributes}
    terms = Terms(kinds, MAX_DEPTH)
    try:
        term = terms.whole(node)
    except Refusal as refusal:
        raise _invalid(text, _start(refusal.node), str(refusal)) from None
    return Predicate(tuple(terms.attributes), term.sql)


def _parsed(text: str) -> exp.Expr:
    if len(text) > MAX_LENGTH:
        raise InvalidPredicate(
            f"the predicate has {len(text):,} characters, {MAX_LENGTH:,} are allowed; "
            "say less, or make several segments"
        )
    for at, character in enumerate(text):
        if character not in "\t\n\r" and unicodedata.category(character) in {"Cc", "Cs"}:
            raise _invalid(text, at, f"a predicate has no control character {character!r}")
    language = Dialect.get_or_raise("duckdb")
    try:
        found = language.parse_into(exp.Condition, text, error_message_context=MAX_LENGTH)
    except ParseError as error:
        (first, *_) = error.errors
        raise _invalid(text, len(first["start_context"]), _misread(first)) from None
    except RecursionError:
        raise InvalidPredicate(
            f"the predicate is nested too deeply; {MAX_DEPTH} in one another are allowed"
        ) from None
    except SqlglotError:
        raise InvalidPredicate(
            "the predicate cannot be taken apart into words: look for a quote that is not closed"
        ) from None
    if len(found) > 1:
        raise InvalidPredicate("a predicate is one condition; take out the semicolon")
    predicate = found[0] if found else None
    if predicate is None:
        raise InvalidPredicate("the predicate says nothing; give a condition: loyalty.points > 0")
    return predicate


def _misread(error: Mapping[str, str]) -> str:
    what = str(error["description"])
    if "token" in what:
        return f"this does not belong to one condition; {_QUOTE}"
    if "number of provided arguments" in what:
        return f"too many arguments; the functions are {FUNCTIONS}"
    if "missing" in what:
        return f"something is missing here; {_QUOTE}"
    return what[0].lower() + what[1:]


def _start(node: exp.Expr) -> int:
    """Where the first word of a part stands in the text."""
    return min((part.meta["start"] for part in node.walk() if "start" in part.meta), default=0)


def _invalid(text: str, at: int, why: str) -> InvalidPredicate:
    near = text[at : at + _SHOWN]
    return InvalidPredicate(f"the predicate is wrong at character {at + 1} ({near!r}): {why}")
