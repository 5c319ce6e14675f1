"""Envelopes: documents around an event, as other systems write them to files and topics.

| envelope | what is it | where the event is |
|---|---|---|
| CloudEvents | structured mode, JSON | `data`, or `data_base64` |
| Experience Platform streaming ingestion | a record, or a batch of them | `body.xdmEntity` |
| Kafka Connect | JsonConverter with schemas | `payload` |
| kcat | `kcat -J` | `payload`, a text |
| Kafka REST Proxy | a consumed record, JSON or binary | `value`, as JSON or in Base64 |

One may be in another. An array of them, such as a batch of CloudEvents, is an array of documents
like others.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from segexport.errors import InvalidEvent
from segexport.events.parsing import parse
from segexport.events.xdm import Path, form_of

_DEPTH: Final = 4
"""Envelopes in each other that are opened."""

_Opened = tuple[str, Sequence[tuple[Path, object]]]
"""The name of an envelope, and what it holds with the path to it."""

_CLOUDEVENTS: Final = frozenset({"specversion", "id", "source", "type"})
_CONNECT: Final = frozenset({"schema", "payload"})
_RECORD: Final = frozenset({"topic", "partition", "offset"})


@dataclass(frozen=True, slots=True)
class Enclosed:
    """What an envelope holds at a path, or the text there that is no JSON.

    `envelope` names the envelope that is next to it. `repeated` are the places where an object
    has a name twice, in it or around it. All paths begin at the document's root.
    """

    path: Path
    envelope: str
    document: Any
    repeated: Sequence[Path] = ()
    is_json: bool = True


def envelope_of(document: object) -> str | None:
    """The name of the envelope that a document is; None if it is none, or an event itself."""
    opened = _opened(document)
    return opened[0] if opened is not None else None


def enclosed(document: object, repeated: Sequence[Path] = ()) -> Iterator[Enclosed]:
    """What an envelope holds, those in it opened too. An empty batch holds None."""
    opened = _opened(document)
    if opened is not None:
        yield from _contents(opened, (), repeated, 1)


def _contents(
    opened: _Opened, path: Path, repeated: Sequence[Path], depth: int
) -> Iterator[Enclosed]:
    envelope, contents = opened
    for below, content in contents:
        inner = (*path, *below)
        concerning = [place for place in repeated if _concerns(place, inner)]
        yield from _inside(content, inner, concerning, envelope, depth)


def _inside(
    part: object, path: Path, repeated: Sequence[Path], envelope: str, depth: int
) -> Iterator[Enclosed]:
    if isinstance(part, str | bytes):
        try:
            parsed = parse(part.encode() if isinstance(part, str) else part)
        except (orjson.JSONDecodeError, UnicodeEncodeError):
            yield Enclosed(path, envelope, None, repeated, is_json=False)
            return
        part = parsed.document
        repeated = [*repeated, *((*path, *place) for place in parsed.repeated)]
    opened = _opened(part)
    if opened is None or depth == _DEPTH:
        yield Enclosed(path, envelope, part, repeated)
    else:
        yield from _contents(opened, path, repeated, depth + 1)


def _concerns(place: Path, path: Path) -> bool:
    """Whether a place lies in the same entries of all lists as a path does."""
    for there, here in zip(place, path, strict=False):
        if there != here:
            return not (isinstance(there, int) and isinstance(here, int))
    return True


def _opened(document: object) -> _Opened | None:
    if not isinstance(document, dict) or _is_event(document):
        return None
    names = document.keys()
    if names >= _CLOUDEVENTS:
        if document.get("data_base64") is not None:
            content = _from_base64(document["data_base64"])
            return "CloudEvents", [(("data_base64",), content)]
        return "CloudEvents", [(("data",), document.get("data"))]
    if names == _CONNECT:
        return "Kafka Connect", [(("payload",), document["payload"])]
    return _opened_record(document) or _opened_streaming(document)


def _opened_record(document: Mapping[str, Any]) -> _Opened | None:
    names = document.keys()
    if names >= {*_RECORD, "payload"}:
        return "kcat", [(("payload",), document["payload"])]
    if names >= {*_RECORD, "value"}:
        return "Kafka REST Proxy", [(("value",), _from_proxy(document["value"]))]
    return None


def _opened_streaming(document: Mapping[str, Any]) -> _Opened | None:
    name = "Experience Platform streaming"
    if _is_streaming(document):
        return name, [(("body", "xdmEntity"), document["body"]["xdmEntity"])]
    messages = document.get("messages")
    if messages == []:
        return name, [(("messages",), None)]
    if not isinstance(messages, list) or not any(map(_is_streaming, messages)):
        return None
    return name, [
        (("messages", at, "body", "xdmEntity"), message["body"]["xdmEntity"])
        if _is_streaming(message)
        else (("messages", at), message)
        for at, message in enumerate(messages)
    ]


def _is_streaming(document: object) -> bool:
    body = document.get("body") if isinstance(document, dict) else None
    return isinstance(body, dict) and "xdmEntity" in body


def _is_event(document: Mapping[str, Any]) -> bool:
    try:
        return form_of(document) is not None
    except InvalidEvent:
        return True


def _from_base64(content: object) -> object:
    if not isinstance(content, str):
        return content
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _from_proxy(content: object) -> object:
    """The bytes that a text has in Base64, where they begin as an event does; else the content."""
    decoded = _from_base64(content)
    is_object = isinstance(decoded, bytes) and decoded.lstrip().startswith(b"{")
    return decoded if is_object else content
