"""What a document must be, and the verdict on one: valid, invalid, or saying nothing.

XDM's own schema requires nothing and allows every unknown key, so it passes `{}`, and it
passes a compact document with a count of -5. A verdict that means something therefore first
looks whether a `segmentExportJob` is there at all and in which form, converts the compact
form, and only then asks the schema. What JSON Schema cannot say is checked beside it, in
the functions at the end.

What segexport promises has versions. A document in URI form is judged by the version whose keys
it has. In compact form all versions look alike, so there it keeps the contract if it keeps one
of them, and what is found is that in which it breaks the newest.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from segexport.errors import InvalidEvent
from segexport.events import schema, xdm
from segexport.events.explain import Finding, explain
from segexport.events.mixture import mixture
from segexport.events.versions import CURRENT, VERSIONS, Version
from segexport.events.vocabulary import ORCHESTRATION, SEGMENT_EXPORT_JOB, SERVICE_EVENTS, Form
from segexport.jobs.lifecycle import Milestone


class Contract(StrEnum):
    """How much is asked of a document."""

    XDM = "xdm"  # what the field group and its neighbours say
    EMITTED = "emitted"  # what segexport promises of its own records


class Verdict(StrEnum):
    """What a document turned out to be."""

    VALID = "valid"
    INVALID = "invalid"
    SAYS_NOTHING = "says nothing"


class Kind(StrEnum):
    """The five kinds of event; each is a definition of the schema `emitted`."""

    QUEUED = "queued"
    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict, what it rests on, and the form in which the document speaks."""

    verdict: Verdict
    form: Form | None
    findings: tuple[Finding, ...] = ()


_VALID: Final = MappingProxyType({form: Judgement(Verdict.VALID, form) for form in Form})
_NO_JOB: Final = Judgement(
    Verdict.SAYS_NOTHING,
    None,
    (Finding((), "segmentExportJob", None, "holds no segmentExportJob, in either form"),),
)


def judge(
    document: object, contract: Contract = Contract.XDM, version: Version | None = None
) -> Judgement:
    """Judge one parsed JSON document. Never raises.

    `version` is the one of the contract `emitted` that whoever has the document knows, such as
    from its record's `ce_dataschema`; without it, the document decides. Our own keys of an earlier
    version, which XDM does not admit, are no fault by the contract `xdm` where that is known.
    """
    if not isinstance(document, dict):
        return _NO_JOB
    try:
        form = xdm.form_of(document)
        if form is None:
            return _NO_JOB
    except InvalidEvent as error:
        return Judgement(Verdict.INVALID, None, (Finding((), "form", None, str(error)),))
    findings = list(mixture(document, form))
    try:
        uri: xdm.Document = document
        if form is Form.COMPACT:
            uri = xdm.to_uri(document, version or CURRENT)
    except InvalidEvent as error:
        findings = findings or [Finding((), "form", None, str(error))]
        return Judgement(Verdict.INVALID, form, tuple(findings))
    if not findings and _is_empty(uri[SEGMENT_EXPORT_JOB]):
        empty = Finding((), "segmentExportJob", None, "its segmentExportJob has no field at all")
        return Judgement(Verdict.SAYS_NOTHING, form, (empty,))
    try:
        found = _found(document, uri, form, contract, version)
    except RecursionError:
        found = [Finding((), "depth", None, "is nested more deeply than can be explained")]
    if form is Form.COMPACT:
        found = [finding.at(xdm.compact_path(finding.path)) for finding in found]
    told = {finding.path[:1] for finding in findings}
    findings += [it for it in found if it.rule != "additionalProperties" or it.path not in told]
    return Judgement(Verdict.INVALID, form, tuple(findings)) if findings else _VALID[form]


def _found(
    document: xdm.Document,
    uri: xdm.Document,
    form: Form,
    contract: Contract,
    version: Version | None,
) -> list[Finding]:
    """In what a document, which `uri` is in URI form, breaks a contract."""
    if contract is Contract.XDM:
        if form is Form.COMPACT:
            uri = xdm.without_namespaces(uri)
        if version is not None and version is not CURRENT:
            uri = xdm.without_own_keys(uri, version)
        return list(violations(uri, contract))
    found = list(violations(uri, contract, version or xdm.version_of(uri) or CURRENT))
    if found and form is Form.COMPACT and version is None and _keeps_older(document):
        return []
    return found


def _keeps_older(document: xdm.Document) -> bool:
    """Whether a document in compact form keeps an earlier version of what segexport promises."""
    for version in _OLDER:
        try:
            if not any(violations(xdm.to_uri(document, version), Contract.EMITTED, version)):
                return True
        except InvalidEvent:  # a key of the URI form is in the way
            pass
    return False


def demand(document: xdm.Document) -> None:
    """Raise `InvalidEvent`, naming the rules, unless a URI-form document may be emitted."""
    found = list(violations(document, Contract.EMITTED))
    if found:
        raise InvalidEvent(
            "this event breaks the contract 'emitted' and was not stored: "
            + "; ".join(map(str, found))
        )


def violations(
    document: xdm.Document, contract: Contract, version: Version = CURRENT
) -> Iterator[Finding]:
    """Everything in which a URI-form document with a `segmentExportJob` breaks a contract.

    Only the contract `emitted` has versions.
    """
    name: str = schema.SERVICE_EVENT
    definition: Kind | None = None
    if contract is Contract.EMITTED:
        name, definition = version.schema, kind_of(document)
        if definition is None:
            path = (SEGMENT_EXPORT_JOB, _STATUS)
            status = document[SEGMENT_EXPORT_JOB][_STATUS]
            yield Finding(path, "enum", status, f"must be one of {_STATUSES}")
            return
    if schema.fast(name, definition).is_valid(document):
        for rule in RULES[contract]:
            yield from rule(document)
    else:
        yield from explain(document, name, definition)


def kind_of(document: xdm.Document) -> Kind | None:
    """The kind that a URI-form document is, or comes nearest to; None if its status is unknown.

    Only its own kind's definition can be true of a document; so it is enough to ask that
    one, and its errors are about the event that was meant.
    """
    job = document.get(SEGMENT_EXPORT_JOB)
    if not isinstance(job, dict) or _STATUS not in job:
        return Kind.DISCARDED
    match job[_STATUS]:
        case "queued":
            return Kind.QUEUED
        case "started":
            return Kind.STARTED
        case "finished":
            failed = job.get(_TYPE) == "error" or str(job.get(_CODE)).startswith("ERROR")
            return Kind.FAILED if failed else Kind.SUCCEEDED
    return None


_OLDER: Final = tuple(version for version in VERSIONS.values() if version is not CURRENT)[::-1]
_STATUS: Final = SERVICE_EVENTS + "status"
_STATUSES: Final = ", ".join(Milestone)
_TYPE: Final = SERVICE_EVENTS + "eventType"
_CODE: Final = SERVICE_EVENTS + "eventCode"
_COUNTS: Final = tuple(
    SERVICE_EVENTS + "exportCount" + it for it in ("Total", "Realized", "Failed")
)
_RFC3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d):(\d\d)(?:\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)


def _is_empty(job: object) -> bool:
    return isinstance(job, dict) and not any(key in _JOB_KEYS for key in job)


_JOB_KEYS: Final = frozenset(xdm.table()[SEGMENT_EXPORT_JOB].short)


def _moment(text: str) -> datetime | None:
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    day, minute, second, zone = match.groups()
    # A leap second is a moment to RFC 3339 but not to Python.
    second = "59" if second == "60" else second
    try:
        return datetime.fromisoformat(f"{day}T{minute}:{second}{zone.upper()}")
    except ValueError:
        return None


def _timestamp_exists(document: xdm.Document) -> Iterator[Finding]:
    written = document.get("xdm:timestamp")
    if isinstance(written, str) and _moment(written) is None:
        yield Finding(
            ("xdm:timestamp",), "date-time", written, "is not a moment as RFC 3339 writes it"
        )


def _timestamp_is_utc(document: xdm.Document) -> Iterator[Finding]:
    written = document["xdm:timestamp"]
    if not written.endswith("Z"):
        yield Finding(("xdm:timestamp",), "utc", written, "is not in UTC, written with a Z")


def _counts_add_up(document: xdm.Document) -> Iterator[Finding]:
    job = document[SEGMENT_EXPORT_JOB]
    if _COUNTS[1] in job:
        total, realized, failed = (job[key] for key in _COUNTS)
        if total != realized + failed:
            yield Finding(
                (SEGMENT_EXPORT_JOB, _COUNTS[0]),
                "sum",
                total,
                f"is not realized + failed, which is {realized} + {failed}",
            )


def _journey_versions_agree(document: xdm.Document) -> Iterator[Finding]:
    journey = document.get(ORCHESTRATION + "journey")
    if journey is not None:
        version = journey[ORCHESTRATION + "versionID"]
        step = document[ORCHESTRATION + "stepEvents"][ORCHESTRATION + "journeyVersionID"]
        if step != version:
            path = (ORCHESTRATION + "stepEvents", ORCHESTRATION + "journeyVersionID")
            yield Finding(path, "same version", step, f"is not the journey's version {version!r}")


def _job_ids_agree(document: xdm.Document) -> Iterator[Finding]:
    step = document.get(ORCHESTRATION + "stepEvents", {}).get(ORCHESTRATION + "exportJobID")
    job = document[SEGMENT_EXPORT_JOB][SERVICE_EVENTS + "ID"]
    if step is not None and step != job:
        path = (ORCHESTRATION + "stepEvents", ORCHESTRATION + "exportJobID")
        yield Finding(path, "same job", step, f"is not the job's ID {job!r}")


Rule = Callable[[xdm.Document], Iterator[Finding]]

RULES: Mapping[Contract, Sequence[Rule]] = MappingProxyType(
    {
        Contract.XDM: (_timestamp_exists,),
        Contract.EMITTED: (
            _timestamp_exists,
            _timestamp_is_utc,
            _counts_add_up,
            _journey_versions_agree,
            _job_ids_agree,
        ),
    }
)
"""What a document has to keep besides the schema, once the schema has found it valid."""
