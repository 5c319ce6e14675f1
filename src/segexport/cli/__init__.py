"""The command line. Importing a module of commands registers them."""

from segexport.cli import profiles as profiles
from segexport.cli.app import main

__all__ = ["main"]
