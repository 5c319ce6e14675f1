"""Bringing a database to the newest schema version.

The only module of the store that imports Alembic and SQLAlchemy, which takes longer than
everything else that opening a store does: import it when there is something to do.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

_FOLDER = Path(__file__).parent


def alembic_config() -> Config:
    """Where the scripts are; Alembic's own configuration file is not used."""
    config = Config()
    # The option is interpolated, so a % in the folder's name must be doubled.
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def upgrade(connection: Connection) -> None:
    """Run the missing scripts inside the transaction that `connection` has begun."""
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
