"""One part of a predicate, written as SQL; attributes of mixed types among them.

The column of an attribute has mixed types (JSON) as soon as one profile has another kind of
value there than the rest. A predicate says the same of the rest, then: it reads what is of
the kind that it asks for, and is unknown of all others.

Nor does what it says depend on how many digits the numbers of others have. DuckDB compares a
DECIMAL with an integer as DECIMALs, and fails where one is too large for the digits behind the
point; then numbers are compared as doubles.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlglot import exp

from segexport.profiles.leaves import Leaf
from segexport.profiles.numbers import DIGITS
from segexport.profiles.predicate_kinds import BIGINT, Digits, Kind

_HUGEINT: Final[Digits] = (39, 0)
"""Integers among mixed types are read as one."""


class Refusal(Exception):
    """A part of a predicate that is not allowed, and why."""

    def __init__(self, node: exp.Expr, why: str) -> None:
        self.node = node
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class Term:
    """A part that is allowed: its SQL, what its value is, and how to speak of it.

    `leaf` is the attribute itself, where the values of its column are of mixed types. `digits`
    are those of integers and DECIMALs; doubles have none.
    """

    sql: str
    kind: Kind
    words: str = "this"
    leaf: Leaf | None = None
    digits: Digits | None = None

    def read_as(self, kind: Kind) -> "Term":
        """This, where it is of mixed types: the values of one kind; all others are unknown."""
        if self.leaf is None:
            return self
        values = {
            Kind.NUMBER: self.leaf.number,
            Kind.STRING: self.leaf.string,
            Kind.BOOLEAN: self.leaf.truth,
        }
        digits = _HUGEINT if kind is Kind.NUMBER else None
        return replace(self, sql=values[kind], kind=kind, digits=digits)


def compared(terms: Sequence[Term], write: Callable[..., str]) -> Term:
    """A comparison of these terms, of which `write` makes SQL.

    Of numbers among mixed types, integers are compared as such: doubles would lose digits.
    """
    sql = [term.sql for term in terms]
    written = write(*sql)
    mixed = [place for place, term in enumerate(terms) if term.leaf and term.kind is Kind.NUMBER]
    if len(mixed) == 1:
        (place,) = mixed
        leaf = terms[place].leaf
        assert leaf is not None  # noqa: S101  (as `mixed` says)
        sql[place] = leaf.integer
        written = f"CASE WHEN {leaf.integer} IS NOT NULL THEN {write(*sql)} ELSE {written} END"
    if _common(terms):
        return Term(written, Kind.BOOLEAN)
    return Term(f"coalesce(TRY({written}), {write(*map(_double, terms))})", Kind.BOOLEAN)


def first_known(terms: Sequence[Term]) -> Term:
    """The first of these terms, of one kind, that is not NULL."""
    kind = next((each.kind for each in terms if each.kind is not Kind.ANY), Kind.ANY)
    digits = _common(terms)
    values = [term.sql if digits else _double(term) for term in terms]
    return Term(f"coalesce({', '.join(values)})", kind, digits=digits)


def contains(array: Term, member: Term) -> Term:
    """Whether an item of an array equals the member; unknown of no array."""
    items, item = array.sql, Term("item", member.kind, digits=array.digits)
    if array.leaf:
        items = array.leaf.items
        item = Term("item", Kind.JSON, leaf=Leaf("item", "JSON"))
    elif _common([array, member]):
        return Term(f"list_contains({items}, {member.sql})", Kind.BOOLEAN)
    if member.kind is Kind.ANY:  # NULL
        return Term(f"list_contains({items}, {member.sql})", Kind.BOOLEAN)
    equal = compared(
        [item.read_as(member.kind), member], lambda one, other: f"({one} = {other})"
    ).sql
    found = f"list_filter({items}, lambda item: coalesce({equal}, false))"
    return Term(f"CASE WHEN {member.sql} IS NOT NULL THEN len({found}) > 0 END", Kind.BOOLEAN)


def length(value: Leaf) -> Term:
    """The characters of a string, or the items of an array, of mixed types."""
    return Term(f"coalesce(length({value.string}), len({value.items}))", Kind.NUMBER, digits=BIGINT)


def _common(terms: Sequence[Term]) -> Digits | None:
    """The digits of a type that holds the numbers of all terms; None if DuckDB has none."""
    known = [term.digits for term in terms if term.digits] or [(0, 0)]
    before, behind = (max(side) for side in zip(*known, strict=True))
    return (before, behind) if behind == 0 or before + behind <= DIGITS else None


def _double(term: Term) -> str:
    return f"CAST({term.sql} AS DOUBLE)"
