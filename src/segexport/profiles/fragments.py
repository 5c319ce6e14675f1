"""What a profile fragment and an event are, and why a record is refused as one.

A fragment is a JSON object with `identityMap`, `segmentMembership`, `testProfile`, a person
key, an update time, and attributes (everything but the first two). Its shapes are those of
the XDM individual profile: field groups IdentityMap and Segment Membership Details. An event
is one in the shape of an XDM ExperienceEvent: with `_id`, `timestamp`, `identityMap` or
`personID`, and attributes (everything but `identityMap`).

`checked` turns raw records into checked ones in SQL; a record that breaks a rule keeps its
text and gets the first broken rule's reason, all others give the columns that are merged.
"""

from dataclasses import dataclass
from typing import Final

import orjson

from segexport.jobs.values import MAX_NAME
from segexport.profiles.attributes import NAME, pointer
from segexport.profiles.nulls import said_of_identities, said_of_memberships
from segexport.profiles.numbers import DIGITS, LOST_INTEGER, inexact, is_lost, marked
from segexport.profiles.rules import (
    MAX_ID,
    READABLE,
    WORD,
    Rule,
    first_broken,
    not_an_identity,
    parsed,
    refused_text,
)
from segexport.sql import literal

UPDATE_TIMES: Final = (
    "extSourceSystemAudit.lastUpdatedDate",
    "_repo.modifyDate",
    "repo:modifyDate",
    "updatedAt",
)
"""Where a fragment's update time is looked for, the first that is there counts.

XDM's field groups External Source System Audit and Auditable; the last for other sources.
"""
STATUSES: Final = ("realized", "existing", "exited")
"""XDM's values of a membership's status; an absent one is `realized`, the schema's default."""
RESERVED: Final = (
    "person_id",
    "rank",
    "updated_at",
    "happened_at",
    "ingested_at",
    "dataset_id",
)
"""Columns of the store: no attribute at the top of a record can have these names."""
OWN: Final = ("identityMap", "segmentMembership")
"""Columns of exports: an attribute at the top cannot be called so in other letters' cases."""
EVENT_TIME: Final = "timestamp"
"""Where an event's time is, and its id: XDM's ExperienceEvent requires both."""
EVENT_ID: Final = "_id"

FIRST_PERSON_ID: Final = 1 << 32
"""No person has a lower id: in files of discards they stand for persons who were erased."""
PERSON_ID: Final = f"greatest({FIRST_PERSON_ID}, (md5_number_lower(person_key) >> 1)::BIGINT)"
"""SQL for the person id of the column person_key: 63 bits of its MD5."""

_TIME: Final = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?"
    r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
)
# Order matters: each rule may rely on the ones before it.
_SHAPE: Final = (
    *READABLE,
    Rule(
        "attribute_name",
        "a top-level name cannot be an attribute: "
        f"{', '.join(RESERVED)} are taken; dots, commas and control characters are not allowed; "
        f"{' and '.join(OWN)} are written so, in no other case",
        f"""len(list_filter(json_keys(attributes), lambda name:
              NOT regexp_full_match(name, {literal(NAME)})
              OR lower(name) IN ({", ".join(literal(name.lower()) for name in RESERVED + OWN)})
              AND name NOT IN ({", ".join(map(literal, OWN))}))) > 0""",
    ),
    Rule(
        "identity_map",
        "identityMap must hold, by namespace, lists of objects with a string id and an "
        "optional boolean primary",
        """identity_json IS NOT NULL AND (identity_map IS NULL OR len(list_filter(
             map_values(identity_map), lambda listed: listed IS NULL OR len(list_filter(listed,
               lambda one: coalesce(json_type(one.id), '') <> 'VARCHAR'
                 OR coalesce(json_type(one."primary"), 'BOOLEAN') <> 'BOOLEAN')) > 0)) > 0)""",
    ),
    Rule(
        "identity",
        f"an identity's id must have 1 to {MAX_ID} characters, its namespace 1 to {MAX_NAME}, "
        "without control characters or, in the namespace, a colon",
        f"""len(list_filter(identities,
              lambda one: {not_an_identity("one.namespace", "one.id")})) > 0""",
    ),
    Rule(
        "person_key",
        f"personID and _id must be strings of 1 to {MAX_ID} characters",
        f"""coalesce(json_type(person_json), 'VARCHAR') <> 'VARCHAR'
            OR coalesce(json_type(id_json), 'VARCHAR') <> 'VARCHAR'
            OR length(person_json->>'$') NOT BETWEEN 1 AND {MAX_ID}
            OR length(id_json->>'$') NOT BETWEEN 1 AND {MAX_ID}""",
    ),
    Rule(
        "no_person_key",
        "nothing says whose it is: no personID, no identity and, for a fragment, no _id",
        "person_key IS NULL",
    ),
)
_FRAGMENT: Final = (
    Rule("no_update_time", "there is no update time", "update_json IS NULL"),
    Rule(
        "update_time",
        "the update time is not an RFC 3339 date-time with an offset",
        "updated_at IS NULL",
    ),
    Rule(
        "test_profile",
        "testProfile must be true or false",
        "coalesce(json_type(test_json), 'BOOLEAN') <> 'BOOLEAN'",
    ),
    Rule(
        "segment_membership",
        "segmentMembership must hold, by namespace and segment, objects with a status and a "
        "lastQualificationTime",
        """membership_json IS NOT NULL AND (membership_map IS NULL OR len(list_filter(
             map_values(membership_map), lambda segments: segments IS NULL OR len(list_filter(
               map_values(segments), lambda one: one IS NULL)) > 0)) > 0)""",
    ),
    Rule(
        "segment",
        f"a segment and its namespace must have 1 to {MAX_NAME} characters, none of them a "
        "control character",
        f"""len(list_filter(memberships, lambda one:
              length(one.segment) > {MAX_NAME} OR length(one.namespace) > {MAX_NAME}
              OR NOT regexp_full_match(one.segment, {literal(WORD)})
              OR NOT regexp_full_match(one.namespace, {literal(WORD)}))) > 0""",
    ),
    Rule(
        "segment_status",
        f"a membership's status must be one of {', '.join(STATUSES)}",
        f"""len(list_filter(memberships, lambda one:
              one.status NOT IN ({", ".join(map(literal, STATUSES))}))) > 0""",
    ),
    Rule(
        "qualification_time",
        "a membership's lastQualificationTime is missing or not an RFC 3339 date-time with an "
        "offset",
        "len(list_filter(memberships, lambda one: one.qualified_at IS NULL)) > 0",
    ),
)
_EVENT: Final = (
    Rule("no_event_id", "an event needs an _id", "id_json IS NULL"),
    Rule("no_timestamp", "an event needs a timestamp", "update_json IS NULL"),
    Rule(
        "timestamp",
        "the timestamp is not an RFC 3339 date-time with an offset",
        "updated_at IS NULL",
    ),
)
_NUMBERS: Final = (
    Rule(
        "large_integer",
        f"an integer has more than {DIGITS} digits; send it as a string",
        f"exact AND {is_lost('attributes', LOST_INTEGER)}",
    ),
    Rule(
        "inexact_number",
        f"a number has more than {DIGITS} digits, or is beyond the range of a double; send it "
        "as a string",
        f"exact AND {is_lost('attributes')}",
    ),
)


@dataclass(frozen=True, slots=True)
class RecordKind:
    """What a record is to be: the rules for it, in order, and where its time is looked for.

    `special` are the names at the top that are no attributes. `keyed_by_id`: without
    anything else, `_id` says whose record it is.
    """

    rules: tuple[Rule, ...]
    times: tuple[str, ...]
    special: tuple[str, ...]
    keyed_by_id: bool


FRAGMENT: Final = RecordKind(
    rules=(*_SHAPE, *_FRAGMENT, *_NUMBERS),
    times=UPDATE_TIMES,
    special=OWN,
    keyed_by_id=True,
)
EVENT: Final = RecordKind(
    rules=(*_SHAPE, *_EVENT, *_NUMBERS),
    times=(EVENT_TIME,),
    special=("identityMap",),
    keyed_by_id=False,
)


def moment(text: str) -> str:
    """SQL for an RFC 3339 date-time as a UTC timestamp, NULL where it is none.

    NULL too where UTC leaves the years 1 to 9999, which Python and Parquet's readers need.
    """
    cast = f"TRY_CAST(upper({text}) AS TIMESTAMPTZ)"
    return (
        f"CASE WHEN regexp_full_match({text}, {literal(_TIME)}) AND {cast} BETWEEN "
        "'0001-01-01 00:00:00+00'::TIMESTAMPTZ AND '9999-12-31 23:59:59.999999+00'::TIMESTAMPTZ "
        f"THEN timezone('UTC', {cast}) END"
    )


def checked(records: str, *, kind: RecordKind = FRAGMENT, person_id: str = PERSON_ID) -> str:
    """A query that checks records; `records` gives their position BIGINT and text VARCHAR.

    It gives, for a refused record, position, reason and raw; for others, position,
    person_id, person_key, is_named BOOLEAN (the key is a personID), updated_at (an event's
    time), identities STRUCT(namespace, id, "primary")[], memberships STRUCT(namespace,
    segment, status, qualified_at)[], its attributes as JSON, and exact BOOLEAN: whether these
    may have numbers that a double does not hold, which are marked (see `numbers`).
    `person_id` is the SQL that makes the id from the column person_key.
    """
    # The update time's own column takes the place of an attribute of that name.
    taken = (*kind.special, *set(kind.times).intersection(RESERVED))
    without = orjson.dumps(dict.fromkeys(taken)).decode()
    picked = ("/identityMap", "/segmentMembership", "/personID", "/_id", "/testProfile")
    pointers = ", ".join(map(literal, (*picked, *map(pointer, kind.times))))
    times = ", ".join(
        f"nullif(parts[{number}], 'null')"
        for number, _ in enumerate(kind.times, start=len(picked) + 1)
    )
    memberships = "NULL"
    if "segmentMembership" in kind.special:
        memberships = said_of_memberships("nullif(parts[2], 'null')")
    numbered = f"SELECT *, {inexact('raw')} AS inexact FROM ({records})"
    return f"""
      WITH parts AS (
        SELECT *, json_extract(document, [{pointers}]) AS parts
        FROM ({parsed(numbered, marked("raw", "inexact"))})
      ), named AS (
        SELECT position, raw, len(inexact) > 0 AS exact, too_large, too_deep, document, is_object,
               {said_of_identities("nullif(parts[1], 'null')")} AS identity_json,
               {memberships} AS membership_json,
               nullif(parts[3], 'null') AS person_json,
               nullif(parts[4], 'null') AS id_json,
               nullif(parts[5], 'null') AS test_json,
               coalesce({times}) AS update_json
        FROM parts
      ), mapped AS (
        SELECT *,
               TRY_CAST(identity_json AS MAP(VARCHAR, STRUCT(id JSON, "primary" JSON)[]))
                 AS identity_map,
               TRY_CAST(membership_json AS MAP(VARCHAR, MAP(VARCHAR,
                 STRUCT(status VARCHAR, "lastQualificationTime" VARCHAR)))) AS membership_map,
               {moment("(update_json->>'$')")} AS updated_at
        FROM named
      ), listed AS (
        SELECT *,
               flatten(list_transform(map_entries(identity_map), lambda entry:
                 list_transform(entry.value, lambda one: struct_pack(
                   namespace := entry.key, id := one.id->>'$',
                   "primary" := coalesce(one."primary" = 'true', false))))) AS identities,
               flatten(list_transform(map_entries(membership_map), lambda entry:
                 list_transform(map_entries(entry.value), lambda one: struct_pack(
                   namespace := entry.key, segment := one.key,
                   status := coalesce(one.value.status, 'realized'),
                   qualified_at := {moment("one.value.lastQualificationTime")}))))
                 AS memberships,
               CASE WHEN is_object THEN json_merge_patch(document, {literal(without)}) END
                 AS attributes
        FROM mapped
      ), ranked AS (
        SELECT *, list_min(list_transform(identities, lambda one: struct_pack(
                    later := NOT one."primary", namespace := one.namespace, id := one.id)))
                    AS primary_identity
        FROM listed
      ), keyed AS (
        SELECT *, coalesce(person_json->>'$',
                           primary_identity.namespace || ':' || primary_identity.id,
                           {"id_json->>'$'" if kind.keyed_by_id else "NULL"}) AS person_key
        FROM ranked
      ), judged AS (
        SELECT *, {first_broken(kind.rules)} AS reason FROM keyed
      )
      SELECT position, reason, CASE WHEN reason IS NOT NULL THEN {refused_text()} END AS raw,
             {person_id} AS person_id, person_key, person_json IS NOT NULL AS is_named,
             updated_at, exact, identities, memberships, attributes
      FROM judged"""
