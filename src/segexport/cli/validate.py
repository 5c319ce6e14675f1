"""`segexport validate`: judge service events, wherever they come from."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import typer

from segexport.cli.app import EXIT_USAGE, app
from segexport.cli.present import OutputFormat, json_text
from segexport.events.contract import Contract, Judgement, Verdict, judge
from segexport.events.documents import Located, Unreadable, read_documents
from segexport.events.explain import shown
from segexport.printable import printable

EXIT_NOT_VALID: Final = 1
"""Something is invalid, or says nothing."""

_STDIN: Final = "-"


@app.command()
def validate(
    files: Annotated[
        list[str], typer.Argument(help="JSON, arrays of JSON, or NDJSON; `-` is stdin.")
    ],
    contract: Annotated[
        Contract, typer.Option(help="What XDM says, or all that segexport promises.")
    ] = Contract.XDM,
    output: Annotated[
        OutputFormat, typer.Option("--format", help="For people, or as NDJSON for CI.")
    ] = OutputFormat.TEXT,
) -> None:
    """Judge service events: valid, invalid, or saying nothing.

    Keys may be URIs or in compact form. A document without a segmentExportJob *says
    nothing*: XDM's schema would pass it, because it requires nothing.

    Exit status: 0 all are valid, 1 some are invalid or say nothing, 2 some input could not
    be read (the rest was judged).

        segexport validate events.ndjson

        segexport validate --contract emitted --format json monday.ndjson tuesday.json

        kcat -b localhost:9092 -t segment-export-job-events -C -e -q | segexport validate -
    """
    report = _Report(output)
    for name in files:
        if name == _STDIN:
            _judge_lines("<stdin>", sys.stdin.buffer, contract, report)
        else:
            _judge_file(name, contract, report)
    report.summary()
    if status := report.exit_status:
        raise typer.Exit(status)


def _judge_file(name: str, contract: Contract, report: "_Report") -> None:
    try:
        with Path(name).open("rb") as file:
            _judge_lines(name, file, contract, report)
    except OSError as error:
        report.unreadable(name, None, f"{error.strerror}; check the name and its permissions")


def _judge_lines(name: str, lines: BinaryIO, contract: Contract, report: "_Report") -> None:
    for found in read_documents(lines):
        if isinstance(found, Unreadable):
            report.unreadable(name, found.line, f"{found.reason}; correct or remove it")
        else:
            report.judged(name, found, judge(found.document, contract))


@dataclass(slots=True)
class _Report:
    """Says of every document that is not valid what is wrong with it, and counts them all."""

    output: OutputFormat
    verdicts: Counter[str] = field(default_factory=Counter)

    def judged(self, name: str, found: Located, judgement: Judgement) -> None:
        self.verdicts[judgement.verdict.value] += 1
        if judgement.verdict is Verdict.VALID:
            return
        place = f"{name}:{found.line}" + ("" if found.index is None else f"[{found.index}]")
        self._say(
            [f"{place}: {judgement.verdict}: {finding}" for finding in judgement.findings],
            {
                "file": name,
                "line": found.line,
                "index": found.index,
                "verdict": judgement.verdict,
                "form": judgement.form,
                "findings": [
                    {
                        "path": finding.path,
                        "rule": finding.rule,
                        "value": _scalar(finding.value),
                        "message": finding.message,
                    }
                    for finding in judgement.findings
                ],
            },
        )

    def unreadable(self, name: str, line: int | None, reason: str) -> None:
        self.verdicts["unreadable"] += 1
        place = name if line is None else f"{name}:{line}"
        self._say(
            [f"{place}: unreadable: {reason}"],
            {"file": name, "line": line, "verdict": "unreadable", "reason": reason},
        )

    def summary(self) -> None:
        kinds = [*(verdict.value for verdict in Verdict), "unreadable"]
        counts = {kind: self.verdicts[kind] for kind in kinds if self.verdicts[kind]}
        line = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
        self._say([line], {"summary": {kind: self.verdicts[kind] for kind in kinds}})

    @property
    def exit_status(self) -> int:
        if self.verdicts["unreadable"]:
            return EXIT_USAGE
        return 0 if self.verdicts.keys() <= {Verdict.VALID} else EXIT_NOT_VALID

    def _say(self, lines: Sequence[str], document: dict[str, Any]) -> None:
        # Not through Rich: there may be millions of lines.
        if self.output is OutputFormat.JSON:
            sys.stdout.write(json_text(document) + "\n")
        else:
            sys.stdout.write("\n".join(map(printable, lines)) + "\n")


def _scalar(value: Any) -> Any:
    """The value, or the beginning of its text where it is an object or a list."""
    return shown(value) if isinstance(value, dict | list) else value
