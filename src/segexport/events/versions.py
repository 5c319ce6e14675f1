"""The versions of the contract `emitted`.

An event is written, stored and delivered by the version that was the newest when it was
stored, and is judged by no other. Versions differ in their schema and in the prefix of our
own keys. In compact form both prefixes are `_segexport`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from segexport.events.vocabulary import OWN


@dataclass(frozen=True, slots=True)
class Version:
    """One version: its number, the prefix of our own keys, the name of its bundled schema."""

    number: int
    own: str
    schema: str


FIRST: Final = Version(1, "urn:segexport:", "emitted-1")
"""Until keys at the root had to be such as XDM's classes admit. Read, delivered, not written."""
CURRENT: Final = Version(2, OWN, "emitted")
"""What is written."""

VERSIONS: Final[Mapping[int, Version]] = MappingProxyType(
    {version.number: version for version in (FIRST, CURRENT)}
)
"""All versions by number, oldest first."""
