"""`segexport validate` and `segexport schema`, as a person or a CI job calls them."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from segexport.cli.app import app
from segexport.cli.validate import validate
from segexport.events import schema
from segexport.events.compact_schema import compact_schema
from segexport.events.vocabulary import SEGMENT_EXPORT_JOB, SERVICE_EVENTS
from segexport.events.xdm import to_compact
from support.events import EVENTS, changed

EXAMPLES: list[dict[str, Any]] = schema.schemas()["segment-export-job"]["examples"]
NEGATIVE = to_compact({SEGMENT_EXPORT_JOB: {SERVICE_EVENTS + "exportCountFailed": -5}})
QUEUED = EVENTS["queued (xdm, one segment)"]

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()

    def call(*arguments: str, stdin: bytes | None = None) -> Result:
        return runner.invoke(app, ["validate", *arguments], input=stdin)

    return call


def ndjson(*documents: object) -> bytes:
    return b"".join(orjson.dumps(document) + b"\n" for document in documents)


def test_all_valid_is_status_0_in_every_layout(run: Run) -> None:
    Path("lines.ndjson").write_bytes(ndjson(*EXAMPLES))
    Path("array.json").write_text(json.dumps(EXAMPLES, indent=2))
    Path("one.json").write_text(json.dumps(EXAMPLES[0], indent=2))
    Path("compact.json").write_text(json.dumps(to_compact(EXAMPLES[1])))
    result = run("lines.ndjson", "array.json", "one.json", "compact.json")
    assert (result.exit_code, result.stdout) == (0, "8 valid\n")


def test_something_invalid_is_status_1_and_one_line_says_where_and_why(run: Run) -> None:
    Path("events.ndjson").write_bytes(ndjson(EXAMPLES[0], NEGATIVE))
    result = run("events.ndjson")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        (
            "events.ndjson:2: invalid: _experience.journeyOrchestration.serviceEvents."
            "segmentExportJob.exportCountFailed: must not be below 0, but is -5 [minimum]"
        ),
        "1 valid, 1 invalid",
    ]


def test_a_document_that_says_nothing_is_status_1_too(run: Run) -> None:
    result = run("-", stdin=b"{}")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        (
            "<stdin>:1: says nothing: (document): holds no segmentExportJob, in either form "
            "[segmentExportJob]"
        ),
        "1 says nothing",
    ]


def test_an_index_tells_which_document_of_an_array(run: Run) -> None:
    Path("array.json").write_text(json.dumps([EXAMPLES[0], {}]))
    assert "array.json:1[1]: says nothing" in run("array.json").stdout


def test_unreadable_input_is_status_2_and_the_other_files_are_judged(run: Run) -> None:
    Path("good.json").write_text(json.dumps(EXAMPLES[0]))
    Path("broken.ndjson").write_bytes(ndjson(EXAMPLES[0]) + b'{"a":\n' + ndjson(EXAMPLES[1]))
    Path("folder").mkdir()
    Path("empty.json").touch()
    result = run("missing.json", "broken.ndjson", "folder", "empty.json", "good.json")
    assert result.exit_code == 2
    *complaints, summary = result.stdout.splitlines()
    assert summary == "3 valid, 4 unreadable"
    assert complaints == [
        "missing.json: unreadable: No such file or directory; check the name and its permissions",
        (
            "broken.ndjson:2: unreadable: is not JSON at column 6: unexpected end of data; "
            "correct or remove it"
        ),
        "folder: unreadable: Is a directory; check the name and its permissions",
        "empty.json:1: unreadable: is empty where JSON is expected; correct or remove it",
    ]


def test_unreadable_outweighs_invalid(run: Run) -> None:
    Path("events.ndjson").write_bytes(b"{}\nnonsense\n")
    assert run("events.ndjson").exit_code == 2


def test_the_stricter_contract_is_asked_for_by_name(run: Run) -> None:
    Path("queued.json").write_text(json.dumps(QUEUED))
    Path("wrong.json").write_text(json.dumps(changed(QUEUED, "xdm:timestamp")))
    assert run("queued.json", "--contract", "emitted").exit_code == 0
    assert run("wrong.json").exit_code == 0
    result = run("wrong.json", "--contract", "emitted")
    assert result.exit_code == 1
    assert "wrong.json:1: invalid: timestamp: is missing" not in result.stdout
    assert "wrong.json:1: invalid: xdm:timestamp: is missing [required]" in result.stdout


def test_for_ci_every_line_is_json_and_the_last_one_sums_up(run: Run) -> None:
    Path("events.ndjson").write_bytes(ndjson(EXAMPLES[0], NEGATIVE, {}) + b"nonsense\n")
    result = run("--format", "json", "events.ndjson")
    assert result.exit_code == 2
    invalid, silent, unreadable, summary = map(json.loads, result.stdout.splitlines())
    home = ["_experience", "journeyOrchestration", "serviceEvents", "segmentExportJob"]
    assert invalid == {
        "file": "events.ndjson",
        "line": 2,
        "index": None,
        "verdict": "invalid",
        "form": "compact",
        "findings": [
            {
                "path": [*home, "exportCountFailed"],
                "rule": "minimum",
                "value": -5,
                "message": "must not be below 0, but is -5",
            }
        ],
    }
    assert (silent["line"], silent["verdict"], silent["form"]) == (3, "says nothing", None)
    assert (unreadable["line"], unreadable["verdict"]) == (4, "unreadable")
    assert summary == {"summary": {"valid": 1, "invalid": 1, "says nothing": 1, "unreadable": 1}}


def test_a_deeply_nested_value_does_not_stop_the_report(run: Run) -> None:
    nest = "[" * 400 + "]" * 400
    Path("deep.json").write_text(f'{{"{SEGMENT_EXPORT_JOB}": {{"{SERVICE_EVENTS}ID": {nest}}}}}')
    for arguments in ((), ("--format", "json")):
        result = run("deep.json", *arguments)
        assert result.exit_code == 1
        assert "must be of type string, not [[[" in result.stdout


def test_without_a_file_there_is_help_and_status_2(run: Run) -> None:
    assert run().exit_code == 2


def test_the_examples_in_the_help_work(run: Run) -> None:
    for name in ("events.ndjson", "monday.ndjson", "tuesday.json"):
        Path(name).write_bytes(ndjson(*EVENTS.values()))
    examples = re.findall(r"segexport validate (.*)", validate.__doc__ or "")
    assert len(examples) == 3
    for example in examples:
        result = run(*shlex.split(example), stdin=ndjson(*EVENTS.values()))
        assert result.exit_code == 0, result.stdout


def test_schemas_are_listed_with_their_ids() -> None:
    result = CliRunner().invoke(app, ["schema", "list"])
    assert result.exit_code == 0
    for document in schema.schemas().values():
        assert document["$id"] in result.stdout
    as_json = CliRunner().invoke(app, ["schema", "list", "--format", "json"]).stdout
    listed = [json.loads(line) for line in as_json.splitlines()]
    assert {it["name"]: it["id"] for it in listed} == {
        name: document["$id"] for name, document in schema.schemas().items()
    }


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("emitted", "emitted"),
        ("urn:segexport:schema:emitted:2", "emitted"),
        ("emitted-1", "emitted-1"),
        ("urn:segexport:schema:emitted", "emitted-1"),
    ],
)
def test_a_schema_is_printed_as_the_json_that_it_is(wanted: str, name: str) -> None:
    result = CliRunner().invoke(app, ["schema", "print", wanted])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == schema.schemas()[name]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("emitted", "--form", "compact"), "emitted"),
        (("urn:segexport:schema:emitted:2:compact",), "emitted"),
        (("urn:segexport:schema:emitted:compact",), "emitted-1"),
    ],
)
def test_a_schema_is_printed_for_the_compact_form_too(
    arguments: tuple[str, ...], name: str
) -> None:
    result = CliRunner().invoke(app, ["schema", "print", *arguments])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == compact_schema(name)


def test_an_unknown_schema_is_refused_with_a_way_on() -> None:
    result = CliRunner().invoke(app, ["schema", "print", "nothing"])
    assert result.exit_code == 2
    assert "schema list" in result.stderr
