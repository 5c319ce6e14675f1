"""The findings of `segexport validate` as JUnit XML, which CI systems show as test results.

A file is a test suite. Its valid documents are one test case that passes, whatever their number;
each document that is not valid is one that fails, and each place that cannot be read is an error.
So attributes and elements agree, and a file of millions of documents makes a report of the size of
its failures, of which the first `MAX_LISTED` are listed.

The format has no owner. This is what Ant's and Jenkins' schemas have in common: every attribute
that either requires, in the order that Ant's demands.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from segexport.cli.verdicts import KINDS, UNREADABLE, Place, Report
from segexport.events.contract import Judgement, Verdict
from segexport.printable import printable

MAX_LISTED: Final = 1000
"""Test cases of one file for what is not valid; one more says how many are left out."""
MAX_FINDINGS: Final = 20
"""Findings of one document that are told."""

_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class JUnitReport(Report):
    """Each suite is written when its file ends: what is held is one file's failures."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        super().__init__()
        self._clock = clock
        self._began = clock()
        self._told: Counter[str] = Counter()
        self._suites = 0
        self._cases: list[Element] = []
        self._names: Counter[str] = Counter()
        self._write(
            '<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="segexport validate">'
        )

    def end_file(self, file: str) -> None:
        """Write the file's suite."""
        counts = self.verdicts - self._told
        suite = self._suite(file, counts, self._all_cases(file, counts))
        self._write(tostring(suite, encoding="us-ascii", xml_declaration=False).decode())
        self._began, self._told = self._clock(), self.verdicts.copy()
        self._cases, self._names = [], Counter()
        self._suites += 1

    def _all_cases(self, file: str, counts: Counter[str]) -> Sequence[Element]:
        cases = list(self._cases)
        if counts[Verdict.VALID]:
            cases.insert(0, _case(file, "valid documents"))
        if left := sum(counts.values()) - counts[Verdict.VALID] - len(self._cases):
            cases.append(_case(file, "the rest of what is not valid"))
            words = f"and {left:,} more; --format json lists them all"
            SubElement(cases[-1], "failure", type="more", message=words)
        return cases

    def _suite(self, file: str, counts: Counter[str], cases: Sequence[Element]) -> Element:
        found = Counter(part.tag for case in cases for part in case)
        seconds = max((self._clock() - self._began).total_seconds(), 0)
        suite = Element(
            "testsuite",
            name=_text(file),
            tests=str(len(cases)),
            failures=str(found["failure"]),
            errors=str(found["error"]),
            skipped="0",
            time=f"{seconds:.3f}",
            timestamp=f"{self._began:%Y-%m-%dT%H:%M:%S}",
            hostname="localhost",
            id=str(self._suites),
            package="segexport.validate",
        )
        properties = SubElement(suite, "properties")
        for kind in KINDS:
            SubElement(properties, "property", name=kind, value=str(counts[kind]))
        suite.extend(cases)
        SubElement(suite, "system-out")
        SubElement(suite, "system-err")
        return suite

    def end(self) -> None:
        """Close the report."""
        self._write("</testsuites>")

    def _not_valid(self, place: Place, judgement: Judgement, _: str | None) -> None:
        findings = [str(finding) for finding in judgement.findings[:MAX_FINDINGS]]
        if len(judgement.findings) > MAX_FINDINGS:
            findings.append(f"and {len(judgement.findings) - MAX_FINDINGS:,} more")
        self._add(place, "failure", judgement.verdict.value, findings)

    def _unreadable(self, place: Place, reason: str) -> None:
        self._add(place, "error", UNREADABLE, [reason])

    def _add(self, place: Place, outcome: str, kind: str, lines: Sequence[str]) -> None:
        if len(self._cases) == MAX_LISTED:
            return
        name = str(place)
        self._names[name] += 1
        if (times := self._names[name]) > 1:  # as several events of one envelope
            name = f"{name} #{times}"
        case = _case(place.file, name)
        found = SubElement(case, outcome, type=kind, message=_text(f"{kind}: {lines[0]}"))
        found.text = "\n".join(map(_text, lines))
        self._cases.append(case)

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.write(text + "\n")


def _case(file: str, name: str) -> Element:
    return Element("testcase", classname=_text(file), name=_text(name), time="0")


def _text(text: str) -> str:
    """A text that XML may hold and a terminal shows: what it may not stands there as an escape."""
    return _NO_XML.sub(lambda it: it[0].encode("unicode_escape").decode(), printable(text))
