"""The parts that a predicate may have: each checked, and written anew as SQL."""

import difflib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType
from typing import Final

from sqlglot import exp

from segexport.profiles.attributes import NAME
from segexport.profiles.leaves import Leaf
from segexport.profiles.predicate_kinds import (
    BIGINT,
    BOOLEANS,
    COMPARABLE,
    MEMBERS,
    NUMBERS,
    STRINGS,
    Kind,
    digits_of,
    kind_of,
)
from segexport.profiles.predicate_term import (
    Refusal,
    Term,
    compared,
    contains,
    first_known,
    length,
)
from segexport.sql import identifier, literal

MERGED: Final = "merged"
"""What the columns of merged attributes are qualified with."""
FUNCTIONS: Final = "lower(x), upper(x), length(x), coalesce(x, y, …) and contains(array, x)"


class Terms:
    """Writes the parts of one predicate. `attributes` are the paths read so far, each once."""

    def __init__(self, types: Mapping[str, str] | None, max_depth: int) -> None:
        self.attributes: dict[str, None] = {}
        self._types = types
        self._max_depth = max_depth

    def whole(self, node: exp.Expr) -> Term:
        """The predicate, which is true or false. Raises `Refusal`."""
        term = self.of(node, 0)
        if term.kind is Kind.JSON:
            return term.read_as(Kind.BOOLEAN)
        if term.kind not in BOOLEANS:
            raise Refusal(node, f"{term.words} is {term.kind}: compare it with something")
        return term

    def of(self, node: exp.Expr, depth: int) -> Term:
        """The part, which lies so deep. Raises `Refusal`."""
        word = _WORDS.get(type(node))
        if word is None:
            raise Refusal(node, _stranger(node))
        if depth > self._max_depth:
            raise Refusal(node, f"more than {self._max_depth} parts lie in one another")
        write, known = word
        for name, value in node.args.items():
            if name not in known and value:
                of_it = value if isinstance(value, exp.Expr) else node
                raise Refusal(of_it, _stranger(of_it, f"{name.upper()} is"))
        return write(self, node, depth + 1)

    def attribute(self, node: exp.Expr, _depth: int) -> Term:
        """An attribute, by its dotted path."""
        path = ".".join(self._names(node))
        self.attributes[path] = None
        sql, kind = f"{MERGED}.{identifier(path)}", self._kind(node, path)
        column = (self._types or {}).get(path, "JSON")
        mixed = Leaf(sql, column) if kind is Kind.JSON else None
        return Term(sql, kind, path, mixed, digits_of(column))

    def _names(self, node: exp.Expr) -> Sequence[str]:
        behind: list[exp.Expr] = []
        while isinstance(node, exp.Dot):
            behind.append(node.expression)
            node = node.this
        if not isinstance(node, exp.Column):
            raise Refusal(node, _stranger(node))
        parts = [node.args.get(part) for part in ("catalog", "db", "table", "this")]
        names = [part for part in (*parts, *reversed(behind)) if part is not None]
        for name in names:
            if not isinstance(name, exp.Identifier):
                raise Refusal(name, _stranger(name))
            if not re.fullmatch(NAME, name.name):
                raise Refusal(
                    name, f"{name.name!r} is no name of an attribute; each stands in its own quotes"
                )
        return [name.name for name in names]

    def _kind(self, node: exp.Expr, path: str) -> Kind:
        if self._types is None:
            return Kind.ANY
        if path in self._types:
            return kind_of(self._types[path])
        if any(self._types[above] == "JSON" for above in _above(path) if above in self._types):
            return Kind.JSON
        inside = [known for known in self._types if known.startswith(f"{path}.")]
        if inside:
            raise Refusal(node, f"{path!r} is an object; name a value in it, such as {inside[0]!r}")
        close = difflib.get_close_matches(path, self._types, n=3)
        hint = "`segexport profiles show` lists them"
        if close:
            hint = f"did you mean {' or '.join(map(repr, close))}?"
        raise Refusal(node, f"the profile store has no attribute {path!r}; {hint}")

    def literal(self, node: exp.Expr, _depth: int) -> Term:
        """A string or a number."""
        text = str(node.this)
        if node.is_string:
            return Term(literal(text), Kind.STRING, repr(text))
        digits = (len(text), 0) if text.isdecimal() else None
        return Term(_number(node, text), Kind.NUMBER, text, digits=digits)

    def boolean(self, node: exp.Expr, _depth: int) -> Term:
        """TRUE or FALSE."""
        word = "TRUE" if node.this else "FALSE"
        return Term(word, Kind.BOOLEAN, word)

    def null(self, _node: exp.Expr, _depth: int) -> Term:
        """NULL."""
        return Term("NULL", Kind.ANY, "NULL")

    def paren(self, node: exp.Expr, depth: int) -> Term:
        """What stands in parentheses; everything gets its own when it is written."""
        return self.of(node.this, depth)

    def logic(self, node: exp.Expr, depth: int) -> Term:
        """Operands joined by AND, or by OR: any number of them."""
        operands = []
        kind, last = type(node), node
        while isinstance(last, kind):
            operands.append(last.expression)
            last = last.this
        written = [self._one_of(BOOLEANS, each, depth).sql for each in (last, *reversed(operands))]
        return Term(f"({f' {node.key.upper()} '.join(written)})", Kind.BOOLEAN)

    def negation(self, node: exp.Expr, depth: int) -> Term:
        """NOT."""
        return Term(f"(NOT {self._one_of(BOOLEANS, node.this, depth).sql})", Kind.BOOLEAN)

    def equality(self, node: exp.Expr, depth: int) -> Term:
        """= and <>."""
        return self._comparison(node, depth, COMPARABLE)

    def order(self, node: exp.Expr, depth: int) -> Term:
        """<, <=, > and >=."""
        return self._comparison(node, depth, (*NUMBERS, *STRINGS))

    def _comparison(self, node: exp.Expr, depth: int, kinds: Sequence[Kind]) -> Term:
        terms = self._alike([node.this, node.expression], depth, kinds)
        return compared(terms, lambda left, right: f"({left} {_OPERATORS[type(node)]} {right})")

    def among(self, node: exp.Expr, depth: int) -> Term:
        """IN (…)."""
        if not node.expressions:
            raise Refusal(node, "IN needs values in parentheses: IN ('gold', 'silver')")
        terms = self._alike([node.this, *node.expressions], depth, COMPARABLE)
        return compared(terms, lambda value, *values: f"({value} IN ({', '.join(values)}))")

    def between(self, node: exp.Expr, depth: int) -> Term:
        """BETWEEN … AND …, both included."""
        parts = [node.this, node.args["low"], node.args["high"]]
        terms = self._alike(parts, depth, (*NUMBERS, *STRINGS))
        return compared(terms, lambda value, low, high: f"({value} BETWEEN {low} AND {high})")

    def like(self, node: exp.Expr, depth: int, escape: str = "") -> Term:
        """LIKE and ILIKE, with a pattern that is written out."""
        value = self._one_of(STRINGS, node.this, depth)
        pattern = node.expression
        if not (isinstance(pattern, exp.Literal) and pattern.is_string):
            raise Refusal(pattern, "a pattern is a string that is written out: LIKE 'A%'")
        _refuse_loose_escape(pattern, escape)
        word = f"{'NOT ' if node.args.get('negate') else ''}{node.key.upper()}"
        ending = f" ESCAPE {literal(escape)}" if escape else ""
        return Term(f"({value.sql} {word} {literal(pattern.name)}{ending})", Kind.BOOLEAN)

    def escaped(self, node: exp.Expr, depth: int) -> Term:
        """LIKE with an ESCAPE."""
        pattern, escape = node.this, node.expression
        if not isinstance(pattern, exp.Like | exp.ILike):
            raise Refusal(node, "ESCAPE belongs to LIKE 'pattern' and ILIKE 'pattern'")
        if not (isinstance(escape, exp.Literal) and escape.is_string and len(escape.name) == 1):
            raise Refusal(escape, "ESCAPE names one character: LIKE '10!%' ESCAPE '!'")
        return self.like(pattern, depth, escape.name)

    def test(self, node: exp.Expr, depth: int) -> Term:
        """IS NULL, IS TRUE and IS FALSE; NOT comes as a part of its own."""
        if isinstance(node.expression, exp.Null):
            return Term(f"({self.of(node.this, depth).sql} IS NULL)", Kind.BOOLEAN)
        if not isinstance(node.expression, exp.Boolean):
            raise Refusal(node.expression, "IS stands before NULL, NOT NULL, TRUE or FALSE only")
        value = self._one_of(BOOLEANS, node.this, depth)
        wanted = self.of(node.expression, depth)
        return Term(f"({value.sql} IS NOT DISTINCT FROM {wanted.sql})", Kind.BOOLEAN)

    def arithmetic(self, node: exp.Expr, depth: int) -> Term:
        """+, -, *, / and %."""
        left, right = (
            f"CAST({self._one_of(NUMBERS, each, depth).sql} AS DOUBLE)"
            for each in (node.this, node.expression)
        )
        if isinstance(node, exp.Div | exp.Mod):
            right = f"nullif({right}, 0)"
        return Term(f"({left} {_OPERATORS[type(node)]} {right})", Kind.NUMBER)

    def negative(self, node: exp.Expr, depth: int) -> Term:
        """A minus before a number."""
        value = self._one_of(NUMBERS, node.this, depth)
        if isinstance(node.this, exp.Literal):
            return Term(f"(-{value.sql})", Kind.NUMBER, f"-{value.words}", digits=value.digits)
        return Term(f"(-CAST({value.sql} AS DOUBLE))", Kind.NUMBER)

    def letters(self, node: exp.Expr, depth: int) -> Term:
        """lower(x) and upper(x)."""
        return Term(f"{node.key}({self._one_of(STRINGS, node.this, depth).sql})", Kind.STRING)

    def length(self, node: exp.Expr, depth: int) -> Term:
        """length(x): of a string in characters, of an array in elements."""
        value = self.of(node.this, depth)
        if value.leaf:
            return length(value.leaf)
        value = _require((*STRINGS, *MEMBERS), node.this, value)
        return Term(f"length({value.sql})", Kind.NUMBER, digits=BIGINT)

    def coalesce(self, node: exp.Expr, depth: int) -> Term:
        """coalesce(x, y, …): the first that is known."""
        return first_known(self._alike([node.this, *node.expressions], depth, COMPARABLE))

    def contains(self, node: exp.Expr, depth: int) -> Term:
        """contains(array, x)."""
        array = self.of(node.this, depth)
        if array.leaf:
            return contains(array, self._one_of(COMPARABLE, node.expression, depth))
        if not isinstance(node.this, exp.Column | exp.Dot) or array.kind not in MEMBERS:
            raise Refusal(
                node.this,
                f"contains() looks into an attribute that is an array, {array.words} is "
                f"{array.kind}; for a part of a string: LIKE '%part%'",
            )
        return contains(array, self._one_of(MEMBERS[array.kind], node.expression, depth))

    def _one_of(self, kinds: Sequence[Kind], node: exp.Expr, depth: int) -> Term:
        return _require(kinds, node, self.of(node, depth))

    def _alike(
        self, nodes: Sequence[exp.Expr], depth: int, kinds: Sequence[Kind]
    ) -> Sequence[Term]:
        """Terms of one kind, which is one of `kinds`."""
        terms = [self.of(node, depth) for node in nodes]
        known = [term.kind for term in terms if term.kind in kinds and term.kind is not Kind.ANY]
        if known:
            terms = [term.read_as(known[0]) for term in terms]
        for node, term in zip(nodes, terms, strict=True):
            if term.kind not in kinds:
                how = "ask IS NULL, or contains() of an array"
                if term.leaf:
                    how = "compare it with a value of one type, ask IS NULL, or contains()"
                if term.kind is Kind.BOOLEAN:
                    how = "compare it with = or <>"
                raise Refusal(node, f"{term.words} is {term.kind}: {how}")
        first = next((term for term in terms if term.kind is not Kind.ANY), None)
        for node, term in zip(nodes, terms, strict=True):
            if first and term.kind not in (first.kind, Kind.ANY):
                raise Refusal(
                    node,
                    f"{first.words} is {first.kind} and {term.words} is {term.kind}: they "
                    "cannot be compared; a string stands in single quotes, a number in none",
                )
        return terms


_Word = tuple[Callable[[Terms, exp.Expr, int], Term], frozenset[str]]

_BINARY: Final = frozenset({"this", "expression"})
_UNARY: Final = frozenset({"this"})
_WORDS: Final[Mapping[type[exp.Expr], _Word]] = MappingProxyType(
    {
        exp.Column: (Terms.attribute, frozenset({"this", "table", "db", "catalog"})),
        exp.Dot: (Terms.attribute, _BINARY),
        exp.Literal: (Terms.literal, frozenset({"this", "is_string"})),
        exp.Boolean: (Terms.boolean, _UNARY),
        exp.Null: (Terms.null, frozenset()),
        exp.Paren: (Terms.paren, _UNARY),
        exp.And: (Terms.logic, _BINARY),
        exp.Or: (Terms.logic, _BINARY),
        exp.Not: (Terms.negation, _UNARY),
        exp.EQ: (Terms.equality, _BINARY),
        exp.NEQ: (Terms.equality, _BINARY),
        exp.LT: (Terms.order, _BINARY),
        exp.LTE: (Terms.order, _BINARY),
        exp.GT: (Terms.order, _BINARY),
        exp.GTE: (Terms.order, _BINARY),
        exp.In: (Terms.among, frozenset({"this", "expressions"})),
        exp.Between: (Terms.between, frozenset({"this", "low", "high"})),
        exp.Like: (Terms.like, _BINARY | {"negate"}),
        exp.ILike: (Terms.like, _BINARY | {"negate"}),
        exp.Escape: (Terms.escaped, _BINARY),
        exp.Is: (Terms.test, _BINARY),
        exp.Add: (Terms.arithmetic, _BINARY),
        exp.Sub: (Terms.arithmetic, _BINARY),
        exp.Mul: (Terms.arithmetic, _BINARY),
        exp.Div: (Terms.arithmetic, _BINARY),
        exp.Mod: (Terms.arithmetic, _BINARY),
        exp.Neg: (Terms.negative, _UNARY),
        exp.Lower: (Terms.letters, _UNARY),
        exp.Upper: (Terms.letters, _UNARY),
        exp.Length: (Terms.length, _UNARY),
        exp.Coalesce: (Terms.coalesce, frozenset({"this", "expressions"})),
        exp.Contains: (Terms.contains, _BINARY),
        exp.ArrayContains: (Terms.contains, _BINARY),
    }
)
"""Every part that there is: what writes it, and which members it may have."""

_OPERATORS: Final[Mapping[type[exp.Expr], str]] = MappingProxyType(
    {
        exp.EQ: "=",
        exp.NEQ: "<>",
        exp.LT: "<",
        exp.LTE: "<=",
        exp.GT: ">",
        exp.GTE: ">=",
        exp.Add: "+",
        exp.Sub: "-",
        exp.Mul: "*",
        exp.Div: "/",
        exp.Mod: "%",
    }
)


def _require(kinds: Sequence[Kind], node: exp.Expr, term: Term) -> Term:
    """The term, which has to be of one of these kinds, or of mixed types where there is one."""
    if term.kind in kinds:
        return term
    wanted = list(dict.fromkeys(kind for kind in kinds if kind is not Kind.ANY))
    if term.leaf and len(wanted) == 1:
        return term.read_as(wanted[0])
    raise Refusal(node, f"{term.words} is {term.kind}, here stands {' or '.join(wanted)}")


def _above(path: str) -> Iterator[str]:
    """`a` and `a.b` of `a.b.c`."""
    return accumulate(path.split(".")[:-1], "{}.{}".format)


def _stranger(node: exp.Expr, subject: str = "this is") -> str:
    if isinstance(node, exp.Query | exp.Exists):
        return "a predicate looks at one profile and has no subquery"
    if isinstance(node, exp.Cast):
        return "types stay what they are; a date is a string, and compared with one"
    if isinstance(node, exp.Anonymous):
        return f"there is no function {node.name!r}; there are {FUNCTIONS}"
    return (
        f"{subject} not a part of the language; its functions are {FUNCTIONS}, and an attribute "
        "whose name is no plain word stands in double quotes"
    )


def _number(node: exp.Expr, text: str) -> str:
    """A number as DuckDB reads it: an integer of up to 63 bits, or a double."""
    try:
        value = int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise Refusal(node, f"{text!r} is no number") from None
    if isinstance(value, int):
        if value.bit_length() > 63:  # noqa: PLR2004  (said in the docstring)
            raise Refusal(node, "an integer has at most 63 bits")
        return str(value)
    if not math.isfinite(value):
        raise Refusal(node, "the number is too large")
    written = repr(value)
    return written if "e" in written else f"{written}e0"


def _refuse_loose_escape(pattern: exp.Expr, escape: str) -> None:
    if not escape:
        return
    escaping = False
    for character in pattern.name:
        escaping = character == escape and not escaping
    if escaping:
        raise Refusal(pattern, f"the pattern ends with {escape!r}, which escapes nothing")
