"""Exported profiles as the endpoint definitions of Amazon Pinpoint, in DuckDB's SQL.

Pinpoint knows no profiles but endpoints: addresses on a channel, each with the user whom
it belongs to. An identity becomes one where its namespace is a channel. The shape is that
of `EndpointResponse` in Pinpoint's API; what nobody knows here is left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from segexport.exports.fields import IDENTITY_MAP, PERSON_ID
from segexport.profiles.snapshots import Attribute
from segexport.sql import identifier, literal

CHANNELS: Mapping[str, str] = MappingProxyType(
    {
        "email": "EMAIL",
        "phone": "SMS",
        "apns": "APNS",
        "gcm": "GCM",
        "fcm": "GCM",
        "adm": "ADM",
        "baidu": "BAIDU",
    }
)
"""Identity namespaces, in lower case, and the `ChannelType` of their identities.

`Email` and `Phone` are standard namespaces of Experience Platform's Identity Service. It
has none for push tokens: the others are called as XDM calls the channels
(`https://ns.adobe.com/xdm/channels/apns` and so on), and FCM is what became of GCM.
"""

CONSENTS: Mapping[str, str] = MappingProxyType({"EMAIL": "email", "SMS": "sms"})
"""What `consents.marketing` calls a channel; all others are `PUSH`."""
PUSH: Final = "push"
ANY: Final = "any"
"""A no to this is one to every channel, whatever is said of it."""
REFUSALS: Final = ("n", "dn")
"""The values of a consent, in XDM's `consent-preferences`, that mean no."""

LOCATION: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "City": ("homeAddress.city",),
        "Country": ("homeAddress.countryCode",),
        "PostalCode": ("homeAddress.postalCode",),
        "Region": ("homeAddress.state", "homeAddress.stateProvince"),
    }
)
"""Members of `EndpointLocation`, and the attributes of XDM's postal address that mean them:
the first that has a value counts."""
LOCALE: Final = "preferredLanguage"
"""XDM's `profile-preferences-details`: a BCP 47 tag. Pinpoint writes `en_GB` for `en-GB`."""
TIMEZONE: Final = "timeZone"
"""As above: a name of the tz database, to Pinpoint as well."""

PROFILE: Final = identifier("profile,")
"""A profile as one struct, called as no attribute can be."""
NUMBERS: Final = frozenset({"BIGINT", "DOUBLE"})
"""Types of attributes that are metrics; all others are lists of strings."""
ID_DIGITS: Final = 32
"""Hexadecimal digits of an endpoint's id: 128 bits."""


def definitions(relation: str, attributes: Sequence[Attribute], application: str) -> str:
    """A query of one column, `line`: the endpoints of exported profiles as JSON objects.

    `relation` stands behind FROM and has all `attributes`, nested, and the identity map. An
    endpoint's id follows from person, namespace and identity alone.
    """
    user = _User(attributes)
    channels = ", ".join(f"{literal(ns)}: {literal(channel)}" for ns, channel in CHANNELS.items())
    endpoint = {
        "Id": f"left(sha256(user_id || ':' || namespace || ':' || address), {ID_DIGITS})",
        "ApplicationId": literal(application),
        "ChannelType": "channel",
        "Address": "address",
        "EndpointStatus": "'ACTIVE'",
        "OptOut": f"CASE WHEN {user.refuses('channel')} THEN 'ALL' ELSE 'NONE' END",
        "Location": user.location,
        "Demographic": user.demographic,
        "Metrics": user.metrics,
        "User": _object({"UserId": "user_id", "UserAttributes": user.attributes}),
    }
    return f"""
        WITH mapped AS (
            SELECT {PROFILE}, {PROFILE}.{identifier(PERSON_ID)}::VARCHAR AS user_id,
                unnest(map_entries({PROFILE}.{identifier(IDENTITY_MAP)})) AS entry
            FROM {relation} AS {PROFILE}),
        named AS (
            SELECT {PROFILE}, user_id, entry.key AS namespace,
                map {{{channels}}}[lower(entry.key)] AS channel,
                unnest(entry.value).id AS address
            FROM mapped)
        SELECT json_merge_patch('{{}}', to_json({_object(endpoint)})) AS line
        FROM named WHERE channel IS NOT NULL AND address <> ''
    """  # the patch leaves out what is null


@dataclass(frozen=True, slots=True)
class _User:
    """What is said of a profile, as SQL over `PROFILE`, a struct; NULL where nothing is."""

    all: Sequence[Attribute]

    @property
    def attributes(self) -> str:
        """The attributes that are no numbers by their paths, as lists of strings."""
        lists = ((one, self._strings(one)) for one in self.all if one.type not in NUMBERS)
        return _map(((one.path, strings) for one, strings in lists), "len(e.value) > 0")

    @property
    def metrics(self) -> str:
        """The numbers by their paths; JSON has none that is not finite."""
        numbers = (
            (one.path, f"{_at(one.path)}::DOUBLE") for one in self.all if one.type in NUMBERS
        )
        return _map(numbers, "isfinite(e.value)")

    @property
    def location(self) -> str:
        """Where the profile says that it lives."""
        return _known({member: self._first(paths) for member, paths in LOCATION.items()})

    @property
    def demographic(self) -> str:
        """Language and time zone."""
        locale = f"replace({self._first([LOCALE])}, '-', '_')"
        return _known({"Locale": locale, "Timezone": self._first([TIMEZONE])})

    def refuses(self, channel: str) -> str:
        """Whether the profile has said no to the channel, or to all."""
        refused = {
            name: f"({self._first([f'consents.marketing.{name}.val'])} IN {REFUSALS})"
            for name in (ANY, PUSH, *CONSENTS.values())
        }
        arms = " ".join(f"WHEN {literal(of)} THEN {refused[name]}" for of, name in CONSENTS.items())
        return f"{refused[ANY]} OR CASE {channel} {arms} ELSE {refused[PUSH]} END"

    def _first(self, paths: Sequence[str]) -> str:
        """The first value there is at these paths, as a string."""
        return f"coalesce({', '.join(['NULL::VARCHAR', *map(self._value, paths)])})"

    def _value(self, path: str) -> str:
        """The value at a path, which may lie within an attribute that is JSON."""
        for attribute in self.all:
            if attribute.path == path and not attribute.type.endswith("[]"):
                return f"{_at(path)}::VARCHAR"
            if attribute.type == "JSON" and path.startswith(f"{attribute.path}."):
                below = "".join(
                    f'."{step}"' for step in path.removeprefix(f"{attribute.path}.").split(".")
                )
                return f"json_extract_string({_at(attribute.path)}, {literal(f'${below}')})"
        return "NULL::VARCHAR"

    def _strings(self, attribute: Attribute) -> str:
        if attribute.type.endswith("[]"):
            return f"list_filter({_at(attribute.path)}::VARCHAR[], lambda s: s IS NOT NULL)"
        text = f"{_at(attribute.path)}::VARCHAR"
        if attribute.type == "JSON":
            text = f"nullif({text}, 'null')"
        return f"CASE WHEN {text} IS NOT NULL THEN [{text}] END"


def _at(path: str) -> str:
    """An attribute of `PROFILE`, however deep."""
    return ".".join([PROFILE, *map(identifier, path.split("."))])


def _object(members: Mapping[str, str]) -> str:
    return f"{{{', '.join(f'{literal(name)}: {value}' for name, value in members.items())}}}"


def _known(members: Mapping[str, str]) -> str:
    """An object, NULL where all of its members are."""
    return (
        f"CASE WHEN coalesce({', '.join(members.values())}) IS NOT NULL THEN {_object(members)} END"
    )


def _map(values: Iterator[tuple[str, str]], condition: str) -> str:
    """An object of those members whose value `e.value` meets the condition; NULL of none."""
    entries = [_object({"key": literal(path), "value": value}) for path, value in values]
    if not entries:
        return "NULL"
    kept = f"list_filter([{', '.join(entries)}], lambda e: {condition})"
    return f"CASE WHEN len({kept}) > 0 THEN map_from_entries({kept}) END"
