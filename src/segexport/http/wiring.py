"""What the handlers of an interface are given: the commands, and who asks."""

from typing import Annotated

from fastapi import Depends, FastAPI, Request

from segexport.commands import Commands
from segexport.errors import InvalidRequest, Problem
from segexport.http.auth import Caller, Gate
from segexport.http.limits import REQUEST_ID, usable_request_id


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


async def _bearer(request: Request) -> Caller:
    return await gate_of(request).bearer(request)


Bearer = Annotated[Caller, Depends(_bearer)]
"""The type of a parameter that is to be given who shows a token and a key."""


def request_id_of(request: Request) -> str:
    """What makes a creation repeatable: the client's id, or one that is never given again.

    Raises `InvalidRequest`.
    """
    if REQUEST_ID in request.headers and usable_request_id(request.headers) is None:
        problem = Problem(REQUEST_ID, "must be 1 to 128 printable ASCII characters")
        raise InvalidRequest([problem])
    return str(request.state.request_id)
