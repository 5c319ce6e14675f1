"""What profiles say of marketing on a channel, in DuckDB's SQL.

The consents are those of XDM's `https://ns.adobe.com/xdm/datatypes/consents-and-preferences`:
`consents.marketing.<channel>.val`. Nobody who may have said no is taken for one who has not:
whatever stands there and is no value of XDM counts as a no.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from segexport.profiles.leaves import leaf_at
from segexport.profiles.snapshots import Attribute
from segexport.sql import literal

CHANNELS: Mapping[str, str] = MappingProxyType({"EMAIL": "email", "SMS": "sms"})
"""What `consents.marketing` calls a channel of Pinpoint; all others are `PUSH`."""
PUSH: Final = "push"
ANY: Final = "any"
"""A no to this is one to every channel, whatever is said of it."""
PATHS: Mapping[str, str] = MappingProxyType(
    {name: f"consents.marketing.{name}.val" for name in (ANY, PUSH, *CHANNELS.values())}
)
"""Where each of them is."""

REFUSALS: Final = ("n", "dn")
"""The values, in XDM's `choice-value`, that mean no: said, or by default."""
OTHERS: Final = ("y", "dy", "p", "u", "LI", "CT", "CP", "VI", "PI")
"""All other values there: yes, said or by default; pending, unknown; and the reasons for which
no consent is needed. None of them is a no."""
_UNREADABLE: Final = ""
"""Stands for what is there and is no plain value."""


def spellings(path: str) -> Sequence[str]:
    """The path, and as stores of earlier versions have it of documents in XDM's URI form."""
    return path, ".".join(f"xdm:{name}" for name in path.split("."))


def consent(path: str, attributes: Sequence[Attribute], column: Callable[[str], str]) -> str:
    """VARCHAR: the consent at a path as it is written; NULL if nothing is there.

    Empty where a list or an object stands in its place, or something else than an object
    above it. `column` writes the column of an attribute's path. What is there without a
    prefix comes before what is there with one: it was loaded later.
    """
    said = (_consent(spelled, attributes, column) for spelled in spellings(path))
    return f"coalesce({', '.join(said)})"


def _consent(path: str, attributes: Sequence[Attribute], column: Callable[[str], str]) -> str:
    strange = [
        f"{column(one.path)} IS NOT NULL"
        for one in attributes
        if one.path.startswith(f"{path}.")
        or (one.type != "JSON" and path.startswith(f"{one.path}."))
    ]
    leaf = leaf_at(path, attributes, column)
    text = "NULL::VARCHAR"
    if leaf:
        text = f"coalesce({leaf.text}, CASE WHEN {leaf.is_there} THEN {literal(_UNREADABLE)} END)"
        strange += [leaf.is_blocked] if leaf.inside else []
    if not strange:
        return text
    return f"CASE WHEN {' OR '.join(strange)} THEN {literal(_UNREADABLE)} ELSE {text} END"


@dataclass(frozen=True, slots=True)
class Consents:
    """The consents of a profile; `said` is SQL for the `consent` at each of `PATHS`."""

    said: Mapping[str, str]

    def refuses(self, channel: str) -> str:
        """BOOLEAN: whether the profile has said no to the channel, which is SQL, or to all."""
        return self._either(channel, f"NOT IN {OTHERS}")

    def unknown(self, channel: str) -> str:
        """BOOLEAN: whether one of the values of which this depends is none of XDM's."""
        return self._either(channel, f"NOT IN {(*OTHERS, *REFUSALS)}")

    def _either(self, channel: str, condition: str) -> str:
        holds = {
            name: f"coalesce({self.said[path]} {condition}, false)" for name, path in PATHS.items()
        }
        arms = " ".join(f"WHEN {literal(of)} THEN {holds[name]}" for of, name in CHANNELS.items())
        return f"({holds[ANY]} OR CASE {channel} {arms} ELSE {holds[PUSH]} END)"
