"""From JSON to a request, or to everything that is wrong with it.

Each problem is told, and not the first alone. So what is wrong with a document is put right for
a moment, for what else is wrong with the rest of it to be seen.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from segexport.errors import InvalidRequest, Problem
from segexport.jobs.consistency import contradictions
from segexport.jobs.request import ExportRequest
from segexport.jobs.values import unfit
from segexport.validation import in_words, path_of, repeated_names

MAX_PROBLEMS = 100
"""Problems of one request that are told."""
MAX_MARKS = 50_000
"""Commas, colons and opening brackets of a JSON text, those in its strings included. The largest
request that is in order has about thirty thousand."""
MAX_NAMES = 2_500
"""Names in all objects of a document together. The largest request that is in order has about
sixteen hundred: three for each segment."""
MAX_LOOKED_AT = 100_000
"""Characters of a document that is wrong and looked at again, for what else is wrong with it."""

_Read = TypeVar("_Read", bound=BaseModel)

_NOBODY: Final = "_" * 100
"""Stands for an id that cannot be read. Nothing is called so."""
_RIGHT: Final[Mapping[str, Callable[[str], Any]]] = {
    "destination": lambda name: {"datasetId": name},
    "filter": lambda name: {"segments": [{"segmentId": name}]},
    "segments": lambda name: [{"segmentId": name}],
    "s3UrlPrefix": lambda name: f"s3://bucket/{name}",
    "S3UrlPrefix": lambda name: f"s3://bucket/{name}",
    **dict.fromkeys(
        (
            *("datasetId", "segmentId", "segmentNs", "id", "versionId", "namespace"),
            *("applicationId", "roleArn", "RoleArn"),
        ),
        str,
    ),
}
"""What is right in the place of a word that cannot be left out, or had better not be."""
_LINES: Final = frozenset({"fields", "reason"})
"""Words whose texts may have several lines."""


@dataclass(frozen=True, slots=True)
class Draft(Generic[_Read]):
    """A document as it was read, and what is wrong with it.

    With problems, `rest` is what it says apart from these, for what it names to be looked up;
    None where nothing can be read of it.
    """

    rest: _Read | None
    problems: tuple[Problem, ...] = ()

    @property
    def whole(self) -> _Read:
        """The document. Raises `InvalidRequest` with all problems."""
        if self.rest is None or self.problems:
            raise InvalidRequest(self.problems)
        return self.rest

    @property
    def legible(self) -> _Read:
        """What can be read. Raises `InvalidRequest` where that is nothing."""
        if self.rest is None:
            raise InvalidRequest(self.problems)
        return self.rest

    def with_more(self, more: Sequence[Problem]) -> "tuple[Problem, ...]":
        """All problems, with those `more` that looking up the rest has brought.

        Left out are those of words that are known to be wrong.
        """
        return (*self.problems, *beyond(self.problems, more))


def beyond(known: Sequence[Problem], more: Sequence[Problem]) -> Sequence[Problem]:
    """Those of `more` that say something else than the problems that are known."""
    told = {problem.path for problem in known}
    return [
        problem
        for problem in more
        if problem not in known
        and _NOBODY not in problem.message
        and (not problem.path or problem.path not in told)
    ]


def parse_request(document: Mapping[str, Any] | str | bytes) -> ExportRequest:
    """Read a request from JSON text or from a parsed document.

    Raises `InvalidRequest` with all problems at once, each with its dotted path.
    """
    return draft_request(document).whole


def draft_request(document: Mapping[str, Any] | str | bytes) -> Draft[ExportRequest]:
    """A request as it can be read, with all that is wrong with it by itself."""
    read = draft(ExportRequest, document)
    if read.rest is None:
        return read
    return Draft(read.rest, read.with_more(list(contradictions(read.rest))))


def draft(model: type[_Read], document: Mapping[str, Any] | str | bytes) -> Draft[_Read]:
    """A model from JSON, by the names that documents use.

    Raises `InvalidRequest` for a text of very many values or names, of which nothing else is
    looked at: the work is bounded, whatever the text is.
    """
    if isinstance(document, str | bytes):
        _require_few_marks(document)
        _require_few_names(document)
    try:
        if isinstance(document, str | bytes):
            read = model.model_validate_json(document, by_alias=True, by_name=False)
        else:
            read = model.model_validate(document, by_alias=True, by_name=False)
    except ValidationError as error:
        return _put_right(model, document, error)
    said_twice = _loaded(document)[1] if isinstance(document, str | bytes) else []
    return Draft(read, (*said_twice, *_unfit_texts(read)))


def _require_few_marks(text: str | bytes) -> None:
    """Raise `InvalidRequest` for a text that would take long to take apart."""
    marks = (
        map(text.count, (",", ":", "[", "{"))
        if isinstance(text, str)
        else map(text.count, (b",", b":", b"[", b"{"))
    )
    if sum(marks) > MAX_MARKS:
        raise InvalidRequest([Problem("", "holds far more values than a request has; leave out")])


def _require_few_names(text: str | bytes) -> None:
    """Raise `InvalidRequest` for a JSON text of which very much would be told."""
    names = 0

    def count(pairs: Sequence[tuple[str, Any]]) -> None:
        nonlocal names
        names += len(pairs)

    try:
        json.loads(text, object_pairs_hook=count, parse_int=float)
    except (ValueError, RecursionError):
        return  # it is no JSON, and told so by its reader
    if names > MAX_NAMES:
        words = f"has {names} names, and a request no more than {MAX_NAMES}; leave out what is none"
        raise InvalidRequest([Problem("", words)])


def _put_right(
    model: type[_Read], document: Mapping[str, Any] | str | bytes, error: ValidationError
) -> Draft[_Read]:
    """What can be read of a document that is wrong."""
    wrong = error.errors(include_url=False)
    problems = tuple(_problems_of(wrong))
    is_long = isinstance(document, str | bytes) and len(document) > MAX_LOOKED_AT
    if is_long or len(wrong) > MAX_PROBLEMS or wrong[0]["type"] == "json_invalid":
        return Draft(None, problems)
    given, said_twice = (
        _loaded(document) if isinstance(document, str | bytes) else (deepcopy(document), [])
    )
    problems = (*said_twice, *problems)
    if not isinstance(given, dict):
        return Draft(None, problems)
    for found in wrong:
        _replace(given, found["loc"], is_known=found["type"] != "extra_forbidden")
    try:
        rest = model.model_validate(given, by_alias=True, by_name=False)
    except ValidationError:
        return Draft(None, problems)
    return Draft(rest, (*problems, *beyond(problems, list(_unfit_texts(rest)))))


def _replace(given: Any, path: Sequence[str | int], *, is_known: bool) -> None:
    """Put something that is right at a path, or leave out what is there.

    What can be neither goes with what it is in.
    """
    if not path:
        return
    *steps, word = path
    parent = _at(given, steps)
    place = "".join(str(step) for step in path if isinstance(step, int))
    if isinstance(parent, dict) and isinstance(word, str):
        parent.pop(word, None)
        if is_known and word in _RIGHT:
            parent[word] = _RIGHT[word](f"{_NOBODY}{place}")
        if word == "datasetId":
            parent.pop("dataSetId", None)
    elif isinstance(parent, list) and isinstance(word, int) and steps[-1:] == ["segments"]:
        parent[word] = {"segmentId": f"{_NOBODY}{place}"}
    else:
        _replace(given, steps, is_known=True)


def _at(given: Any, steps: Sequence[str | int]) -> Any:
    try:
        for step in steps:
            given = given[step]
    except (KeyError, IndexError, TypeError):
        return None
    return given


def _loaded(text: str | bytes) -> tuple[Any, Sequence[Problem]]:
    """What a JSON text, known to be one, says, and the names that one of its objects has twice."""
    twice: list[str] = []

    def note(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        twice.extend(repeated_names(pairs))
        return dict(pairs)

    loaded = json.loads(text, object_pairs_hook=note, parse_int=float)
    problems = [
        Problem(path_of({"loc": [name]}), "is there twice; say it once")
        for name in twice[:MAX_PROBLEMS]
    ]
    if len(twice) > MAX_PROBLEMS:
        problems.append(Problem("", f"and {len(twice) - MAX_PROBLEMS} more"))
    return loaded, problems


def _unfit_texts(read: BaseModel) -> Iterator[Problem]:
    """The texts of a document that nobody is to be given, each with its path."""
    return _unfit_in(read.model_dump(by_alias=True), ())


def _unfit_in(part: Any, path: tuple[str | int, ...]) -> Iterator[Problem]:
    match part:
        case str():
            words = unfit(part, lines=path[-1] in _LINES)
            if words is not None:
                yield Problem(".".join(map(str, path)), words)
        case Mapping():
            for name, value in part.items():
                yield from _unfit_in(value, (*path, name))
        case list() | tuple():
            for index, value in enumerate(part):
                yield from _unfit_in(value, (*path, index))
        case _:
            pass


def _problems_of(wrong: Sequence[Mapping[str, Any]]) -> Sequence[Problem]:
    """What pydantic has found, in plain words, each with its path; of very many the first."""
    problems = [Problem(path_of(found), _in_plain_words(found)) for found in wrong[:MAX_PROBLEMS]]
    if len(wrong) > MAX_PROBLEMS:
        problems.append(Problem("", f"and {len(wrong) - MAX_PROBLEMS} more"))
    return problems


def _in_plain_words(found: Mapping[str, Any]) -> str:
    match found["type"], found["loc"]:
        case "extra_forbidden", (*_, "destination", "dataSetId"):
            return "is another spelling of datasetId, which is there as well; say it once"
        case "extra_forbidden", _:
            return "not a word of the export request that this version understands; remove it"
        case "string_unicode", _ if isinstance(found["input"], str):
            return unfit(found["input"], lines=True) or in_words(found)
        case _:
            return in_words(found)
