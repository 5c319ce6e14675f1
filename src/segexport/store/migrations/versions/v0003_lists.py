"""What lists are read by: an organization's events, the jobs of a segment, ended jobs by state."""

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_AT_ONCE = 1000


def upgrade() -> None:
    """Create the indexes, and note the segments of the jobs that are there."""
    # Rows of discard files stand for other events than those of whole jobs.
    whole_jobs = sa.text("discards IS NULL")
    op.create_index(
        "outbox_by_scope",
        "outbox",
        ["organization", "sandbox", "number"],
        sqlite_where=whole_jobs,
        postgresql_where=whole_jobs,
    )
    ended = sa.text("finished_at IS NOT NULL")
    op.create_index(
        "jobs_ended",
        "jobs",
        ["organization", "sandbox", "state", "created_at", "id"],
        sqlite_where=ended,
        postgresql_where=ended,
    )
    segments = op.create_table(
        "job_segments",
        sa.Column("organization", sa.Text, primary_key=True),
        sa.Column("sandbox", sa.Text, primary_key=True),
        sa.Column("segment", sa.Text, primary_key=True),
        sa.Column("created_at", sa.BigInteger, primary_key=True),
        # No foreign key: it is written with its job alone, and looking that up again would cost
        # a submission a twentieth.
        sa.Column("job_id", sa.BigInteger, primary_key=True),
        sqlite_with_rowid=False,
    )
    if op.get_context().as_sql:
        return  # a script for a database that nobody has used yet
    jobs = sa.table(
        "jobs", *map(sa.column, ("id", "organization", "sandbox", "created_at", "request"))
    )
    connection = op.get_bind()
    for some in connection.execute(sa.select(jobs)).yield_per(_AT_ONCE).partitions():
        named = [segment for job in some for segment in _named(job)]
        if named:
            connection.execute(sa.insert(segments), named)


def _named(job: sa.Row[Any]) -> Iterator[dict[str, Any]]:
    wanted = json.loads(job.request).get("filter", {}).get("segments", ())
    # An id may be named in two namespaces.
    for segment in {each["segmentId"] for each in wanted}:
        yield {
            "organization": job.organization,
            "sandbox": job.sandbox,
            "segment": segment,
            "created_at": job.created_at,
            "job_id": job.id,
        }
