"""A received event as one line that a person can follow."""

from collections.abc import Mapping
from typing import Any, Final

from rich.text import Text

from segexport.cli.markup import escape
from segexport.consume.received import Received
from segexport.errors import InvalidEvent
from segexport.events.contract import Verdict
from segexport.events.service_event import (
    EVENT_CODE,
    EVENT_TYPE,
    FAILED,
    JOB_ID,
    ORCHESTRATION_ID,
    PROFILE,
    REALIZED,
    SEGMENT_ID,
    STATUS,
    TOTAL,
)
from segexport.events.versions import VERSIONS
from segexport.events.vocabulary import SEGMENT_EXPORT_JOB, Form
from segexport.events.xdm import form_of, to_uri

_COLOURS: Final = {"queued": "cyan", "started": "blue", "finished": "green", "discarded": "yellow"}


def event_line(received: Received) -> Text:
    """Time, job, what happened, code and fault, counts, and the verdict on the record.

    09:30:00.120  4711  finished   error  ERROR_EXPORTJOB_FAILED (cancelled)  9/0/9  gold  ✓ valid
    """
    document = _in_uri_form(received.document)
    event = _object(document, SEGMENT_EXPORT_JOB)
    person = _object(document, PROFILE).get(ORCHESTRATION_ID)
    happened = str(event.get(STATUS) or ("discarded" if person else "?"))
    failed = happened == "finished" and str(event.get(EVENT_CODE)).startswith("ERROR")
    colour = "red" if failed else _COLOURS.get(happened, "magenta")
    parts = [
        f"[dim]{received.timestamp:%H:%M:%S}.{received.timestamp.microsecond // 1000:03d}[/]",
        f"{escape(str(event.get(JOB_ID, received.key))):>16}",
        f"[{colour}]{escape(happened):<9}[/]",
        f"{escape(str(event.get(EVENT_TYPE, '')))}",
    ]
    if EVENT_CODE in event:
        fault = _fault(document)
        code = str(event[EVENT_CODE])
        parts.append(escape(code if fault is None else f"{code} ({fault})"))
    if TOTAL in event:
        counts = (event.get(name) for name in (TOTAL, REALIZED, FAILED))
        parts.append(escape("/".join(str(count) for count in counts if count is not None)))
    if SEGMENT_ID in event:
        parts.append(escape(str(event[SEGMENT_ID])))
    if person is not None:
        parts.append(f"profile {escape(str(person))}")
    return Text.from_markup("  ".join([*parts, _verdict(received)]))


def _verdict(received: Received) -> str:
    judgement = received.judgement
    if judgement.verdict is Verdict.VALID:
        return "[green]✓ valid[/]"
    findings = "; ".join(str(finding) for finding in judgement.findings)
    return f"[bold red]✗ {judgement.verdict}[/] {escape(findings)}".rstrip()


def _fault(document: Mapping[str, Any]) -> Any:
    """What the code does not tell: a cancelled job has that of a failed one."""
    keys = (version.own + "fault" for version in VERSIONS.values())
    return next((document[key] for key in keys if key in document), None)


def _in_uri_form(document: Any) -> Mapping[str, Any]:
    if not isinstance(document, Mapping):
        return {}
    try:
        return to_uri(document) if form_of(document) is Form.COMPACT else document
    except InvalidEvent:
        return document


def _object(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key)
    return value if isinstance(value, Mapping) else {}
