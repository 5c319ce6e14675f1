"""The command line. Importing a module of commands registers them."""

from segexport.cli import datasets as datasets
from segexport.cli import demo as demo
from segexport.cli import erase as erase
from segexport.cli import jobs as jobs
from segexport.cli import journeys as journeys
from segexport.cli import keys as keys
from segexport.cli import outbox as outbox
from segexport.cli import policies as policies
from segexport.cli import profiles as profiles
from segexport.cli import schema as schema
from segexport.cli import segments as segments
from segexport.cli import serve as serve
from segexport.cli import sessions as sessions
from segexport.cli import settings as settings
from segexport.cli import tail as tail
from segexport.cli import validate as validate
from segexport.cli.app import main

__all__ = ["main"]
