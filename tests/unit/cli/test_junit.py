"""`segexport validate --format junit`: what CI systems read."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element

import orjson
import pytest
from typer.testing import CliRunner, Result

from segexport.cli.app import app
from segexport.cli.junit import MAX_FINDINGS, MAX_LISTED
from segexport.events import schema
from segexport.events.vocabulary import SEGMENT_EXPORT_JOB, SERVICE_EVENTS

GOOD: dict[str, Any] = schema.schemas()["segment-export-job"]["examples"][0]
BAD = {SEGMENT_EXPORT_JOB: {SERVICE_EVENTS + "exportCountTotal": -1}}

REQUIRED = {
    "testsuite": {
        *("name", "tests", "failures", "errors", "skipped", "time"),
        *("timestamp", "hostname", "id", "package"),
    },
    "testcase": {"name", "classname", "time"},
    "failure": {"type", "message"},
    "error": {"type", "message"},
    "property": {"name", "value"},
}
"""Attributes that the schemas of Ant and Jenkins require between them."""
ORDER = ("properties", "testcase", "system-out", "system-err")

Run = Callable[..., tuple[int, list[Element]]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, stdin: bytes | None = None) -> tuple[int, list[Element]]:
        result: Result = CliRunner().invoke(
            app, ["validate", "--format", "junit", *arguments], input=stdin
        )
        assert result.stdout.startswith('<?xml version="1.0" encoding="UTF-8"?>\n')
        assert result.stdout.isascii()
        root = ET.fromstring(result.stdout)
        assert root.tag == "testsuites"
        for suite in root:
            _is_well_made(suite)
        return result.exit_code, list(root)

    return call


def _is_well_made(suite: Element) -> None:
    for element in suite.iter():
        assert set(element.keys()) >= REQUIRED.get(element.tag, set()), element.tag
    assert sorted(suite, key=lambda it: ORDER.index(it.tag)) == list(suite)
    assert {"properties", "system-out", "system-err"} <= {it.tag for it in suite}
    for attribute, path in (
        ("tests", "testcase"),
        ("failures", "testcase/failure"),
        ("errors", "testcase/error"),
    ):
        assert int(suite.attrib[attribute]) == len(suite.findall(path))
    names = Counter(case.attrib["name"] for case in suite.iter("testcase"))
    assert set(names.values()) <= {1}
    assert float(suite.attrib["time"]) >= 0


def counts(suite: Element) -> dict[str, int]:
    found = {it.attrib["name"]: int(it.attrib["value"]) for it in suite.iter("property")}
    return {name: count for name, count in found.items() if count}


def ndjson(*documents: object) -> bytes:
    return b"".join(orjson.dumps(document) + b"\n" for document in documents)


def test_a_file_is_a_suite_and_what_is_not_valid_a_test_case_with_its_place(run: Run) -> None:
    Path("good.ndjson").write_bytes(ndjson(GOOD, GOOD))
    Path("bad.ndjson").write_bytes(ndjson(GOOD, BAD, {}) + b"nonsense\n")
    status, (good, bad, missing) = run("good.ndjson", "bad.ndjson", "missing.ndjson")
    assert status == 2
    assert [suite.attrib["name"] for suite in (good, bad, missing)] == [
        "good.ndjson",
        "bad.ndjson",
        "missing.ndjson",
    ]
    assert [case.attrib["name"] for case in good.iter("testcase")] == ["valid documents"]
    assert counts(good) == {"valid": 2}
    assert counts(bad) == {"valid": 1, "invalid": 1, "says nothing": 1, "unreadable": 1}
    valid, invalid, silent, unreadable = bad.iter("testcase")
    assert list(valid) == []
    assert invalid.attrib == {"classname": "bad.ndjson", "name": "bad.ndjson:2", "time": "0"}
    (failure,) = invalid
    words = "segmentExportJob.exportCountTotal: must not be below 0, but is -1 [minimum]"
    assert (failure.tag, failure.attrib["type"]) == ("failure", "invalid")
    assert (failure.attrib["message"], failure.text) == (f"invalid: {words}", words)
    assert [it.attrib["type"] for it in silent.iter("failure")] == ["says nothing"]
    assert [it.attrib["type"] for it in unreadable.iter("error")] == ["unreadable"]
    assert missing.find("testcase/error") is not None


@pytest.mark.parametrize(("stdin", "status"), [(ndjson(GOOD), 0), (ndjson(BAD), 1), (b"[]", 2)])
def test_the_exit_status_is_that_of_every_format(run: Run, stdin: bytes, status: int) -> None:
    found, (suite,) = run("-", stdin=stdin)
    assert found == status
    assert suite.attrib["name"] == "<stdin>"


def test_of_very_many_failures_the_first_are_listed_and_all_counted(run: Run) -> None:
    _, (suite,) = run("-", stdin=ndjson(*[BAD] * (MAX_LISTED + 5), GOOD))
    assert counts(suite) == {"valid": 1, "invalid": MAX_LISTED + 5}
    cases = list(suite.iter("testcase"))
    assert len(cases) == MAX_LISTED + 2
    failure = cases[-1].find("failure")
    assert failure is not None
    assert failure.attrib["message"] == "and 5 more; --format json lists them all"


def test_of_very_many_findings_in_one_document_the_first_are_told(run: Run) -> None:
    wrong: dict[str, Any] = dict(BAD)
    for number in range(MAX_FINDINGS + 5):
        wrong[f"https://b.example/{number}"] = {"_experience": {"journeyOrchestration": number}}
    _, (suite,) = run("-", stdin=ndjson(wrong))
    *findings, last = suite.findtext("testcase/failure", "").splitlines()
    assert (len(findings), last) == (MAX_FINDINGS, "and 6 more")


@pytest.mark.parametrize(
    "letters", ["\x00\x1b[31m", "\ufffe\uffff", "<&>\"'", "]]>", "é\U0001f600", "\u202e\n\r\t"]
)
def test_letters_that_xml_cannot_hold_are_written_as_escapes(run: Run, letters: str) -> None:
    document = {SEGMENT_EXPORT_JOB: {SERVICE_EVENTS + "ID": {letters: letters}}}
    name = "".join(letter for letter in f"a<&>{letters}.json" if letter not in "\0/")
    Path(name).write_text(json.dumps(document))
    status, (suite,) = run(name)
    assert status == 1
    assert suite.attrib["name"].startswith("a<&>")
    assert suite.findtext("testcase/failure")


def test_a_document_is_told_by_its_index_in_an_array(run: Run) -> None:
    _, (suite,) = run("-", stdin=json.dumps([GOOD, BAD, BAD]).encode())
    assert [case.attrib["name"] for case in suite.iter("testcase")] == [
        "valid documents",
        "<stdin>:1[1]",
        "<stdin>:1[2]",
    ]


def test_events_of_one_envelope_have_test_cases_of_different_names(run: Run) -> None:
    messages = [{"body": {"xdmEntity": BAD}}] * 3
    _, (suite,) = run("--unwrap", "-", stdin=ndjson({"messages": messages}))
    names = [case.attrib["name"] for case in suite.iter("testcase")]
    assert names == ["<stdin>:1", "<stdin>:1 #2", "<stdin>:1 #3"]
