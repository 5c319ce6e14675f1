"""What may stand in a query: the parameters of an operation, each once, and nothing else."""

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, get_origin

from fastapi import Request
from fastapi.dependencies.utils import request_params_to_args
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, BeforeValidator

from segexport.errors import InvalidRequest, Problem
from segexport.validation import in_words, path_of

_SIGNED: Final = "x-amz-"
"""Parameters of signatures in queries, which are no part of an operation."""


def whole(first: int, last: int) -> BeforeValidator:
    """Of a number in a query: digits, and no other way to write it."""

    def check(text: object) -> object:
        if not isinstance(text, str):
            return text
        if not re.fullmatch(r"-?[0-9]+", text):
            raise ValueError(f"must be a whole number from {first} to {last}")
        if not re.fullmatch(r"[0-9]{1,9}", text) or not first <= int(text) <= last:
            raise ValueError(f"must be from {first} to {last}")
        return text

    return BeforeValidator(check)


def require_known_query(request: Request) -> None:
    """Raise `InvalidRequest` for a parameter that the operation does not have, or has twice.

    With it goes whatever else is wrong with the query, so that all is told at once.
    """
    route = request.scope["route"]
    assert isinstance(route, APIRoute)  # noqa: S101  (operations are, see `add_operation`)
    problems = list(_strange(request, _parameters(route)))
    if problems:
        _, errors = request_params_to_args(route.dependant.query_params, request.query_params)
        raise InvalidRequest([*problems, *map(problem_of, errors)])


def problem_of(found: Any) -> Problem:
    """One of the errors that FastAPI lists."""
    # The first step says where it stands: query, path, header or body.
    return Problem(path_of({"loc": found["loc"][1:]}), in_words(found))


def problems_of(error: RequestValidationError) -> tuple[Problem, ...]:
    """All that FastAPI has found."""
    return tuple(map(problem_of, error.errors()))


def _strange(request: Request, known: Mapping[str, bool]) -> Iterator[Problem]:
    times = Counter(name for name, _ in request.query_params.multi_items())
    for name, count in times.items():
        if name.lower().startswith(_SIGNED):
            continue
        if name not in known:
            yield Problem(
                path_of({"loc": [name]}) or "''",
                f"there is no such parameter; {_hint(name, list(known))}",
            )
        elif count > 1 and not known[name]:
            yield Problem(name, f"is there {count} times; say it once")


def _parameters(route: APIRoute) -> Mapping[str, bool]:
    """The names of an operation's parameters, and whether each may be repeated."""
    known: dict[str, bool] = {}
    for field in route.dependant.query_params:
        kind = field.field_info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            known |= {part.alias or name: False for name, part in kind.model_fields.items()}
        else:
            known[field.alias] = get_origin(kind) is Sequence
    return known


def _hint(name: str, known: list[str]) -> str:
    like = difflib.get_close_matches(name.lower(), known, n=1)
    if like:
        return f"did you mean {like[0]}?"
    return f"there are {', '.join(known)}" if known else "there is none"
