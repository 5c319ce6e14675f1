"""What organizations, and readers of the topic, are told of an error.

The words of most errors are for those who run the service: they name files, folders and addresses.
Such an error has a sentence for everybody else, chosen by its type, and the sentence of a type
that nobody has thought of is a general one. Errors that are about what somebody has asked, and
name no place of the service, are told in their own words.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from segexport.errors import (
    AccessRefused,
    BodyTooLarge,
    BodyTooLate,
    DatasetError,
    DatasetFull,
    DatasetUnreachable,
    DependencyFailed,
    DiscardFileUnusable,
    EngineError,
    EngineOutOfMemory,
    EngineUnreachable,
    IllegalTransition,
    InstancesUnusable,
    InvalidDefinition,
    InvalidRequest,
    JobNotFound,
    OutletMissing,
    OutletUnreachable,
    PieceFailed,
    ProfileStoreBusy,
    ProfileStoreCorrupt,
    ProfileStoreError,
    ProfileStoreMissing,
    RequestConflict,
    SegexportError,
    StoreError,
    SystemRefused,
    TooManyRequests,
    UnknownPolicy,
    UnknownSegment,
)

OWN_WORDS: Final[tuple[type[SegexportError], ...]] = (
    AccessRefused,
    BodyTooLarge,
    BodyTooLate,
    IllegalTransition,
    InvalidDefinition,
    InvalidRequest,
    JobNotFound,
    RequestConflict,
    TooManyRequests,
    UnknownPolicy,
    UnknownSegment,
)
"""Errors whose own words are for everybody, with all that are derived from them."""

GENERAL: Final = "the service has met an error that it cannot explain"

_SENTENCES: Final[Mapping[type[SegexportError], str]] = MappingProxyType(
    {
        DatasetError: "the files of the export cannot be written or read",
        DatasetFull: "there is no room left for the files of the export",
        DatasetUnreachable: "the place of the dataset does not answer, or takes nothing",
        DependencyFailed: "something that the service depends on has failed",
        DiscardFileUnusable: "the discards of the job cannot be read",
        EngineError: "a query of the export went wrong",
        EngineOutOfMemory: "the export does not fit into the memory that the service has for it",
        EngineUnreachable: "the engine that exports run on does not answer",
        InstancesUnusable: "the live instances of the journey cannot be read",
        OutletMissing: "the S3 prefix of the request leads nowhere any more",
        OutletUnreachable: "nothing can be written below the S3 prefix of the request",
        ProfileStoreBusy: "the profile store is being written to by somebody else",
        ProfileStoreCorrupt: "the profile store is damaged",
        ProfileStoreError: "the profile store cannot be used",
        ProfileStoreMissing: "the profiles that the export is to read are missing",
        StoreError: "the store of jobs cannot be used",
        SystemRefused: "the operating system refuses something that the service needs",
    }
)

LEFT_OUT: Final = "(left out)"
"""What stands where a place was."""

_STEP: Final = r"[\w.@=~+-]"
_BEGIN: Final = r"(?<![\w./@=~+-])"
_GROUP: Final = r"[0-9a-f]{1,4}"
_ENDINGS: Final = (
    "avro|bin|cfg|conf|crc|csv|db|env|gz|ini|jar|jks|json|jsonl|key|lock|log|ndjson|new|orc|p12|"
    "parquet|pem|pid|py|pyc|sh|shm|so|sock|sqlite|sqlite3|tmp|toml|tsv|txt|wal|xml|yaml|yml|zip|zst"
)
_PLACE: Final = re.compile(
    rf"""
      (?<![\w+.-])[a-z][a-z0-9+.-]*://[^\s'"`<>|;)\]]+            # a URL, or a DSN
    | (?<![\w/])(?:~\w*|\.{{1,2}}|file:)?/[^\s'"`<>|:;,()]+       # a path from a root, or from here
    | (?<![\w./])\.[\w-]{_STEP}*/[^\s'"`<>|:;,()]*                # a path below a hidden folder
    | {_BEGIN}{_STEP}+(?:/{_STEP}+){{2,}}                         # a path of several steps
    | \b[a-z]:\\[^\s'"`<>|;)\]]+                                  # a path on Windows
    | {_BEGIN}[\w./@=~+-]+\.(?:{_ENDINGS})(?:-\w+)?(?!\w)         # the name of a file
    | (?<![\w.])\d{{1,3}}(?:\.\d{{1,3}}){{3}}(?::\d+)?(?!\w)      # an IPv4 address
    | (?<![\w:])\[?(?:(?:{_GROUP}:){{7}}{_GROUP}                  # an IPv6 address
      |(?:{_GROUP}:){{0,6}}(?:{_GROUP})?::(?:{_GROUP}(?::{_GROUP}){{0,6}})?)(?:%\w+)?\]?(?::\d+)?
    | (?<![\w.-])[a-z][\w-]*(?:\.[\w-]+)*:\d{{2,5}}(?!\w)         # a host and its port
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""What is a place by its looks. Names of fields (`person.name`) and times are none."""


def has_own_words(error: BaseException) -> bool:
    """Whether the words of an error are for everybody."""
    return isinstance(error, OWN_WORDS)


def public_words(error: BaseException) -> str:
    """What everybody is told of an error: no file, folder or address of the service."""
    match error:
        case PieceFailed():
            cause = public_words(error.cause)
            return f"piece {error.piece} has failed {error.tries} times, at last because: {cause}"
        case SegexportError() if has_own_words(error):
            return without_places(str(error))
    found = (_SENTENCES[kind] for kind in type(error).__mro__ if kind in _SENTENCES)
    return next(found, GENERAL)


def without_places(text: str) -> str:
    """A text without what looks like a path, a URL, an address or the name of a file.

    The last line of defence, and not the way to make a text fit for everybody: looks deceive.
    """
    return _PLACE.sub(LEFT_OUT, text)


def may_name_a_place(text: str) -> bool:
    """Whether a text may hold what `without_places` leaves out; rather yes than no."""
    return "/" in text or "\\" in text or _PLACE.search(text) is not None
