"""What is wrong with a document, in our words: nobody reads pydantic's own."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

_SHOWN: Final = 100
_NOT_AS_IT_SHOULD_BE: Final = "is none of the values that may stand here"

_WORDS: Final[Mapping[str, str]] = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dataclass_type": "must be an object",
    "date_from_datetime_parsing": "must be a date",
    "datetime_from_date_parsing": "must be a date-time",
    "datetime_parsing": "must be a date-time",
    "datetime_type": "must be a date-time",
    "dict_type": "must be an object",
    "enum": "must be {expected}",
    "extra_forbidden": "is not known here; remove it",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "int_type": "must be a whole number",
    "json_invalid": "is no JSON ({error})",
    "json_type": "must be JSON",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "list_type": "must be an array",
    "literal_error": "must be {expected}",
    "mapping_type": "must be an object",
    "missing": "is required",
    "model_attributes_type": "must be an object",
    "model_type": "must be an object",
    "path_type": "must be a path",
    "string_pattern_mismatch": "holds characters that are not allowed here",
    "string_sub_type": "must be a text",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "string_type": "must be a text",
    "string_unicode": "must be a text in UTF-8",
    "time_delta_parsing": "give seconds, or an ISO 8601 duration such as PT15S",
    "time_delta_type": "give seconds, or an ISO 8601 duration such as PT15S",
    "timezone_aware": "must be a date-time with an offset",
    "too_long": "has more than {max_length} entries",
    "too_short": "has fewer than {min_length} entries",
    "tuple_type": "must be an array",
    "unexpected_keyword_argument": "is not known here; remove it",
}


def in_words(found: Mapping[str, Any]) -> str:
    """What is wrong, from one of the errors that pydantic lists; nothing of the value itself.

    The words of a validator of ours, which raises ValueError, are those of its error.
    """
    kind = found["type"]
    if kind == "value_error":
        return str(found["msg"]).removeprefix("Value error, ")
    if kind in {"string_too_short", "too_short"} and found["ctx"]["min_length"] == 1:
        return "must not be empty"
    return _WORDS.get(kind, _NOT_AS_IT_SHOULD_BE).format_map(found.get("ctx", {}))


def path_of(found: Mapping[str, Any]) -> str:
    """Where it is, as a dotted path; empty for the document as a whole."""
    return ".".join(map(_step, found["loc"]))


def _step(step: str | int) -> str:
    """One that somebody has made up may be long, and speak to a terminal."""
    text = str(step)
    return shown(text) if len(text) > _SHOWN or not text.isprintable() else text


def shown(text: str) -> str:
    """A text of somebody else's in plain ASCII, cut where it gets long."""
    return ascii(text[:_SHOWN])


def repeated_names(pairs: Iterable[tuple[str, Any]]) -> list[str]:
    """The names that are more than once among the members of one JSON object.

    Of such a pair parsers take the one or the other, and nobody can tell which is meant.
    """
    return [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]


def repeated_name(text: str | bytes) -> str | None:
    """A name that an object of a JSON text has twice; None for a text that is no JSON."""
    repeated: list[str] = []

    def note(pairs: Sequence[tuple[str, Any]]) -> None:
        repeated.extend(repeated_names(pairs))

    try:
        json.loads(text, object_pairs_hook=note)
    except (ValueError, RecursionError):
        return None
    return repeated[0] if repeated else None


def words_of(error: ValidationError) -> list[str]:
    """Each thing that is wrong, with its path."""
    found = error.errors(include_url=False, include_input=False)
    return [f"{path_of(one) or '(document)'}: {in_words(one)}" for one in found]


def all_words(error: ValidationError) -> str:
    """All of an error in one line."""
    return "; ".join(words_of(error))
