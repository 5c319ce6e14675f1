"""The kinds of values that a request has: bounded, and read in one way only."""

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from segexport.settings.kinds import FolderName

MAX_NAME = 128
"""Characters in an id, a namespace or a name."""
MAX_WORDS = 100
"""Words in one part of a request; far more than there are."""
MAX_ARN = 2_048
"""Characters in the name of an AWS role, as IAM bounds it."""
MAX_URL = 1_024
"""Characters in an S3 URL: a key has no more bytes."""


_CONTROLS = r"\x00-\x1f\x7f-\x9f"
_CONTROLS_OF_TEXT = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
"""The same without those that lines and tables have."""
_UNSEEN = r"\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
"""Marks of direction, ends of lines and what else does not show but for what it does to its
neighbours (Unicode TR36, section 2.5). The joiners U+200C and U+200D are none of them: words of
Persian and of Indian languages are spelled with them, and emojis."""
_HALVES = r"\ud800-\udfff"
NAME = f"^[^{_CONTROLS}{_UNSEEN}]+$"
"""The pattern of a name."""
TEXT = f"^[^{_CONTROLS_OF_TEXT}{_UNSEEN}]*$"
"""The pattern of text that may have several lines."""
_UNFIT_IN_NAME = re.compile(f"[{_CONTROLS}{_UNSEEN}{_HALVES}]")
_UNFIT_IN_TEXT = re.compile(f"[{_CONTROLS_OF_TEXT}{_UNSEEN}{_HALVES}]")
_CONTROL = re.compile(f"[{_CONTROLS}]")


def unfit(text: str, *, lines: bool = False) -> str | None:
    """What is wrong with a name that somebody gives, or with a text that may have `lines`.

    It must have no control character, nothing that only changes how its neighbours show, so
    that two names that look alike are the same one, and no half of a surrogate pair, which
    cannot be written. None if all is well.
    """
    found = (_UNFIT_IN_TEXT if lines else _UNFIT_IN_NAME).search(text)
    return None if found is None else _unfit_at(text, found.start())


def _unfit_at(text: str, place: int) -> str:
    letter = text[place]
    other = "half of a surrogate pair" if "\ud800" <= letter <= "\udfff" else "a control character"
    return (
        f"its character {place + 1} is U+{ord(letter):04X} ({unicodedata.name(letter, other)}), "
        "which does not show; leave it out"
    )


def _without_controls(text: str) -> str:
    # What else does not fit a name is refused where one is given: a job that is stored with
    # it has to be read.
    found = _CONTROL.search(text)
    if found is not None:
        raise ValueError(_unfit_at(text, found.start()))
    return text


Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_NAME),
    Field(json_schema_extra={"pattern": NAME}),
    AfterValidator(_without_controls),
]
"""An identifier that is only ever compared and shown."""
PathName = FolderName
"""An identifier that also names a folder: letters, digits, `_ . @ -`, not led by a dot."""
RoleArn = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_ARN),
    Field(json_schema_extra={"pattern": NAME}),
    AfterValidator(_without_controls),
]
"""The name of an AWS role."""


def _s3_url(unfit: str) -> str:
    """A pattern: no step of the prefix is empty, or one of `.` and `..`, or has what is unfit."""
    return rf"^s3://[a-z0-9][a-z0-9.-]{{1,62}}(/(?!\.{{1,2}}(/|$))[^/?#{unfit}]+)*/?$"


_S3_URL = re.compile(_s3_url(_CONTROLS))
_RFC_3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)


def _whole(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise ValueError("must be a whole number")


Flag = Annotated[bool, Field(strict=True)]
"""true or false, and no word or number for them."""
WHOLE = BeforeValidator(_whole)
"""A whole number, and no text that looks like one."""


def moment(value: object) -> datetime:
    """A point in time from its RFC 3339 text, in UTC. Raises ValueError."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    if isinstance(value, str) and _RFC_3339.fullmatch(value):
        try:
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise ValueError("must be an RFC 3339 date-time with an offset, such as 2018-01-01T00:00:00Z")


def _prefix(url: str) -> str:
    if not _S3_URL.fullmatch(url):
        raise ValueError(
            "give a prefix such as s3://bucket/folder/, with no step that is empty, . or .."
        )
    return url if url.endswith("/") else f"{url}/"


S3Prefix = Annotated[
    str,
    StringConstraints(max_length=MAX_URL),
    Field(json_schema_extra={"pattern": _s3_url(_CONTROLS + _UNSEEN)}),
    AfterValidator(_prefix),
]
"""An S3 URL that ends in a slash."""
Version = Annotated[int, Field(ge=0, le=2**31 - 1), WHOLE]
"""The version of a segment."""

Moment = Annotated[datetime, BeforeValidator(moment)]
"""A point in time, kept in UTC to the microsecond."""


def bounded(limit: int) -> BeforeValidator:
    """Refuse a longer list before any of it is looked at."""

    def check(value: object) -> object:
        if isinstance(value, list | tuple) and len(value) > limit:
            raise ValueError(f"has more than {limit} entries")
        return value

    return BeforeValidator(check)


class Part(BaseModel):
    """A part of a document; words that it does not have are refused, null is the same as none."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_left_out(cls, given: object) -> object:
        # Many clients write null for what they have nothing to say of. A word that is not
        # known stays, to be refused.
        if not isinstance(given, Mapping) or None not in given.values():
            return given
        if len(given) > MAX_WORDS:
            raise ValueError(f"has more than {MAX_WORDS} words")
        known = {field.alias for field in cls.model_fields.values()}
        return {key: value for key, value in given.items() if value is not None or key not in known}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        if handler.mode == "validation":
            told = handler.resolve_ref_schema(schema)
            told["properties"] = {
                name: part if name in told.get("required", ()) else _or_null(part)
                for name, part in told["properties"].items()
            }
        return schema


def _or_null(schema: JsonSchemaValue) -> JsonSchemaValue:
    """What `_null_is_left_out` means for the schema of something optional."""
    null = {"type": "null"}
    if null in schema.get("anyOf", ()):
        return schema
    bare = dict(schema)
    notes = {key: bare.pop(key) for key in ("title", "default") if key in bare}
    return {"anyOf": [bare, null]} | notes
