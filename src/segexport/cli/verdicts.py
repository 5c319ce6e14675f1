"""What `segexport validate` finds, on stdout: in words, as NDJSON, or as a report for CI."""

import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from segexport.cli.app import EXIT_USAGE
from segexport.cli.present import json_text
from segexport.events.contract import Judgement, Verdict
from segexport.events.explain import shown
from segexport.printable import printable

EXIT_NOT_VALID: Final = 1
"""Something is invalid, or says nothing."""
UNREADABLE: Final = "unreadable"
KINDS: Final = (*(verdict.value for verdict in Verdict), UNREADABLE)
"""All that can be said of a document, or of what should be one."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a document is: its file, the line from 1, and the index in an array from 0.

    Without a line, it is the file as a whole.
    """

    file: str
    line: int | None = None
    index: int | None = None

    def __str__(self) -> str:
        line = "" if self.line is None else f":{self.line}"
        return self.file + line + ("" if self.index is None else f"[{self.index}]")


class Report(ABC):
    """Says of everything that is not valid what is wrong with it, and counts it all."""

    def __init__(self) -> None:
        self.verdicts: Counter[str] = Counter()

    @property
    def exit_status(self) -> int:
        """0 all are valid, 1 some are not, 2 some could not be read."""
        if self.verdicts[UNREADABLE]:
            return EXIT_USAGE
        return 0 if self.verdicts.keys() <= {Verdict.VALID} else EXIT_NOT_VALID

    def judged(self, place: Place, judgement: Judgement, envelope: str | None = None) -> None:
        """A document, and the envelope that it was taken from."""
        self.verdicts[judgement.verdict.value] += 1
        if judgement.verdict is not Verdict.VALID:
            self._not_valid(place, judgement, envelope)

    def unreadable(self, place: Place, reason: str) -> None:
        """What should be a document, and what to do about it."""
        self.verdicts[UNREADABLE] += 1
        self._unreadable(place, reason)

    def end_file(self, file: str) -> None:  # noqa: B027  (most reports say nothing then)
        """All of a file has been told."""

    @abstractmethod
    def end(self) -> None:
        """Everything has been told."""

    @abstractmethod
    def _not_valid(self, place: Place, judgement: Judgement, envelope: str | None) -> None: ...

    @abstractmethod
    def _unreadable(self, place: Place, reason: str) -> None: ...


class TextReport(Report):
    """A line for each thing that is wrong, and one with the counts."""

    def end(self) -> None:
        """The counts."""
        counts = {kind: self.verdicts[kind] for kind in KINDS if self.verdicts[kind]}
        self._say([", ".join(f"{count:,} {kind}" for kind, count in counts.items())])

    def _not_valid(self, place: Place, judgement: Judgement, _: str | None) -> None:
        self._say([f"{place}: {judgement.verdict}: {finding}" for finding in judgement.findings])

    def _unreadable(self, place: Place, reason: str) -> None:
        self._say([f"{place}: unreadable: {reason}"])

    @staticmethod
    def _say(lines: Sequence[str]) -> None:
        # Not through Rich: there may be millions of lines.
        sys.stdout.write("\n".join(map(printable, lines)) + "\n")


class JsonReport(Report):
    """A line of JSON for each document, and one with the counts."""

    def end(self) -> None:
        """The counts."""
        self._say({"summary": {kind: self.verdicts[kind] for kind in KINDS}})

    def _not_valid(self, place: Place, judgement: Judgement, envelope: str | None) -> None:
        document: dict[str, Any] = {
            "file": place.file,
            "line": place.line,
            "index": place.index,
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
        }
        self._say(document if envelope is None else {**document, "envelope": envelope})

    def _unreadable(self, place: Place, reason: str) -> None:
        self._say(
            {"file": place.file, "line": place.line, "verdict": "unreadable", "reason": reason}
        )

    @staticmethod
    def _say(document: dict[str, Any]) -> None:
        sys.stdout.write(json_text(document) + "\n")


def _scalar(value: Any) -> Any:
    """The value, or the beginning of its text where it is an object or a list."""
    return shown(value) if isinstance(value, dict | list) else value
