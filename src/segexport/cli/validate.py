"""`segexport validate`: judge service events, wherever they come from."""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, cast

import typer

from segexport.cli.app import app
from segexport.cli.inputs import Input, Readable
from segexport.cli.junit import JUnitReport
from segexport.cli.verdicts import JsonReport, Place, Report, TextReport
from segexport.events.contract import Contract, Judgement, Verdict, judge
from segexport.events.documents import Located, read_documents
from segexport.events.envelopes import Enclosed, enclosed, envelope_of
from segexport.events.explain import Finding
from segexport.events.repeated import refuse_repeated

_STDIN: Final = "-"


class ReportFormat(StrEnum):
    """For people, for scripts, or for CI."""

    TEXT = "text"
    JSON = "json"
    JUNIT = "junit"


_REPORTS: Final[Mapping[ReportFormat, Callable[[], Report]]] = MappingProxyType(
    {
        ReportFormat.TEXT: TextReport,
        ReportFormat.JSON: JsonReport,
        ReportFormat.JUNIT: JUnitReport,
    }
)


@app.command()
def validate(
    files: Annotated[
        list[str],
        typer.Argument(help="JSON, arrays of JSON, or NDJSON, also gzipped; `-` is stdin."),
    ],
    contract: Annotated[
        Contract, typer.Option(help="What XDM says, or all that segexport promises.")
    ] = Contract.XDM,
    unwrap: Annotated[
        bool,
        typer.Option(
            "--unwrap",
            help="Judge what is in an envelope: CloudEvents, Kafka Connect, kcat -J, "
            "Kafka REST Proxy, Experience Platform streaming.",
        ),
    ] = False,
    output: Annotated[
        ReportFormat,
        typer.Option("--format", help="For people, as NDJSON for scripts, or as JUnit XML for CI."),
    ] = ReportFormat.TEXT,
) -> None:
    """Judge service events: valid, invalid, or saying nothing.

    Keys may be URIs or in compact form. A document without a segmentExportJob *says
    nothing*: XDM's schema would pass it, because it requires nothing.

    What is broken hides nothing else: reading goes on with the next line, or the next document
    of several lines. A document may have 8 MiB, a file any size.

    Exit status: 0 all are valid, 1 some are invalid or say nothing, 2 some input could not
    be read, or is empty (the rest was judged).

        segexport validate events.ndjson

        segexport validate --contract emitted --format json monday.ndjson tuesday.json

        kcat -b localhost:9092 -t segment-export-job-events -C -e -q | segexport validate -

        kcat -b localhost:9092 -t events -C -e -q -J | segexport validate --unwrap --format junit -
    """
    report = _REPORTS[output]()
    for file in files:
        name = "<stdin>" if file == _STDIN else file
        for place, found in _judgements(file, name, contract, unwrap=unwrap):
            if isinstance(found, str):
                report.unreadable(place, found)
            else:
                report.judged(place, *found)
        report.end_file(name)
    report.end()
    if status := report.exit_status:
        raise typer.Exit(status)


_Found = tuple[Place, str | tuple[Judgement, str | None]]
"""A place, and why it cannot be read, or the judgement with the name of the envelope."""


def _judgements(file: str, name: str, contract: Contract, *, unwrap: bool) -> Iterator[_Found]:
    if file == _STDIN:
        yield from _of_stream(cast("Readable", sys.stdin.buffer), name, contract, unwrap=unwrap)
        return
    try:
        stream = Path(file).open("rb")  # noqa: SIM115  (closed below)
    except OSError as error:
        yield Place(name), f"{error.strerror}; check the name and its permissions"
        return
    with stream:
        yield from _of_stream(stream, name, contract, unwrap=unwrap)


def _of_stream(
    stream: Readable, name: str, contract: Contract, *, unwrap: bool
) -> Iterator[_Found]:
    pieces = Input(stream)
    for found in read_documents(pieces):
        if isinstance(found, Located):
            place = Place(name, found.line, found.index)
            for judgement in _of_document(found, contract, unwrap=unwrap):
                yield place, judgement
        elif pieces.problem is None:
            yield Place(name, found.line), f"{found.reason}; correct or remove it"
    if pieces.problem is not None:
        yield Place(name), pieces.problem


def _of_document(
    found: Located, contract: Contract, *, unwrap: bool
) -> Iterator[tuple[Judgement, str | None]]:
    judgement = judge(found.document, contract)
    envelope = envelope_of(found.document) if judgement.verdict is Verdict.SAYS_NOTHING else None
    if envelope is None or not unwrap:
        if envelope is not None:
            judgement = _with_hint(judgement, envelope)
        yield refuse_repeated(judgement, found.repeated), None
        return
    for inner in enclosed(found.document, found.repeated):
        yield refuse_repeated(_of_enclosed(inner, contract), inner.repeated), inner.envelope


def _with_hint(judgement: Judgement, envelope: str) -> Judgement:
    hint = f"; it is an envelope of {envelope}: --unwrap judges what is in it"
    first, *others = judgement.findings
    return replace(judgement, findings=(replace(first, message=first.message + hint), *others))


def _of_enclosed(inner: Enclosed, contract: Contract) -> Judgement:
    if not inner.is_json:
        finding = Finding(inner.path, "json", None, "is a text that is no JSON")
        return Judgement(Verdict.INVALID, None, (finding,))
    judgement = judge(inner.document, contract)
    findings = tuple(it.at((*inner.path, *it.path)) for it in judgement.findings)
    return replace(judgement, findings=findings)
