"""People by chance, with everything odd that a store may hold.

The same number gives the same people, and fewer people are the first of more: so a test that
fails with a crowd can be narrowed down.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from random import Random
from typing import Any, Final

from support.people import NOW, Event, Fragment, Identity, Person, Standing

SEGMENTS: Final = (("ups", "gold"), ("ups", 'it\'s "odd"; --'), ("AAM", "gold"))
NAMESPACES: Final = ("Email", "ECID", "it's {odd}")
DATASETS: Final = ("crm", "web", 'it\'s "odd"; --')
MOMENTS: Final = tuple(NOW + timedelta(hours=hours, microseconds=hours) for hours in range(5))
KEYS: Final = ("x", "y", "X", "x ", "é", "\ufb01", "😀")
"""Ids of identities. Their order by code points is not that in UTF-16, nor that of a language."""
MOST_PEOPLE: Final = 41

_TEXTS: Final = (
    *("a", "b", "", " a", "a ", "A", "Ø'\"\\\n", "😀", "e\u0301", "nul\0", "null", "\u2028\t"),
)
_WHOLES: Final = (-3, 0, 2**53 + 1, 2**63 - 1, -(2**63))
_NUMBERS: Final = (0.0, -0.0, 1.5, -1e300, 5e-324, 0.1, math.inf, -math.inf, math.nan)
_DOCUMENTS: Final[tuple[Any, ...]] = (
    *({"email": [True, None], "it's": {"x": 1}}, [], {}, "text", "", 0.5, 2**63 - 1, False),
    ["\0😀"],
)


def some_people(number: int, size: int) -> Sequence[Person]:
    """So many people, at most `MOST_PEOPLE`: those of this number."""
    chance = Random(number)
    ids = chance.sample([*range(1, MOST_PEOPLE), 2**63 - 1], MOST_PEOPLE)
    return [_somebody(chance, id_) for id_ in ids[:size]]


def _somebody(chance: Random, id_: int) -> Person:
    statuses = ("realized", "realized", "existing", "exited")
    return Person(
        id_,
        [_fragment(chance) for _ in range(chance.choice((0, 1, 1, 2, 3)))],
        _identities(chance),
        chance.random() < 0.5,
        [_event(chance) for _ in range(chance.choice((0, 0, 1, 2, 3)))],
        {
            segment: Standing(chance.choice(statuses), chance.choice(MOMENTS))
            for segment in SEGMENTS
            if chance.random() < 0.6
        },
    )


def _identities(chance: Random) -> Mapping[str, Sequence[Identity]] | None:
    if chance.random() < 0.1:
        return None
    ids = (*KEYS, "", "x", "x", "x")
    return {
        namespace: [
            Identity(chance.choice(ids), primary=chance.random() < 0.4)
            for _ in range(chance.choice((0, 1, 1, 1, 2, 3)))
        ]
        for namespace in NAMESPACES
        if chance.random() < 0.6
    }


def _fragment(chance: Random) -> Fragment:
    values = {
        "consents": chance.choice(_DOCUMENTS),
        "homeAddress.city": chance.choice(_TEXTS),
        "loyalty.active": chance.random() < 0.5,
        "loyalty.points": chance.choice(_WHOLES),
        "loyalty.share": chance.choice(_NUMBERS),
        "loyalty.shares": _several(chance, _NUMBERS),
        "person.name.firstName": chance.choice(_TEXTS),
        "person.name.lastName": chance.choice(_TEXTS),
        "personalEmail.address": chance.choice(_TEXTS),
        "tags": _several(chance, _TEXTS),
    }
    return Fragment(
        _with_gaps(chance, values), chance.choice((*DATASETS, None)), chance.choice(MOMENTS)
    )


def _event(chance: Random) -> Event:
    values = {
        "commerce.price": chance.choice(_NUMBERS),
        "commerce.skus": _several(chance, _TEXTS),
        "context": chance.choice(_DOCUMENTS),
        "eventType": chance.choice(_TEXTS),
        "web.pageViews": chance.choice(_WHOLES),
    }
    always = {"_id": chance.choice(_TEXTS), "timestamp": "2026-02-01T00:00:00Z"}
    return Event(always | _with_gaps(chance, values), chance.choice(MOMENTS))


def _several(chance: Random, values: Sequence[Any]) -> list[Any]:
    return [chance.choice((*values, None)) for _ in range(chance.randrange(3))]


def _with_gaps(chance: Random, values: Mapping[str, Any]) -> dict[str, Any]:
    """Some of the values; the others are null, or not there at all."""
    return {
        name: value if chance.random() < 0.7 else None
        for name, value in values.items()
        if chance.random() < 0.8
    }
