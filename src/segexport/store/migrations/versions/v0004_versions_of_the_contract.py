"""Event rows name the version of the contract that they keep. Those that are there keep the first.

A process of the version before, that runs on beside the upgraded store, still writes rows of the
first version, and does not say so. What it must not do any more is deliver: its relay would
announce rows of the second version as those of the first, and park their discards. Its statements
find no `owner` of the relay, so it waits, as for a store that is away.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the version to the rows, and keep the relays of before from leading."""
    op.add_column(
        "outbox", sa.Column("contract", sa.Integer, nullable=False, server_default=sa.text("1"))
    )
    op.execute("ALTER TABLE relay RENAME COLUMN owner TO leader")
