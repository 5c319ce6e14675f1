"""What the handlers of an interface are given: the commands, and who asks."""

from typing import Annotated

from fastapi import Depends, FastAPI, Request

from segexport.commands import Commands
from segexport.http.auth import Gate


def wired(app: FastAPI, commands: Commands, gate: Gate) -> FastAPI:
    """The same app, whose handlers find these."""
    app.state.commands = commands
    app.state.gate = gate
    return app


def gate_of(request: Request) -> Gate:
    """The gate of the app that handles a request."""
    gate: Gate = request.app.state.gate
    return gate


async def _commands(request: Request) -> Commands:
    commands: Commands = request.app.state.commands
    return commands


TheCommands = Annotated[Commands, Depends(_commands)]
"""The type of a handler's parameter that is to be given the commands."""
