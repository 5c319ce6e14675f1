"""Alembic's entry: runs the scripts on the connection and in the transaction of the caller."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=None,
    # Also on SQLite: the caller's transaction includes the schema, all or nothing.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
