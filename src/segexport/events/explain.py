"""What is wrong with a document, in lines that a person reads without knowing JSON Schema."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from jsonschema import ValidationError

from segexport.events import schema

_SHOWN = 60
"""Characters of a value that a line shows."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: where, by which rule, with which value.

    `path` holds the keys as the document writes them; the text shortens URIs to their last
    part.
    """

    path: tuple[str | int, ...]
    rule: str
    value: Any
    message: str

    def at(self, path: tuple[str | int, ...]) -> "Finding":
        """The same, found in another place."""
        return replace(self, path=path)

    def __str__(self) -> str:
        return f"{short_path(self.path)}: {self.message} [{self.rule}]"


def short_path(path: Sequence[str | int]) -> str:
    """A path in one readable word: dots, indexes in brackets, URIs by their last part."""
    text = "".join(f"[{step}]" if isinstance(step, int) else "." + short_key(step) for step in path)
    return printable(text.removeprefix(".")) or "(document)"


def short_key(key: str) -> str:
    """The last part of a URI key; any other key as it is."""
    if key.startswith("https://"):
        return key.rpartition("/")[2]
    return key


def printable(text: str) -> str:
    """A text on one line, in which nothing speaks to the terminal: the rest is escaped."""
    if text.isprintable():
        return text
    return "".join(it if it.isprintable() else it.encode("unicode_escape").decode() for it in text)


def explain(document: Any, name: str, definition: str | None = None) -> Iterator[Finding]:
    """Everything in which a document breaks a schema, or one of its definitions."""
    found = False
    event = schema.title(name, definition).lower()
    for error in schema.reference(name, definition).iter_errors(document):
        found = True
        yield from _findings(error, event)
    if not found:
        # The two validators are held equal by a property test. Should they ever differ, the
        # one that decides is believed, and speaks for itself.
        for fast_error in schema.fast(name, definition).iter_errors(document):
            path = tuple(fast_error.instance_path)
            yield Finding(path, fast_error.kind.name, fast_error.instance, fast_error.message)


def _findings(error: ValidationError, event: str) -> Iterator[Finding]:
    rule = str(error.validator)
    path = tuple(error.absolute_path)
    wanted: Any = error.validator_value
    value: Any = error.instance
    inside: Any = error.schema
    match rule:
        case "required":
            # jsonschema reports each missing key as an error of its own.
            missing = next(key for key in wanted if error.message.startswith(repr(key)))
            yield Finding((*path, missing), rule, None, "is missing")
        case "additionalProperties":
            words = f"breaks the rule: {inside['title']}" if "title" in inside else ""
            for key in _additional(value, inside):
                yield Finding((*path, key), rule, value[key], words or f"has no place in a {event}")
        case _:
            words = _words(rule, wanted, value) or (
                f"breaks the rule: {inside['title']}" if "title" in inside else error.message
            )
            yield Finding(path, rule, value, words)


def _additional(value: Mapping[str, Any], inside: Mapping[str, Any]) -> Iterator[str]:
    """The keys that neither `properties` nor `patternProperties` of a schema speak of."""
    named, patterns = inside.get("properties", ()), inside.get("patternProperties", ())
    for key in value:
        if key not in named and not any(re.search(pattern, key) for pattern in patterns):
            yield key


def _words(rule: str, wanted: Any, value: Any) -> str | None:
    """What a keyword of JSON Schema demands, and what it got; None for rules with a title."""
    if rule not in _WORDS or (rule == "not" and "pattern" not in wanted):
        return None
    match rule:
        case "enum":
            wanted = ", ".join(map(shown, wanted))
        case "const":
            wanted = shown(wanted)
        case "not":
            wanted = wanted["pattern"]
    return _WORDS[rule].format(wanted=wanted, shown=shown(value))


_WORDS: Final = {
    "type": "must be of type {wanted}, not {shown}",
    "enum": "must be one of {wanted}, not {shown}",
    "const": "must be {wanted}, not {shown}",
    "minimum": "must not be below {wanted}, but is {shown}",
    "maximum": "must not be above {wanted}, but is {shown}",
    "minLength": "must not be shorter than {wanted} characters, but is {shown}",
    "maxLength": "must not be longer than {wanted} characters, but is {shown}",
    "maxItems": "must not have more than {wanted} entries, but is {shown}",
    "pattern": "must match {wanted}, but is {shown}",
    "not": "must not contain {wanted}, but is {shown}",
}


def shown(value: Any) -> str:
    """A value as JSON on one line, cut where it gets long."""
    text = printable(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
