"""Nulls in the maps of identities and memberships: they say nothing, wherever they stand.

A writer of structs, such as Parquet's, has a null for a namespace or a segment that a person
lacks and others have. Both functions give the SQL for a map, as JSON, without what says
nothing; where it has another shape than it should have, it stays as it is, to be refused.
"""

from typing import Final

_LISTED: Final = """to_json(list_filter(namespace.value::JSON[], lambda one:
    one IS NOT NULL AND coalesce(json_type(one, '$.id'), '') <> 'NULL'))"""
_SEGMENTS: Final = """to_json(map_from_entries(list_filter(
    map_entries(TRY_CAST(namespace.value AS MAP(VARCHAR, JSON))), lambda segment:
      segment.value IS NOT NULL AND NOT (
        json_type(segment.value) = 'OBJECT' AND segment.value::VARCHAR <> '{}'
        AND json_merge_patch('{}', segment.value)::VARCHAR = '{}'))))"""


def said_of_identities(document: str) -> str:
    """An identityMap without namespaces that are null, and identities that are, or whose id is."""
    return _said(document, "ARRAY", _LISTED)


def said_of_memberships(document: str) -> str:
    """A segmentMembership without what is null: namespaces, segments, and all of a segment."""
    return _said(document, "OBJECT", _SEGMENTS)


def _said(document: str, kind: str, below: str) -> str:
    entries = f"map_entries(TRY_CAST({document} AS MAP(VARCHAR, JSON)))"
    # The first condition is cheap and nearly always false.
    return f"""
        CASE WHEN contains({document}::VARCHAR, 'null') THEN coalesce(
          to_json(map_from_entries(list_transform(
            list_filter({entries}, lambda namespace: namespace.value IS NOT NULL),
            lambda namespace: struct_pack(key := namespace.key, value :=
              CASE WHEN json_type(namespace.value) = '{kind}'
                   THEN coalesce({below}, namespace.value) ELSE namespace.value END)))),
          {document}) ELSE {document} END"""
