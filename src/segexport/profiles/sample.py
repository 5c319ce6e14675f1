"""A made-up profile store of any size, for trying things and for measuring.

Everything follows from the number of profiles and the seed: the same two give the same
rows. Chance is arithmetic on MD5, which no version of DuckDB changes: a profile has four
31-bit numbers `a` to `d`, and whatever is left to chance is `(number * factor + addend) % P`
with constants of its own.

What it resembles: segments of very different sizes, 20 memberships a profile on average;
1.3 fragments a profile, the later one partial; identities in CRMID (primary), ECID, Email
and Phone. What it holds on purpose: 1.5 % of the profiles have no identity map, 3 % of the
others no Email; 1 % share their Email with another; 5 % are test profiles; attributes may
be missing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import md5
from pathlib import Path
from typing import Final

from segexport.profiles.builder import Progress, Resources, buckets_for, draft, silent
from segexport.profiles.fragments import PERSON_ID
from segexport.profiles.merging import TEST_PROFILE, Incoming
from segexport.profiles.snapshots import Attribute, Snapshot
from segexport.sql import file_to_write, literal, parquet

SEGMENTS: Final = 200
MEMBERSHIPS_PER_PROFILE: Final = 20.0
SECOND_FRAGMENTS: Final = 0.3

_PRIME: Final = 2**31 - 1
_AUDIENCES: Final = (
    *("loyalty", "newsletter", "mobile-app", "web-store", "checkout", "wishlist", "returns"),
    *("outdoor", "running", "cycling", "travel", "gardening", "kitchen", "kids", "pets"),
)
_TRAITS: Final = (
    *("gold", "new", "active", "lapsed", "frequent", "high-value", "bargain", "weekend"),
    *("silver", "holiday", "abandoned"),
)
_FIRST_NAMES: Final = (
    *("Ada", "Amir", "Bo", "Carla", "Chen", "Dana", "Emil", "Fatima", "Goran", "Hana", "Ines"),
    *("Jonas", "Kofi", "Lena", "Mateo", "Nora", "Omar", "Priya", "Rosa", "Sven", "Tala", "Yuki"),
)
_LAST_NAMES: Final = (
    *("Abara", "Berg", "Costa", "Dubois", "Eriksen", "Fischer", "Garcia", "Haddad", "Ito"),
    *("Jansen", "Kowalski", "Larsen", "Moreau", "Novak", "Okafor", "Patel", "Rossi", "Silva"),
    *("Tanaka", "Weber", "Yilmaz", "Zhang"),
)
_CITIES: Final = (
    *("Amsterdam", "Berlin", "Bern", "Lisbon", "Lyon", "Madrid", "Osaka", "Oslo", "Porto"),
    *("San Jose", "Toronto", "Turin", "Wien"),
)
_COUNTRIES: Final = (
    *("NL", "DE", "CH", "PT", "FR", "ES", "JP", "NO", "PT"),
    *("US", "CA", "IT", "AT"),
)
_TIERS: Final = ("bronze", "bronze", "bronze", "silver", "silver", "gold")
_TIMES: Final = "TIMESTAMP '2025-01-01' + to_seconds({} % 31536000)"

_INGESTED: Final = "TIMESTAMP '2026-02-01'"

ATTRIBUTES: Final = (
    Attribute("consents.marketing.email.val", "VARCHAR"),
    Attribute("homeAddress.city", "VARCHAR"),
    Attribute("homeAddress.countryCode", "VARCHAR"),
    Attribute("loyalty.points", "BIGINT"),
    Attribute("loyalty.tier", "VARCHAR"),
    Attribute("mobilePhone.number", "VARCHAR"),
    Attribute("person.name.firstName", "VARCHAR"),
    Attribute("person.name.lastName", "VARCHAR"),
    Attribute("personalEmail.address", "VARCHAR"),
    Attribute(TEST_PROFILE, "BOOLEAN"),
)


EVENT_ATTRIBUTES: Final = (
    Attribute("_id", "VARCHAR"),
    Attribute("eventType", "VARCHAR"),
    Attribute("timestamp", "VARCHAR"),
    Attribute("web.webPageDetails.pageViews", "BIGINT"),
)


@dataclass(frozen=True, slots=True)
class SampleSegment:
    """A segment of the sample and the share of all profiles that it holds."""

    namespace: str
    segment: str
    share: float


def sample_segments() -> Sequence[SampleSegment]:
    """The segments of every sample: four in `ups`, then one in `AAM`, and so on.

    Largest first; sizes fall off from half of all profiles to a third of a percent.
    """
    weights = [math.exp(-5 * rank / SEGMENTS) for rank in range(SEGMENTS)]
    shares = [weight * MEMBERSHIPS_PER_PROFILE / sum(weights) for weight in weights]
    named = (f"{audience}-{trait}" for trait in _TRAITS for audience in _AUDIENCES)
    return tuple(
        SampleSegment("AAM", str(10_300 + rank), share)
        if rank % 5 == 4  # noqa: PLR2004  (every fifth)
        else SampleSegment("ups", next(named), share)
        for rank, share in enumerate(shares)
    )


def build_sample(
    store: Path,
    *,
    profiles: int,
    seed: int,
    now: datetime,
    resources: Resources,
    progress: Progress = silent,
) -> Snapshot:
    """Make `profiles` made-up profiles the newest snapshot of the store.

    Raises what `draft` raises.
    """
    buckets = buckets_for(round(profiles * (1 + SECOND_FRAGMENTS)))
    with draft(store, now=now, resources=resources, fresh=True) as snapshot:
        run = snapshot.connection.execute
        people = snapshot.staging / "people"
        run(f"""COPY ({_people(profiles, seed, buckets)}) TO {file_to_write(people)}
                (FORMAT parquet, PARTITION_BY (bucket))""")
        run(f"CREATE TEMP TABLE sample_segments AS {_segment_rows()}")

        def incoming(bucket: int) -> Incoming:
            files = sorted((people / f"bucket={bucket}").iterdir())
            run(f"CREATE OR REPLACE TEMP TABLE people AS FROM {parquet(files)}")
            return Incoming(
                fragments=_FRAGMENTS,
                events=_EVENTS,
                persons=_PERSONS,
                memberships=_MEMBERSHIPS,
            )

        return snapshot.publish(
            buckets=buckets,
            attributes=ATTRIBUTES,
            event_attributes=EVENT_ATTRIBUTES,
            incoming=incoming,
            progress=progress,
        )


def _number(name: str) -> str:
    """SQL for a profile's random number from 0 to P - 1; each name has its own."""
    digest = md5(name.encode(), usedforsecurity=False).digest()
    factor, addend = (int.from_bytes(part) % _PRIME for part in (digest[:4], digest[4:8]))
    return f"(({'abcd'[digest[8] % 4]} * {factor} + {addend}) % {_PRIME})"


def _happens(name: str, share: float) -> str:
    return f"({_number(name)} < {round(share * _PRIME)})"


def _pick(name: str, values: Sequence[str]) -> str:
    listed = ", ".join(map(literal, values))
    return f"[{listed}][1 + {_number(name)} % {len(values)}]"


def _segment_rows() -> str:
    rows = ", ".join(
        f"({literal(one.namespace)}, {literal(one.segment)}, {round(one.share * _PRIME)}, "
        f"{_factor(one)}, {_factor(one, 'addend')})"
        for one in sample_segments()
    )
    return f"SELECT * FROM (VALUES {rows}) AS rows(namespace, segment, size, factor, addend)"


def _factor(segment: SampleSegment, kind: str = "factor") -> int:
    name = f"{kind}:{segment.namespace}:{segment.segment}"
    return int.from_bytes(md5(name.encode(), usedforsecurity=False).digest()[:4]) % _PRIME


def _people(profiles: int, seed: int, buckets: int) -> str:
    return f"""
        SELECT *, {PERSON_ID} AS person_id, person_id % {buckets} AS bucket
        FROM (SELECT *, CASE WHEN known THEN 'CRMID:' || crm_id
                             ELSE 'profile-' || number END AS person_key
              FROM (SELECT number, a, b, c, d, {_happens("known", 0.985)} AS known,
                           'C' || lpad(number::VARCHAR, 10, '0') AS crm_id
                    FROM (SELECT number,
                                 (low & {_PRIME})::BIGINT AS a,
                                 (low >> 32 & {_PRIME})::BIGINT AS b,
                                 (high & {_PRIME})::BIGINT AS c,
                                 (high >> 32 & {_PRIME})::BIGINT AS d
                          FROM (SELECT number,
                                       md5_number_lower({seed} || ':' || number) AS low,
                                       md5_number_upper({seed} || ':' || number) AS high
                                FROM range({profiles}) AS numbers(number)))))"""


# Two of a hundred neighbours form a household: one last name, one e-mail address.
_HOUSEHOLD: Final = "(CASE WHEN number % 200 = 1 THEN number - 1 ELSE number END)"
_LAST_NAME: Final = "[{}][1 + {} * 7919 % 104729 % {}]".format(
    ", ".join(map(literal, _LAST_NAMES)), _HOUSEHOLD, len(_LAST_NAMES)
)
_EMAIL: Final = f"(lower({_LAST_NAME}) || '.' || {_HOUSEHOLD} || '@example.com')"
_PHONE: Final = "('+1' || (2000000000 + number)::VARCHAR)"
_ECID: Final = " || ".join(
    f"lpad({number}::VARCHAR, 10, '0')[{first}:]"
    for number, first in zip("abcd", "1122", strict=True)
)


def _identity(namespace: str, value: str, *, primary: bool = False) -> str:
    return (
        f"struct_pack(namespace := '{namespace}', id := {value}, \"primary\" := "
        f"{str(primary).lower()})"
    )


_IDENTITIES: Final = f"""CASE WHEN known THEN
      [{_identity("CRMID", "crm_id", primary=True)}]
      || CASE WHEN {_happens("Email", 0.97)} THEN [{_identity("Email", _EMAIL)}] ELSE [] END
      || CASE WHEN {_happens("ECID", 0.8)} THEN [{_identity("ECID", _ECID)}] ELSE [] END
      || CASE WHEN {_happens("Phone", 0.6)} THEN [{_identity("Phone", _PHONE)}] ELSE [] END
    END"""

_PERSONS: Final = f"SELECT person_id, person_key, {_IDENTITIES} AS identities FROM people"

# The first fragment has what does not change, the later one what does.
_FRAGMENTS: Final = f"""
    SELECT person_id, {_TIMES.format(_number("first"))} AS updated_at,
           {_INGESTED} AS ingested_at, 'crm' AS dataset_id, number AS rank,
           CASE WHEN {_happens("consent", 0.7)} THEN 'y' ELSE 'n' END
             AS "consents.marketing.email.val",
           {_pick("city", _CITIES)} AS "homeAddress.city",
           {_pick("city", _COUNTRIES)} AS "homeAddress.countryCode",
           CASE WHEN {_happens("loyal", 0.6)} THEN {_number("points")} % 20000 END
             AS "loyalty.points",
           CASE WHEN {_happens("loyal", 0.6)} THEN {_pick("tier", _TIERS)} END AS "loyalty.tier",
           CASE WHEN {_happens("Phone", 0.6)} THEN {_PHONE} END AS "mobilePhone.number",
           {_pick("first name", _FIRST_NAMES)} AS "person.name.firstName",
           {_LAST_NAME} AS "person.name.lastName",
           CASE WHEN {_happens("mail", 0.9)} THEN {_EMAIL} END AS "personalEmail.address",
           CASE WHEN {_happens("test", 0.05)} THEN true END AS "testProfile"
    FROM people
    UNION ALL
    SELECT person_id,
           {_TIMES.format(_number("first"))} + to_seconds({_number("second")} % 2592000),
           {_INGESTED}, 'loyalty', number, NULL,
           CASE WHEN {_happens("moved", 0.1)} THEN {_pick("new city", _CITIES)} END,
           CASE WHEN {_happens("moved", 0.1)} THEN {_pick("new city", _COUNTRIES)} END,
           {_number("new points")} % 20000, {_pick("new tier", _TIERS)},
           NULL, NULL, NULL, NULL, NULL
    FROM people WHERE {_happens("again", SECOND_FRAGMENTS)}"""

# One in five has visited a page, one in a hundred of them twice.
_EVENTS: Final = f"""
    SELECT person_id, happened_at, {_INGESTED} AS ingested_at, number AS rank,
           'visit-' || number || '-' || visit AS "_id",
           'web.webpagedetails.pageViews' AS "eventType",
           strftime(happened_at, '%Y-%m-%dT%H:%M:%SZ') AS "timestamp",
           1 + {_number("views")} % 30 AS "web.webPageDetails.pageViews"
    FROM (SELECT *, {_TIMES.format(_number("visit"))} + to_days(visit::INTEGER) AS happened_at
          FROM people, range(CASE WHEN {_happens("again", 0.01)} THEN 2 ELSE 1 END) AS v(visit)
          WHERE {_happens("visitor", 0.2)})"""

_CHANCE: Final = f"((a * factor + addend) % {_PRIME})"

_MEMBERSHIPS: Final = f"""
    SELECT person_id, namespace, segment,
           CASE WHEN b % 20 < 13 THEN 'realized' WHEN b % 20 < 17 THEN 'existing'
                ELSE 'exited' END AS status,
           TIMESTAMP '2025-01-01' + to_seconds((b * 127 + {_CHANCE}) % 31536000) AS qualified_at,
           0::BIGINT AS position
    FROM people CROSS JOIN sample_segments WHERE {_CHANCE} < size"""
