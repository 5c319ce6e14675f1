"""What the interfaces are made of: routes, and what their handlers are given."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Request
from fastapi.routing import APIRoute
from starlette.routing import Mount

from segexport.commands import Commands
from segexport.errors import Problem
from segexport.http.auth import Caller, Gate
from segexport.http.limits import REQUEST_ID, usable_request_id
from segexport.http.queries import require_known_query
from segexport.http.target import SEGMENT

END: Final = r"\Z"
"""The end of a path in a pattern."""


def new_app() -> FastAPI:
    """An interface without operations. An address that ends in a slash is another one."""
    return FastAPI(
        openapi_url="/openapi.json", docs_url=None, redoc_url=None, redirect_slashes=False
    )


def add_operation(
    app: FastAPI,
    path: str,
    method: str,
    endpoint: Callable[..., Any],
    described: Mapping[str, Any],
) -> None:
    """Serve an operation; HEAD goes wherever GET does, without being described."""
    before = len(app.routes)
    app.add_api_route(path, endpoint, methods=[method], **described)
    if method == "GET":
        app.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)
    for route in app.routes[before:]:
        if isinstance(route, APIRoute):
            # As it is made, it takes a line break at the end for nothing.
            route.path_regex = re.compile(route.path_regex.pattern.removesuffix("$") + END)
            route.param_convertors = dict.fromkeys(route.param_convertors, SEGMENT)


def mounted(base: str, app: FastAPI) -> Mount:
    """The route to `app` of everything below `base`, whatever characters its path has.

    A Mount by itself leaves out paths with line breaks.
    """
    route = Mount(base, app)
    route.path_regex = re.compile(rf"{re.escape(base)}/(?P<path>.*){END}", re.DOTALL)
    return route


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
    caller = await gate_of(request).bearer(request)
    require_known_query(request)
    return caller


Bearer = Annotated[Caller, Depends(_bearer)]
"""The type of a parameter that is to be given who shows a token and a key.

Whoever is let in has to keep to the parameters that the operation has.
"""


def request_id_of(request: Request) -> str:
    """What makes a creation repeatable: the client's id, or one that is never given again."""
    return str(request.state.request_id)


def request_id_problems(request: Request) -> Sequence[Problem]:
    """What is wrong with the id that a client has given for it in the header."""
    if REQUEST_ID in request.headers and usable_request_id(request.headers) is None:
        return (Problem(REQUEST_ID, "must be 1 to 128 printable ASCII characters"),)
    return ()
