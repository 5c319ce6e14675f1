"""The host that a request is for: `host` or `host:port`, and nothing else (RFC 9112, section 3.2).

What is no such thing is refused instead of read in some way: another reader of it, a proxy or a
browser, may see another host in it than we do.
"""

import re
from ipaddress import AddressValueError, IPv6Address
from typing import Final

MAX_PORT: Final = 65_535

_FORM: Final = re.compile(
    r"""
    (?: \[ (?P<ipv6> [0-9A-Fa-f:.]{2,45} ) \]
      | (?P<name> [A-Za-z0-9_~-]+ (?: \. [A-Za-z0-9_~-]+ )* ) )
    (?: : (?P<port> [0-9]{1,5} ) )?
    """,
    re.VERBOSE,
)
_ORIGIN: Final = re.compile(r"https?://(?P<host>[^/?#]*)", re.IGNORECASE)


def host_in(text: str) -> str | None:
    """The host in `host` or `host:port`: a name, or an address without brackets.

    None for anything else: with a user in front, a dot at the end, the zone of an address, or a
    port that there cannot be.
    """
    found = _FORM.fullmatch(text)
    if found is None or (found["port"] and not 0 < int(found["port"]) <= MAX_PORT):
        return None
    if found["ipv6"] is None:
        return found["name"]
    try:
        return str(IPv6Address(found["ipv6"]))
    except AddressValueError:
        return None


def authority_in(origin: str) -> str | None:
    """What a web page's Origin has behind `http://` or `https://`; None for any other origin."""
    found = _ORIGIN.fullmatch(origin)
    return found["host"] if found and host_in(found["host"]) else None
