"""Jobs, their leases and pieces, the outbox, the relay's leadership, parked rows, replays."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Microseconds since 1970 UTC.
_Time = sa.BigInteger
# Only INTEGER PRIMARY KEY is SQLite's own row number.
_Key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_Uuid = sa.Uuid().with_variant(sa.LargeBinary(16), "sqlite")


def upgrade() -> None:
    """Create everything."""
    _store()
    _jobs()
    _outbox()
    _relay()


def _store() -> None:
    op.create_table(
        "store",
        sa.Column("singleton", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("id", _Uuid, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        # Which group of writes was committed last: read again when a COMMIT has failed.
        sa.Column("last_group", sa.BigInteger, nullable=False, server_default="0"),
        sa.CheckConstraint("singleton = 1", name="store_has_one_row"),
    )


def _jobs() -> None:
    op.create_table(
        "jobs",
        # Not SQLite's row number: ids are random, and rows in order of arrival share pages.
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("organization", sa.Text, nullable=False),
        sa.Column("sandbox", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("created_at", _Time, nullable=False),
        sa.Column("deadline", _Time),
        sa.Column("retry_of", sa.BigInteger),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("updated_at", _Time, nullable=False),
        sa.Column("started_at", _Time),
        sa.Column("finished_at", _Time),
        sa.Column("not_before", _Time),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("events", sa.BigInteger, nullable=False),
        sa.Column("snapshot", sa.Text),
        sa.Column("pieces", sa.Integer),
        sa.Column("estimate", sa.BigInteger),
        sa.Column("publication", sa.Text),
        sa.Column("fault", sa.Text),
        sa.Column("owner", sa.Text),
        sa.Column("epoch", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("lease_until", _Time),
        sa.Column("progress", sa.Float, nullable=False, server_default="0"),
    )
    op.create_index("jobs_by_age", "jobs", ["organization", "sandbox", "created_at", "id"])
    unfinished = sa.text("finished_at IS NULL")
    op.create_index(
        "jobs_unfinished",
        "jobs",
        ["created_at", "id"],
        sqlite_where=unfinished,
        postgresql_where=unfinished,
    )
    # Apart from `jobs`: an id may come again after a day, and the key makes it single until then.
    op.create_table(
        "requests",
        sa.Column("organization", sa.Text, primary_key=True),
        sa.Column("sandbox", sa.Text, primary_key=True),
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("job_id", sa.BigInteger, sa.ForeignKey("jobs.id"), nullable=False),
        sa.Column("accepted_at", _Time, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "pieces",
        sa.Column("job_id", sa.BigInteger, sa.ForeignKey("jobs.id"), primary_key=True),
        sa.Column("piece", sa.Integer, primary_key=True),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("selected", sa.BigInteger, nullable=False),
        sa.Column("data", sa.Text),
        sa.Column("discards", sa.Text),
        sa.Column("namespaces", sa.Text, nullable=False),
    )


def _outbox() -> None:
    op.create_table(
        "outbox",
        *_number_columns(),
        sa.Column("job_id", sa.BigInteger, sa.ForeignKey("jobs.id"), nullable=False),
        sa.Column("organization", sa.Text, nullable=False),
        sa.Column("sandbox", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        # Made from job and sequence, which are unique below; a second index over random
        # values would cost a fifth to a quarter of the writing rate.
        sa.Column("event_id", _Uuid, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("occurred_at", _Time, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.Column("discards", sa.Text),
        sa.UniqueConstraint("job_id", "sequence", name="outbox_of_job"),
        # Row numbers would be given again after the newest rows are deleted; a reader that
        # remembers the last number would then skip rows.
        sqlite_autoincrement=True,
    )


def _number_columns() -> list[sa.Column[int]]:
    """SQLite has one writer at a time: its own row numbers follow the order of commits.

    Elsewhere rows become visible in another order than they were numbered in, so `number`
    is given to committed rows, afterwards, by the relay alone.
    """
    if op.get_context().dialect.name == "sqlite":
        return [sa.Column("number", sa.Integer, primary_key=True, autoincrement=True)]
    return [
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("number", sa.BigInteger, unique=True),
    ]


def _relay() -> None:
    relay = op.create_table(
        "relay",
        sa.Column("singleton", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("owner", sa.Text),
        sa.Column("epoch", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("lease_until", _Time),
        sa.Column("delivered", sa.BigInteger, nullable=False, server_default="0"),
        sa.CheckConstraint("singleton = 1", name="relay_has_one_row"),
    )
    op.bulk_insert(relay, [{"singleton": 1}])
    op.create_table(
        "parked",
        sa.Column("number", sa.BigInteger, sa.ForeignKey("outbox.number"), primary_key=True),
        sa.Column("job_id", sa.BigInteger, sa.ForeignKey("jobs.id"), nullable=False, index=True),
        sa.Column("row_offset", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("parked_at", _Time, nullable=False),
    )
    op.create_table(
        "replays",
        sa.Column("id", _Key, primary_key=True),
        sa.Column("job_id", sa.BigInteger, sa.ForeignKey("jobs.id"), nullable=False, index=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("requested_at", _Time, nullable=False),
        sa.Column("finished_at", _Time),
        sqlite_autoincrement=True,
    )
