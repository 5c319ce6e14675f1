"""Exported profiles as the endpoint definitions of Amazon Pinpoint, in DuckDB's SQL.

Pinpoint knows no profiles but endpoints: addresses on a channel, each with the user whom
it belongs to. An identity becomes one where its namespace is a channel. The shape is that
of `EndpointResponse` in Pinpoint's API; what nobody knows here is left out.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from segexport.exports.engines.consents import PATHS, Consents, consent, spellings
from segexport.exports.fields import IDENTITY_MAP, PERSON_ID
from segexport.profiles.catalogue import PolicyDefinition
from segexport.profiles.leaves import Leaf, leaf_at
from segexport.profiles.numbers import marked, plain
from segexport.profiles.precedence import merged_value
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

NAMED: Final = (*(path for paths in LOCATION.values() for path in paths), LOCALE, TIMEZONE)
"""The attributes with a meaning of their own, beside the consents."""

PROFILE: Final = identifier("profile,")
"""A profile as one struct, called as no attribute can be."""
APART: Final = identifier("apart,")
"""In it, attributes that lie in JSON columns and were merged each for itself, by their paths."""
ENTRY: Final = identifier("entry,")
"""The parameter of functions over attributes; `e.value` could be an attribute itself."""
ENTRIES: Final = 'STRUCT("key" VARCHAR, "value" VARCHAR)[]'
"""Stands for the attributes where there are none."""
ID_DIGITS: Final = 32
"""Hexadecimal digits of an endpoint's id: 128 bits."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The endpoints of exported profiles, as queries.

    `relation` stands behind FROM and has all `attributes`, nested, and the identity map;
    beside them, in `APART`, what is said at the paths `apart`.
    """

    relation: str
    attributes: Sequence[Attribute]
    apart: Collection[str] = ()

    @property
    def within_json(self) -> Collection[str]:
        """The paths with a meaning of their own that lie in JSON columns."""
        return [
            path
            for path in (*NAMED, *PATHS.values())
            for spelled in spellings(path)
            if (leaf := leaf_at(spelled, self.attributes, _at)) and leaf.inside
        ]

    def with_fragments(self, fragments: str, policy: PolicyDefinition) -> "Endpoints":
        """The same endpoints, with what lies in JSON columns read from `fragments`.

        Merging takes a JSON column for one value: of two objects in it the later one stays,
        where attributes with columns of their own are merged one by one. What an endpoint
        says of somebody must not depend on it, because one person whose `consents` are no
        object gives everybody such a column.
        """
        said = self._said(identifier)
        values = {path: merged_value(policy, said[path]) for path in self.within_json}
        written, merged, person = (identifier(f"{name},") for name in ("written", "merged", "id"))
        person_id = identifier(PERSON_ID)
        relation = f"""
            (SELECT {written}.*, {merged}.{APART} FROM {self.relation} AS {written}
             LEFT JOIN (SELECT {person_id} AS {person}, {_object(values)} AS {APART}
                        FROM {fragments} GROUP BY {person_id}) AS {merged}
             ON {written}.{person_id}::BIGINT = {person})"""
        return Endpoints(relation, self.attributes, frozenset(values))

    def definitions(self, application: str) -> str:
        """A query of one column, `line`: the endpoints as JSON objects.

        An endpoint's id follows from person, namespace and identity alone.
        """
        endpoint = {
            "Id": f"left(sha256(user_id || ':' || namespace || ':' || address), {ID_DIGITS})",
            "ApplicationId": literal(application),
            "ChannelType": "channel",
            "Address": "address",
            "EndpointStatus": "'ACTIVE'",
            "OptOut": f"CASE WHEN {CONSENTS.refuses('channel')} THEN 'ALL' ELSE 'NONE' END",
            "Location": _location(),
            "Demographic": _demographic(),
            "Metrics": _map("numbers"),
            "User": _object({"UserId": "user_id", "UserAttributes": _map("strings")}),
        }
        named = self._named({"numbers": self._numbers, "strings": self._strings})
        line = f"json_merge_patch('{{}}', to_json({_object(endpoint)}))"  # without what is null
        return f"SELECT {plain('line')} AS line FROM (SELECT {line} AS line FROM {named})"

    def unknown_consents(self) -> str:
        """A query of one number: the endpoints with a consent that is no value of XDM."""
        return f"SELECT count(*) FROM {self._named({})} AND {CONSENTS.unknown('channel')}"

    def _named(self, columns: Mapping[str, str]) -> str:
        """Behind FROM: user_id, namespace, channel, address and `said` of each endpoint.

        With more columns, over `PROFILE`; a profile's are made once for all its endpoints.
        """
        channels = ", ".join(
            f"{literal(namespace)}: {literal(channel)}" for namespace, channel in CHANNELS.items()
        )
        made = "".join(f", {value} AS {name}" for name, value in columns.items())
        return f"""
            (SELECT * EXCLUDE (entry), entry.key AS namespace,
                 map {{{channels}}}[lower(entry.key)] AS channel,
                 unnest(entry.value).id AS address
             FROM (SELECT {PROFILE}.{identifier(PERSON_ID)}::VARCHAR AS user_id,
                       unnest(map_entries({PROFILE}.{identifier(IDENTITY_MAP)})) AS entry,
                       {_object(self._said(_at))} AS said{made}
                   FROM {self.relation} AS {PROFILE}))
            WHERE channel IS NOT NULL AND address <> ''"""

    def _said(self, column: Callable[[str], str]) -> Mapping[str, str]:
        """What is said at each path that has a meaning of its own, as SQL for a string."""
        leaves = {path: leaf_at(path, self.attributes, column) for path in NAMED}
        said = {path: leaf.text if leaf else "NULL::VARCHAR" for path, leaf in leaves.items()}
        said |= {path: consent(path, self.attributes, column) for path in PATHS.values()}
        return said | {path: f"{PROFILE}.{APART}.{identifier(path)}" for path in self.apart}

    @property
    def _numbers(self) -> str:
        """Those of the attributes that are numbers; JSON has none that is not finite."""
        return self._entries(lambda leaf: leaf.exact, f"{ENTRY}.value IS NOT NULL")

    @property
    def _strings(self) -> str:
        """All other attributes as lists of strings."""
        return self._entries(lambda leaf: leaf.strings, f"len({ENTRY}.value) > 0")

    def _entries(self, read: Callable[[Leaf], str], condition: str) -> str:
        """Attributes as structs `key`, the path, and `value`, where it meets the condition.

        What reads JSON is long, and stands there once for all JSON columns.
        """
        typed = [
            _entry(one.path, read(Leaf(_at(one.path), one.type)))
            for one in self.attributes
            if one.type != "JSON"
        ]
        mixed = [
            _entry(one.path, marked(f"{_at(one.path)}::VARCHAR", is_stored=True))
            for one in self.attributes
            if one.type == "JSON"
        ]
        value = read(Leaf(f"{ENTRY}.value", "JSON"))
        known = f"list_filter([{', '.join(mixed)}], lambda {ENTRY}: {ENTRY}.value IS NOT NULL)"
        lists = [f"[{', '.join(typed)}]"] if typed else []
        if mixed:
            made = _object({"key": f"{ENTRY}.key", "value": value})
            lists.append(f"list_transform({known}, lambda {ENTRY}: {made})")
        if not lists:
            return f"NULL::{ENTRIES}"
        return f"list_filter(list_concat({', '.join(lists)}), lambda {ENTRY}: {condition})"


def _location() -> str:
    """Where the profile says that it lives."""
    firsts = (", ".join(map(_said_at, paths)) for paths in LOCATION.values())
    return _known(dict(zip(LOCATION, (f"coalesce({first})" for first in firsts), strict=True)))


def _demographic() -> str:
    """Language and time zone."""
    locale = f"replace({_said_at(LOCALE)}, '-', '_')"
    return _known({"Locale": locale, "Timezone": _said_at(TIMEZONE)})


def _said_at(path: str) -> str:
    return f"said.{identifier(path)}"


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


def _entry(path: str, value: str) -> str:
    return _object({"key": literal(path), "value": value})


def _map(entries: str) -> str:
    """An object of these entries, NULL of none."""
    return f"CASE WHEN len({entries}) > 0 THEN map_from_entries({entries}) END"


CONSENTS: Final = Consents({path: _said_at(path) for path in PATHS.values()})
