"""The files that fragments come in."""

import gzip
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final
from unittest import mock

import duckdb
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segexport.errors import FragmentsUnreadable
from segexport.profiles import cutting
from segexport.profiles.loading import load
from segexport.profiles.rules import MAX_RECORD
from segexport.profiles.snapshots import ProfileStore
from support.fragments import (
    NOW,
    RESOURCES,
    Document,
    contents,
    expected,
    fragment,
    load_records,
    snapshot_of,
    write_lines,
)

AT: Final = "2026-01-01T00:00:00Z"
DOCUMENTS: Final = [
    fragment(
        f"p{number % 7}",
        f"2026-01-0{1 + number % 3}T00:00:00Z",
        identityMap={"Email": [{"id": f"é{number}@example.com", "primary": True}]},
        segmentMembership={"ups": {"gold": {"lastQualificationTime": "2026-01-01T00:00:00Z"}}},
        testProfile=number % 5 == 0,
        person={"name": {"lastName": f"L{number}"}},
    )
    for number in range(50)
]

Write = Callable[[Path, Sequence[Document]], Path]


def lines(folder: Path, documents: Sequence[Document]) -> Path:
    return write_lines(folder / "f.ndjson", documents)


def windows_lines(folder: Path, documents: Sequence[Document]) -> Path:
    file = folder / "f.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(map(orjson.dumps, documents)))
    return file


def lines_called_json(folder: Path, documents: Sequence[Document]) -> Path:
    return write_lines(folder / "f.json", documents)


def gzipped(folder: Path, documents: Sequence[Document]) -> Path:
    file = folder / "f.ndjson.gz"
    file.write_bytes(gzip.compress(b"".join(orjson.dumps(one) + b"\n" for one in documents)))
    return file


def array(folder: Path, documents: Sequence[Document]) -> Path:
    file = folder / "f.json"
    file.write_bytes(orjson.dumps(documents, option=orjson.OPT_INDENT_2))
    return file


def gzipped_array(folder: Path, documents: Sequence[Document]) -> Path:
    file = folder / "f.json.gz"
    file.write_bytes(gzip.compress(orjson.dumps(documents)))
    return file


def pretty(folder: Path, documents: Sequence[Document]) -> Path:
    file = folder / "f.json"
    file.write_bytes(b"\n".join(orjson.dumps(one, option=orjson.OPT_INDENT_2) for one in documents))
    return file


def parquet(folder: Path, documents: Sequence[Document]) -> Path:
    file = folder / "f [1].parquet"
    with duckdb.connect() as database:
        database.execute(f"""COPY (FROM read_json('{lines(folder, documents)}', columns = {{
            "personID": 'VARCHAR', "updatedAt": 'TIMESTAMPTZ', "testProfile": 'BOOLEAN',
            "identityMap": 'MAP(VARCHAR, STRUCT(id VARCHAR, "primary" BOOLEAN)[])',
            "segmentMembership": 'MAP(VARCHAR, MAP(VARCHAR,
                                    STRUCT(status VARCHAR, "lastQualificationTime" TIMESTAMP)))',
            "person": 'STRUCT(name STRUCT("lastName" VARCHAR))'
            }})) TO '{file}'""")
    return file


@pytest.mark.parametrize(
    "write",
    [
        lines,
        windows_lines,
        lines_called_json,
        gzipped,
        array,
        gzipped_array,
        pretty,
        parquet,
    ],
)
def test_the_same_fragments_give_the_same_rows_from_every_kind_of_file(
    write: Write, tmp_path: Path
) -> None:
    file = write(tmp_path, DOCUMENTS)
    report = load(tmp_path / "profiles", [file], now=NOW, resources=RESOURCES)
    snapshot = snapshot_of(report)
    assert report.read == report.accepted == len(DOCUMENTS)
    found, wanted = contents(snapshot), expected(DOCUMENTS, snapshot)
    assert (found.persons, found.memberships) == (wanted.persons, wanted.memberships)
    paths = [attribute.path for attribute in snapshot.attributes]
    assert paths == ["person.name.lastName", "personID", "testProfile", "updatedAt"]
    assert [row[:-1] for row in found.fragments] == [row[:-1] for row in wanted.fragments]


def test_an_ending_in_capitals_means_the_same(tmp_path: Path) -> None:
    file = pretty(tmp_path, DOCUMENTS).rename(tmp_path / "F.JSON")
    report = load(tmp_path / "profiles", [file], now=NOW, resources=RESOURCES)
    assert (report.accepted, report.refused) == (len(DOCUMENTS), {})


def test_a_line_that_is_an_array_harms_no_other_whatever_the_case_of_the_ending(
    tmp_path: Path,
) -> None:
    file = write_lines(tmp_path / "F.NDJSON", ["[1]", fragment()])
    report = load(tmp_path / "profiles", [file], now=NOW, resources=RESOURCES)
    assert (report.accepted, report.refused) == (1, {"not_an_object": 1})


def test_a_file_with_one_object_is_a_file_with_one_fragment(tmp_path: Path) -> None:
    file = pretty(tmp_path, DOCUMENTS[:1])
    report = load(tmp_path / "profiles", [file], now=NOW, resources=RESOURCES)
    assert report.accepted == 1


def test_parquet_timestamps_are_rfc_3339_however_deep(tmp_path: Path) -> None:
    file = tmp_path / "deep.parquet"
    with duckdb.connect() as database:
        database.execute(f"""COPY (
            SELECT 'p' AS "personID", TIMESTAMP '2026-01-01 00:00:00.5' AS "updatedAt",
                   {{'at': TIMESTAMP '2026-01-02', 'none': NULL::TIMESTAMP}} AS one,
                   NULL::STRUCT("at" TIMESTAMP) AS missing,
                   [TIMESTAMP '2026-01-03'] AS listed,
                   [{{'m': MAP {{'k': TIMESTAMP '2026-01-04'}}}}] AS deep, DATE '2026-01-05' AS day
            ) TO '{file}'""")
    snapshot = snapshot_of(load(tmp_path / "profiles", [file], now=NOW, resources=RESOURCES))
    ((_, _, _, *values),) = contents(snapshot).fragments
    paths = [attribute.path for attribute in snapshot.attributes]
    assert dict(zip(paths, values, strict=True)) == {
        "day": "2026-01-05",
        "deep": [{"m": {"k": "2026-01-04T00:00:00.000000Z"}}],
        "listed": ["2026-01-03T00:00:00.000000Z"],
        "one.at": "2026-01-02T00:00:00.000000Z",
        "personID": "p",
        "updatedAt": "2026-01-01T00:00:00.500000Z",
    }


def test_a_fragment_in_a_later_file_wins_over_an_equally_old_one(tmp_path: Path) -> None:
    first = write_lines(tmp_path / "1.ndjson", ["", "", fragment(testProfile=True)])
    second = write_lines(tmp_path / "2.ndjson", [fragment(testProfile=False)])
    for files, wanted in (([first, second], False), ([second, first], True)):
        report = load(tmp_path / "profiles", files, now=NOW, resources=RESOURCES, fresh=True)
        ((*_, test_profile, _),) = contents(snapshot_of(report)).persons
        assert test_profile is wanted


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("missing.ndjson", None, "No such file"),
        ("broken.json", b'[{"_id": "1"}, {"_id"', "a JSON array breaks off"),
        ("text.json", b'[{"_id": "1"}, "x', "a JSON array breaks off"),
        ("brace.json", b'[{"_id": "1"}}', "closed by a brace"),
        ("more.json", b'[{"_id": "1"}] {"_id": "2"}', "something follows"),
        ("half.json", b'{\n "_id": "1"', "a JSON object breaks off"),
        ("quote.json", b'{\n "_id": "1"}\n{"_id": "2}', "a JSON object breaks off"),
        ("broken.parquet", b"PAR1 and nothing else", "cannot be read"),
        (
            "broken.ndjson.gz",
            gzip.compress(b'{"_id": "1"}\n' * 1_000)[:-20],
            "end-of-stream",
        ),
        ("no.ndjson.gz", b"\x1f\x8b\x08 this is no gzip", "cannot be read"),
        ("packed.parquet.gz", gzip.compress(b"PAR1 ... PAR1"), "Parquet in gzip: unpack it"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_that_names_it_and_nothing_is_loaded(
    name: str, content: bytes | None, why: str, tmp_path: Path
) -> None:
    store = tmp_path / "profiles"
    before = snapshot_of(load_records(store, [fragment()]))
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    good = write_lines(tmp_path / "good.ndjson", [fragment("good")])
    with pytest.raises(FragmentsUnreadable, match=why) as caught:
        load(store, [good, file], now=NOW, resources=RESOURCES)
    assert str(file) in str(caught.value)
    assert ProfileStore(store).ids() == (before.id,)
    assert not list(store.glob(".staging-*"))


@pytest.mark.parametrize("write", [lines, array, pretty])
def test_a_damaged_gzip_file_is_an_error_in_every_form(write: Write, tmp_path: Path) -> None:
    plain = write(tmp_path, DOCUMENTS)
    whole = gzip.compress(plain.read_bytes(), compresslevel=0)
    digit = whole.index(b'"L33"') + 2
    for damaged in (
        whole[:digit] + b"4" + whole[digit + 1 :],
        whole[:-8] + b"\0\0\0\0" + whole[-4:],
        whole[:-4] + b"\1\0\0\0",
        whole[:-1],
        whole[:-8],
        whole[:-100],
        whole + b"more",
        whole + b"\0\0more",
        whole + whole[: len(whole) // 2],
    ):
        file = tmp_path / f"{plain.name}.gz"
        file.write_bytes(damaged)
        with pytest.raises(FragmentsUnreadable, match=re.escape(str(file))):
            load(tmp_path / "profiles", [file], now=NOW, resources=RESOURCES)
    assert not ProfileStore(tmp_path / "profiles").ids()


@pytest.mark.parametrize("write", [lines, array, pretty])
def test_a_gzip_file_of_several_members_and_padding_is_whole(write: Write, tmp_path: Path) -> None:
    plain = write(tmp_path, DOCUMENTS)
    content = plain.read_bytes()
    file = tmp_path / f"{plain.name}.gz"
    file.write_bytes(gzip.compress(content[:999]) + gzip.compress(content[999:]) + bytes(512))
    report = load(tmp_path / "profiles", [file], now=NOW, resources=RESOURCES)
    assert (report.accepted, report.refused) == (len(DOCUMENTS), {})


@pytest.mark.parametrize("write", [lines, array, gzipped_array, pretty, parquet])
def test_a_record_may_have_16_mib_in_every_form(write: Write, tmp_path: Path) -> None:
    def sized(key: str, size: int) -> Document:
        record = fragment(key, "2026-01-01T00:00:00.000000Z", person={"name": {"lastName": ""}})
        record["person"]["name"]["lastName"] = "x" * (size - len(orjson.dumps(record)))
        return record

    small = fragment("small", person={"name": {"lastName": "y"}})
    large = [sized(f"large {size}", size) for size in (MAX_RECORD + 64, 17 * 2**20)]
    file = write(tmp_path, [*large, small])
    resources = replace(RESOURCES, memory_limit="1GB")
    report = load(tmp_path / "profiles", [file], now=NOW, resources=resources)
    assert (report.accepted, report.refused) == (1, {"too_large": 2})
    assert report.rejects is not None
    rejects = [orjson.loads(line) for line in report.rejects.read_bytes().splitlines()]
    assert [one["record"] for one in rejects] == [1, 2]
    assert all("large" in one["raw"] and len(one["raw"]) < 2_000 for one in rejects)


def test_a_broken_record_of_an_array_harms_no_other(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    good = [orjson.dumps(fragment(f"p{number}")) for number in range(2)]
    bad = (b"", b'{"a": [1}, 2}', b"{'a'}", b'{"a": 1} {"b": 2}', b"nul", b'{"a": "\xff"}', b"5")
    file.write_bytes(b"[" + b",\n".join((good[0], *bad, good[1])) + b",\n]")
    report = load(tmp_path / "profiles", [file], now=NOW, resources=RESOURCES)
    assert report.accepted == 2
    assert report.refused == {"not_json": 5, "not_utf8": 1, "not_an_object": 1}
    assert report.rejects is not None
    rejects = [orjson.loads(line) for line in report.rejects.read_bytes().splitlines()]
    assert [one["record"] for one in rejects] == list(range(2, 9))


@pytest.mark.parametrize(
    "broken", [b'{"_id": ', b"{broken", b"}", b'"', b'{"_id": "p"}"', b"{}, {"]
)
def test_broken_first_lines_harm_no_other_whatever_the_file_is_called(
    broken: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "f.json"
    for count, end in ((2, b""), (2, b"\n"), (1, b""), (1, b"\n"), (2_000, b"\n")):
        good = [orjson.dumps(fragment(f"p{number}")) for number in range(count)]
        file.write_bytes(b"\n".join((broken, broken, *good)) + end)
        report = load(tmp_path / "profiles", [file], now=NOW, resources=RESOURCES)
        assert (report.accepted, report.refused) == (count, {"not_json": 2})


@pytest.mark.parametrize("count", [1, 2, 5_000])
def test_an_object_on_a_line_of_its_own_may_be_part_of_a_record(count: int, tmp_path: Path) -> None:
    inside = ",\n".join(f'{{"number": {number}}}' for number in range(count))
    record = f'{{"_id": "p", "items": [\n{inside}\n], "updatedAt": "2026-01-01T00:00:00Z"}}'
    for text, accepted in ((record, 1), (f"{record}\n{record}\n", 2), (f"{record}{record}", 2)):
        file = tmp_path / "f.json"
        file.write_text(text)
        report = load(tmp_path / "profiles", [file], now=NOW, resources=RESOURCES)
        assert (report.accepted, report.refused) == (accepted, {})


def test_several_objects_may_stand_on_one_line(tmp_path: Path) -> None:
    one, other, last = (orjson.dumps(fragment(name)) for name in ("p1", "p2", "p3"))
    file = tmp_path / "f.json"
    for content in (one + other + last, one + b" " + other + b"\n" + last + b"\n"):
        file.write_bytes(content)
        report = load(tmp_path / "profiles", [file], now=NOW, resources=RESOURCES)
        assert (report.accepted, report.refused) == (3, {})


def test_a_map_of_parquet_with_a_key_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "f.parquet"
    kind = pa.map_(pa.string(), pa.int64())
    columns = {
        "personID": ["p1", "p2"],
        "updatedAt": ["2026-01-01T00:00:00Z"] * 2,
        "points": pa.array([[("a", 1), ("a", 2)], [("a", 1), ("b", 2)]], kind),
    }
    pq.write_table(pa.table(columns), file)
    report = load(tmp_path / "profiles", [file], now=NOW, resources=RESOURCES)
    assert (report.accepted, report.refused) == (1, {"duplicate_name": 1})


def test_names_of_xdms_uri_form_are_those_of_its_compact_form(tmp_path: Path) -> None:
    uri = {
        "@id": "https://crm.example/people/1",
        "xdm:identityMap": {"Email": [{"xdm:id": "ines@example.com", "xdm:primary": True}]},
        "xdm:segmentMembership": {
            "ups": {"gold": {"xdm:status": "realized", "xdm:lastQualificationTime": AT}}
        },
        "xdm:testProfile": True,
        "xdm:person": {"xdm:name": {"xdm:lastName": 'a "xdm:b": c, "@id": d'}},
        "xdm:homeAddress": {"@id": "https://crm.example/1", "schema:latitude": 37.5},
        "xdm:said": ["xdm:text", {"xdm:at": "@id"}],
        "repo:modifyDate": AT,
    }
    compact = {
        "_id": "https://crm.example/people/1",
        "identityMap": {"Email": [{"id": "ines@example.com", "primary": True}]},
        "segmentMembership": {"ups": {"gold": {"status": "realized", "lastQualificationTime": AT}}},
        "testProfile": True,
        "person": {"name": {"lastName": 'a "xdm:b": c, "@id": d'}},
        "homeAddress": {"_id": "https://crm.example/1", "schema:latitude": 37.5},
        "said": ["xdm:text", {"at": "@id"}],
        "repo:modifyDate": AT,
    }
    held = []
    for number, document in enumerate((uri, compact)):
        for option in (None, orjson.OPT_INDENT_2):
            file = tmp_path / "f.json"
            file.write_bytes(orjson.dumps(document, option=option))
            report = load(tmp_path / f"{number}-{option}", [file], now=NOW, resources=RESOURCES)
            snapshot = snapshot_of(report)
            held.append((contents(snapshot), snapshot.attributes))
    assert held[1:] == held[:-1]
    assert [key for _, key, *_ in held[0][0].persons] == ["Email:ines@example.com"]


def test_an_event_of_xdms_uri_form_is_one(tmp_path: Path) -> None:
    document = {
        "@id": "e1",
        "xdm:timestamp": AT,
        "xdm:identityMap": {"Email": [{"xdm:id": "a@example.com"}]},
        "xdm:eventType": "web.webpagedetails.pageViews",
    }
    report = load_records(tmp_path / "profiles", [fragment()], happened=[document])
    attributes = [attribute.path for attribute in snapshot_of(report).event_attributes]
    assert (report.events, attributes) == (1, ["_id", "eventType", "timestamp"])


def test_a_missing_file_is_noticed_before_the_store_is_touched(tmp_path: Path) -> None:
    with pytest.raises(FragmentsUnreadable):
        load(tmp_path / "profiles", [tmp_path / "no.json"], now=NOW, resources=RESOURCES)
    assert not (tmp_path / "profiles").exists()


def test_files_larger_than_a_chunk_are_read_whole(tmp_path: Path) -> None:
    documents = [fragment(f"p{number}", text="é" * (number % 90)) for number in range(500)]
    with mock.patch.object(cutting, "BLOCK", 1_000):
        report = load_records(tmp_path / "profiles", documents)
    snapshot = snapshot_of(report)
    assert contents(snapshot) == expected(documents, snapshot)


def test_an_empty_file_holds_no_fragments(tmp_path: Path) -> None:
    report = load_records(tmp_path / "profiles", [])
    assert (report.read, report.snapshot, report.rejects) == (0, None, None)
