"""The command line."""

from segexport.cli.app import main

__all__ = ["main"]
