"""The store's schema, version by version, for every database.

`REVISIONS` names them in order. Opening a store compares its version with the last one
and needs nothing else; Alembic and SQLAlchemy are imported only by `upgrade`, when a
store is created or brought up to date.
"""

from typing import Final

REVISIONS: Final = ("0001", "0002", "0003", "0004")
"""All schema versions, oldest first. A new script under `versions/` adds its name here."""

HEAD: Final = REVISIONS[-1]
"""The version that this code reads and writes."""
