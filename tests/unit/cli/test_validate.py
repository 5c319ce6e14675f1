"""`segexport validate` and `segexport schema`, as a person or a CI job calls them."""

import bz2
import gzip
import json
import lzma
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
    assert len(examples) == 4
    for example in examples:
        result = run(*shlex.split(example), stdin=ndjson(*EVENTS.values()))
        assert result.exit_code == 0, result.stdout


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        (b"[]", {"unreadable": 1}),
        (b"\xef\xbb\xbf", {"unreadable": 1}),
        (b" \n\t\r\n", {"unreadable": 1}),
        (b"null", {"says nothing": 1}),
        (b"[[]]", {"says nothing": 1}),
        (b"[null, {}]", {"says nothing": 2}),
        (b"%s[]\n%s", {"valid": 2, "unreadable": 1}),
        (b"%snull\n%s", {"valid": 2, "says nothing": 1}),
        (gzip.compress(b""), {"unreadable": 1}),
    ],
)
def test_what_holds_nothing_to_judge_never_passes(
    run: Run, text: bytes, kinds: dict[str, int]
) -> None:
    line = ndjson(EXAMPLES[0])
    text = text.replace(b"%s", line)
    Path("empty.json").write_bytes(text)
    Path("good.json").write_bytes(line)
    for arguments, stdin in ((["empty.json"], None), (["-"], text), (["good.json", "-"], text)):
        result = run("--format", "json", *arguments, stdin=stdin)
        assert result.exit_code == (2 if "unreadable" in kinds else 1)
        told = [json.loads(it) for it in result.stdout.splitlines()]
        assert all("findings" in it or it["reason"] for it in told[:-1])
        found = {kind: count for kind, count in told[-1]["summary"].items() if count}
        found["valid"] = found.get("valid", 0) - len(arguments) + 1
        assert {kind: count for kind, count in found.items() if count} == kinds


def test_broken_lines_hide_no_other_line_of_their_file(run: Run) -> None:
    good = ndjson(EXAMPLES[0])
    Path("events.ndjson").write_bytes(b"{broken\n{broken, too\n" + good * 500 + b"{\n" + good * 500)
    result = run("events.ndjson")
    assert result.exit_code == 2
    lines = result.stdout.splitlines()
    assert lines[-1] == "1,000 valid, 3 unreadable"
    assert [line.split(": ")[0] for line in lines[:-1]] == [
        f"events.ndjson:{number}" for number in (1, 2, 503)
    ]


def test_a_name_that_is_there_twice_is_invalid_and_named_with_its_place(run: Run) -> None:
    text = (
        f'{{"{SEGMENT_EXPORT_JOB}": {{"{SERVICE_EVENTS}exportCountTotal": "five", '
        f'"{SERVICE_EVENTS}exportCountTotal": 5}}, "https://b.example/more": [{{"a": 1, "a": 2}}]}}'
    )
    Path("twice.json").write_text(text + f"\n[{text}]\n")
    result = run("twice.json")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"{place}: invalid: {name}: is there twice in one object; keep one of them [unique]"
        for place in ("twice.json:1", "twice.json:2[0]")
        for name in ("segmentExportJob.exportCountTotal", "more[0].a")
    ] + ["2 invalid"]


@pytest.mark.parametrize("stdin", [False, True])
def test_gzip_is_unpacked_on_the_way(run: Run, *, stdin: bool) -> None:
    data = gzip.compress(ndjson(EXAMPLES[0])) + gzip.compress(b"{}\n" + ndjson(EXAMPLES[1]))
    Path("events.ndjson.gz").write_bytes(data)
    result = run("-", stdin=data) if stdin else run("events.ndjson.gz")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "2 valid, 1 says nothing"


@pytest.mark.parametrize("harm", ["truncated", "flipped", "trailing"])
def test_gzip_that_is_damaged_is_told_and_what_lies_before_is_judged(run: Run, harm: str) -> None:
    packed = bytearray(gzip.compress(ndjson(*EXAMPLES) * 2000))
    if harm == "truncated":
        del packed[-12:]
    elif harm == "flipped":
        packed[-6] ^= 1
    else:
        packed += b"more"
    Path("events.gz").write_bytes(packed)
    result = run("events.gz")
    assert result.exit_code == 2
    complaint, summary = result.stdout.splitlines()
    assert complaint.startswith("events.gz: unreadable: is gzip that is damaged or breaks off")
    count = int(summary.split(" valid")[0].replace(",", ""))
    assert 5000 < count <= 6000


TEXT = json.dumps({"é": 1, **EXAMPLES[0]}, ensure_ascii=False)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (TEXT.encode("utf-16"), "is UTF-16LE, and JSON is UTF-8; convert it first (iconv"),
        (TEXT.encode("utf-16-le"), "is UTF-16LE"),
        (TEXT.encode("utf-16-be"), "is UTF-16BE"),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), "is UTF-16BE"),
        (TEXT.encode("utf-32"), "is UTF-32LE"),
        (TEXT.encode("utf-32-le"), "is UTF-32LE"),
        (TEXT.encode("utf-32-be"), "is UTF-32BE"),
        (gzip.compress(TEXT.encode("utf-16")), "is UTF-16LE"),
        (b"PAR1\x15\x04\x15\x10", "is Parquet, not JSON"),
        (b"Obj\x01\x04\x14avro.codec", "is Avro, not JSON"),
        (b"ORC\x11\x00\x00", "is ORC, not JSON"),
        (b"\x28\xb5\x2f\xfd\x04\x00", "is packed with zstd; unpack it first (zstd -dc)"),
        (bz2.compress(TEXT.encode()), "is packed with bzip2"),
        (lzma.compress(TEXT.encode()), "is packed with xz"),
        (
            gzip.compress(gzip.compress(TEXT.encode())),
            "is packed with gzip twice",
        ),
        (b"PK\x03\x04\x14\x00", "is a ZIP archive"),
    ],
)
def test_a_file_in_another_format_or_encoding_is_told_what_it_is_and_what_to_do(
    run: Run, data: bytes, words: str
) -> None:
    Path("events").write_bytes(data)
    result = run("events")
    assert result.exit_code == 2
    complaint, summary = result.stdout.splitlines()
    assert complaint.startswith(f"events: unreadable: {words}")
    assert summary == "1 unreadable"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (TEXT.encode("latin-1"), "column 3 (byte 0xE9), as JSON has to be, but perhaps Latin-1"),
        (b"\x00\x00\x00\x01\x05" + TEXT.encode(), "five bytes of a schema registry"),
        (b"PAR1 is the first word", "is not JSON at column 1"),
    ],
)
def test_a_line_in_another_encoding_is_told_and_hides_no_other(
    run: Run, line: bytes, words: str
) -> None:
    Path("events").write_bytes(line + b"\n" + ndjson(EXAMPLES[0]))
    result = run("events")
    assert result.exit_code == 2
    complaint, summary = result.stdout.splitlines()
    assert complaint.startswith("events:1: unreadable: ")
    assert words in complaint
    assert "surrogate" not in complaint
    assert summary == "1 valid, 1 unreadable"


CLOUD = {"specversion": "1.0", "id": "1", "source": "/jobs", "type": "finished"}


def test_an_envelope_gets_a_hint_that_names_it_and_the_option(run: Run) -> None:
    result = run("-", stdin=ndjson({**CLOUD, "data": EXAMPLES[0]}))
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0] == (
        "<stdin>:1: says nothing: (document): holds no segmentExportJob, in either form; it is an "
        "envelope of CloudEvents: --unwrap judges what is in it [segmentExportJob]"
    )


def test_unwrapped_the_event_in_an_envelope_is_judged_and_places_are_paths_in_it(run: Run) -> None:
    good, bad = ({"body": {"xdmEntity": event}} for event in (EXAMPLES[0], NEGATIVE))
    text = ndjson(
        {**CLOUD, "data": EXAMPLES[0]}, EXAMPLES[1], {"messages": [good, bad, good]}, {}, CLOUD
    )
    result = run("--unwrap", "-", stdin=text)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        (
            "<stdin>:3: invalid: messages[1].body.xdmEntity._experience.journeyOrchestration."
            "serviceEvents.segmentExportJob.exportCountFailed: must not be below 0, but is -5 "
            "[minimum]"
        ),
        (
            "<stdin>:4: says nothing: (document): holds no segmentExportJob, in either form "
            "[segmentExportJob]"
        ),
        (
            "<stdin>:5: says nothing: data: holds no segmentExportJob, in either form "
            "[segmentExportJob]"
        ),
        "4 valid, 1 invalid, 2 says nothing",
    ]
    told = json.loads(run("--unwrap", "--format", "json", "-", stdin=text).stdout.splitlines()[0])
    assert told["envelope"] == "Experience Platform streaming"
    assert told["findings"][0]["path"][:4] == ["messages", 1, "body", "xdmEntity"]


def test_unwrapped_a_text_that_is_no_json_or_has_a_name_twice_is_invalid(run: Run) -> None:
    record = {"topic": "t", "partition": 0, "offset": 1}
    twice = json.dumps(EXAMPLES[0])[:-1] + ', "@a": 1, "@a": 2}'
    text = ndjson({**record, "payload": "no"}, {**record, "payload": twice})
    assert run("--unwrap", "-", stdin=text).stdout.splitlines() == [
        "<stdin>:1: invalid: payload: is a text that is no JSON [json]",
        "<stdin>:2: invalid: payload.@a: is there twice in one object; keep one of them [unique]",
        "2 invalid",
    ]


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
