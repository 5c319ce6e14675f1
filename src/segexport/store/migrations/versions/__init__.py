"""One script per schema version; Alembic finds them by their file names."""
