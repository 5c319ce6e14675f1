"""From JSON to a request, or to everything that is wrong with it."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from segexport.errors import InvalidRequest, Problem
from segexport.jobs.request import ExportRequest

MAX_PROBLEMS = 100
"""Problems of one request that are told."""

_Read = TypeVar("_Read", bound=BaseModel)


def parse_request(document: Mapping[str, Any] | str | bytes) -> ExportRequest:
    """Read a request from JSON text or from a parsed document.

    Raises `InvalidRequest` with all problems at once, each with its dotted path.
    """
    if isinstance(document, str | bytes):
        return read_document(ExportRequest, document)
    try:
        return ExportRequest.model_validate(document, by_alias=True, by_name=False)
    except ValidationError as error:
        raise InvalidRequest(_problems_of(error)) from error


def read_document(model: type[_Read], text: str | bytes) -> _Read:
    """Read a model from JSON text, by the names that documents use. Raises as `parse_request`."""
    try:
        read = model.model_validate_json(text, by_alias=True, by_name=False)
    except ValidationError as error:
        raise InvalidRequest(_problems_of(error)) from error
    _require_unique_names(text)
    return read


def _require_unique_names(text: str | bytes) -> None:
    """Raise `InvalidRequest` where an object of a JSON text, known to be one, has a name twice.

    Of such a pair parsers take the one or the other, and nobody can tell which is meant.
    """
    twice: list[str] = []

    def note(pairs: Sequence[tuple[str, Any]]) -> None:
        found = Counter(name for name, _ in pairs)
        twice.extend(name for name, times in found.items() if times > 1)

    json.loads(text, object_pairs_hook=note)
    if twice:
        raise InvalidRequest([Problem(name, "is there twice; say it once") for name in twice])


def _problems_of(error: ValidationError) -> Sequence[Problem]:
    """What pydantic has found, in plain words, each with its path; of very many the first."""
    problems = [
        Problem(".".join(str(step) for step in found["loc"]), _in_plain_words(found))
        for found in error.errors(include_url=False, include_context=False)[:MAX_PROBLEMS]
    ]
    if error.error_count() > MAX_PROBLEMS:
        problems.append(Problem("", f"and {error.error_count() - MAX_PROBLEMS} more"))
    return problems


def _in_plain_words(found: Mapping[str, Any]) -> str:
    match found["type"]:
        case "extra_forbidden":
            return "not a word of the export request that this version understands; remove it"
        case "missing":
            return "is required"
        case "string_pattern_mismatch":
            return f"{str(found['input'])[:60]!r} holds characters that are not allowed here"
        case _:
            return str(found["msg"]).removeprefix("Value error, ")
