"""Endpoint definitions, slowly and obviously in Python: what exported ones are compared with."""

import gzip
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from segexport.profiles.catalogue import TIMESTAMP_ORDERED
from segexport.profiles.snapshots import Attribute
from support.people import ATTRIBUTES, Identity, Person
from support.plain_export import merged

APPLICATION: Final = "810c7aab86d42fb2b56c8c966example"
ENDPOINT_ATTRIBUTES: Final = (
    *ATTRIBUTES,
    Attribute("homeAddress.countryCode", "VARCHAR"),
    Attribute("homeAddress.postalCode", "VARCHAR"),
    Attribute("homeAddress.state", "VARCHAR"),
    Attribute("homeAddress.stateProvince", "VARCHAR"),
    Attribute("preferredLanguage", "VARCHAR"),
    Attribute("timeZone", "VARCHAR"),
    # Called as something of the query is.
    Attribute("e.value", "VARCHAR"),
    Attribute("entry.key", "VARCHAR"),
    Attribute("item", "VARCHAR[]"),
    Attribute("namespace", "VARCHAR"),
    Attribute("profile", "VARCHAR"),
    Attribute("said.timeZone", "VARCHAR"),
    Attribute("strings", "VARCHAR[]"),
    Attribute("text", "VARCHAR"),
)
CHANNELS: Final = {
    "Email": "EMAIL",
    "Phone": "SMS",
    "APNS": "APNS",
    "GCM": "GCM",
    "FCM": "GCM",
    "ADM": "ADM",
    "baidu": "BAIDU",
}

REACHABLE: Final = [
    Person(
        1,
        [
            {
                "person.name.lastName": 'O"Neill\n\\ é \x1f',
                "loyalty.points": 5,
                "loyalty.share": 0.25,
                "loyalty.shares": [1.5, 2.0],
                "loyalty.active": True,
                "tags": ["a", None, "b"],
                "homeAddress.city": "Bern",
                "homeAddress.countryCode": "CH",
                "homeAddress.stateProvince": "CH-BE",
                "preferredLanguage": "de-CH",
                "timeZone": "Europe/Zurich",
                "e.value": "v",
                "entry.key": "k",
                "item": ["i", None],
                "namespace": "n",
                "profile": "p",
                "said.timeZone": "z",
                "strings": ["s"],
                "text": "t",
            },
            {"loyalty.points": 6, "homeAddress.postalCode": "3011"},
        ],
        {
            "Email": [Identity("one@example.com", primary=True), Identity("two@example.com")],
            "Phone": [Identity("+41315550100")],
            "ECID": [Identity("4711")],
        },
    ),
    Person(
        2,
        [{"consents": {"marketing": {"email": {"val": "n"}, "push": {"val": "dn"}}}}],
        {name: [Identity(f"token of {name}")] for name in CHANNELS},
    ),
    Person(
        3,
        [
            {
                "consents": {"marketing": {"any": {"val": "n"}, "sms": {"val": "y"}}},
                "homeAddress.state": "Texas",
                "homeAddress.stateProvince": "US-TX",
                "loyalty.share": float("inf"),
                "tags": [],
            }
        ],
        {"Phone": [Identity("+12065550100")]},
    ),
    Person(4, [{}], {"Email": [Identity("")], "ECID": [Identity("4712")]}),
    Person(5, [{"person.name.lastName": "nobody reaches"}]),
    Person(6, [{}], {"Email": [Identity("six@example.com")]}),
]
"""People with every channel, no channel, and something to say of consents and places."""


def endpoints_of(
    people: Sequence[Person], attributes: Sequence[Attribute] = ENDPOINT_ATTRIBUTES
) -> Sequence[Mapping[str, Any]]:
    """The endpoints of these people, without their ids."""
    return [
        _endpoint(person, namespace, one.id, attributes)
        for person in people
        for namespace, identities in (person.identities or {}).items()
        for one in identities
        if namespace in CHANNELS and one.id
    ]


def read_endpoints(*files: bytes) -> tuple[Sequence[Mapping[str, Any]], Sequence[str]]:
    """What gzipped files of endpoints hold: the endpoints without their ids, and the ids."""
    lines = [line for file in files for line in gzip.decompress(file).decode().split("\n") if line]
    found = [json.loads(line, parse_constant=_no_number) for line in lines]
    return found, [endpoint.pop("Id") for endpoint in found]


def in_order(endpoints: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Endpoints by user and address."""
    return sorted(endpoints, key=lambda one: (int(one["User"]["UserId"]), one["Address"]))


def _endpoint(
    person: Person, namespace: str, address: str, attributes: Sequence[Attribute]
) -> Mapping[str, Any]:
    channel = CHANNELS[namespace]
    values = {one.path: merged(TIMESTAMP_ORDERED, person.known, one.path) for one in attributes}
    consents = (values.get("consents") or {}).get("marketing", {})
    asked = {"EMAIL": "email", "SMS": "sms"}.get(channel, "push")
    refused = any(consents.get(name, {}).get("val") in {"n", "dn"} for name in ("any", asked))
    numbers = {one.path for one in attributes if one.type in {"BIGINT", "DOUBLE"}}
    metrics = {
        path: float(values[path])
        for path in numbers
        if values[path] is not None and abs(values[path]) != float("inf")
    }
    language = values.get("preferredLanguage")
    endpoint: Mapping[str, Any] = _without_nothing(
        {
            "ApplicationId": APPLICATION,
            "ChannelType": channel,
            "Address": address,
            "EndpointStatus": "ACTIVE",
            "OptOut": "ALL" if refused else "NONE",
            "Location": {
                "City": values.get("homeAddress.city"),
                "Country": values.get("homeAddress.countryCode"),
                "PostalCode": values.get("homeAddress.postalCode"),
                "Region": values.get("homeAddress.state")
                or values.get("homeAddress.stateProvince"),
            },
            "Demographic": {
                "Locale": language and language.replace("-", "_"),
                "Timezone": values.get("timeZone"),
            },
            "Metrics": metrics,
            "User": {
                "UserId": str(person.id),
                "UserAttributes": {
                    path: _strings(value) for path, value in values.items() if path not in numbers
                },
            },
        }
    )
    return endpoint


def _strings(value: Any) -> Sequence[str]:
    if isinstance(value, list):
        return [str(one).removesuffix(".0") for one in value if one is not None]
    if isinstance(value, dict):
        return [json.dumps(value, separators=(",", ":"))]
    return [] if value is None else [str(value).lower() if value in {True, False} else value]


def _without_nothing(value: Any) -> Any:
    """The value without members that are null or empty, at whatever depth."""
    if not isinstance(value, dict):
        return value
    kept = {name: _without_nothing(below) for name, below in value.items()}
    return {name: below for name, below in kept.items() if below not in (None, {}, [])}


def _no_number(text: str) -> Any:
    raise AssertionError(f"{text} is no JSON")
