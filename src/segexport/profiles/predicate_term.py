"""One part of a predicate, written as SQL; attributes of mixed types among them.

The column of an attribute has mixed types (JSON) as soon as one profile has another kind of
value there than the rest. A predicate says the same of the rest, then: it reads what is of
the kind that it asks for, and is unknown of all others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from segexport.profiles.leaves import Leaf
from segexport.profiles.predicate_kinds import Kind


class Refusal(Exception):
    """A part of a predicate that is not allowed, and why."""

    def __init__(self, node: exp.Expr, why: str) -> None:
        self.node = node
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class Term:
    """A part that is allowed: its SQL, what its value is, and how to speak of it.

    `leaf` is the attribute itself, where the values of its column are of mixed types.
    """

    sql: str
    kind: Kind
    words: str = "this"
    leaf: Leaf | None = None

    def read_as(self, kind: Kind) -> "Term":
        """This, where it is of mixed types: the values of one kind; all others are unknown."""
        if self.leaf is None:
            return self
        values = {
            Kind.NUMBER: self.leaf.number,
            Kind.STRING: self.leaf.string,
            Kind.BOOLEAN: self.leaf.truth,
        }
        return replace(self, sql=values[kind], kind=kind)


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
    return Term(written, Kind.BOOLEAN)


def contains(array: Leaf, member: Term) -> Term:
    """Whether an item of an array, one of mixed types, equals the member; unknown of no array."""
    if member.kind is Kind.ANY:  # NULL
        return Term(f"list_contains({array.items}, {member.sql})", Kind.BOOLEAN)
    item = Term("item", Kind.JSON, leaf=Leaf("item", "JSON")).read_as(member.kind)
    equal = compared([item, member], lambda one, other: f"({one} = {other})").sql
    found = f"list_filter({array.items}, lambda item: coalesce({equal}, false))"
    return Term(f"CASE WHEN {member.sql} IS NOT NULL THEN len({found}) > 0 END", Kind.BOOLEAN)


def length(value: Leaf) -> Term:
    """The characters of a string, or the items of an array, of mixed types."""
    return Term(f"coalesce(length({value.string}), len({value.items}))", Kind.NUMBER)
