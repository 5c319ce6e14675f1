"""What the value of a part of a predicate can be."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from segexport.profiles.attributes import DECIMAL, scale_of
from segexport.profiles.numbers import DIGITS

Digits = tuple[int, int]
"""How many digits numbers may have before the point, and how many behind it."""
BIGINT: Final[Digits] = (19, 0)


class Kind(StrEnum):
    """What a part's value is, in words."""

    NUMBER = "a number"
    STRING = "a string"
    BOOLEAN = "true or false"
    NUMBERS = "an array of numbers"
    STRINGS = "an array of strings"
    TRUTHS = "an array of true or false"
    JSON = "of mixed types"
    ANY = "not known"  # NULL, or an attribute where there is no snapshot to ask


KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "BIGINT": Kind.NUMBER,
        "DOUBLE": Kind.NUMBER,
        "VARCHAR": Kind.STRING,
        "BOOLEAN": Kind.BOOLEAN,
        "BIGINT[]": Kind.NUMBERS,
        "DOUBLE[]": Kind.NUMBERS,
        "VARCHAR[]": Kind.STRINGS,
        "BOOLEAN[]": Kind.TRUTHS,
    }
)
"""By the type of an attribute, DECIMALs aside, whose beginning tells; all others are mixed."""
BOOLEANS: Final = (Kind.BOOLEAN, Kind.ANY)
STRINGS: Final = (Kind.STRING, Kind.ANY)
NUMBERS: Final = (Kind.NUMBER, Kind.ANY)
COMPARABLE: Final = (Kind.NUMBER, Kind.STRING, Kind.BOOLEAN, Kind.ANY)
MEMBERS: Final[Mapping[Kind, Sequence[Kind]]] = MappingProxyType(
    {
        Kind.NUMBERS: NUMBERS,
        Kind.STRINGS: STRINGS,
        Kind.TRUTHS: BOOLEANS,
        Kind.ANY: COMPARABLE,
    }
)
"""What the members of an array are, by what it is; those of one that is not known, anything."""


def kind_of(attribute_type: str) -> Kind:
    """What the values of an attribute of this type are."""
    if attribute_type.startswith(DECIMAL):
        return Kind.NUMBERS if attribute_type.endswith("[]") else Kind.NUMBER
    return KINDS.get(attribute_type, Kind.JSON)


def digits_of(attribute_type: str) -> Digits | None:
    """Those of an attribute of integers, of DECIMALs, or of arrays of them; others have none."""
    if attribute_type.startswith(DECIMAL):
        scale = scale_of(attribute_type)
        return DIGITS - scale, scale
    return BIGINT if attribute_type.startswith("BIGINT") else None
