"""The files that fragments come in."""

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from unittest import mock

import duckdb
import orjson
import pytest

from segexport.errors import FragmentsUnreadable
from segexport.profiles import sources
from segexport.profiles.loading import load
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
        ("broken.json", b'[{"_id": "1"}, {"_id"', "JSON"),
        ("half.json", b'{\n "_id": "1"', "JSON"),
        ("broken.parquet", b"PAR1 and nothing else", "cannot be read"),
        (
            "broken.ndjson.gz",
            gzip.compress(b'{"_id": "1"}\n' * 1_000, mtime=0)[:-20],
            "end-of-stream",
        ),
        ("no.ndjson.gz", b"\x1f\x8b\x08 this is no gzip", "cannot be read"),
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


def test_a_missing_file_is_noticed_before_the_store_is_touched(tmp_path: Path) -> None:
    with pytest.raises(FragmentsUnreadable):
        load(tmp_path / "profiles", [tmp_path / "no.json"], now=NOW, resources=RESOURCES)
    assert not (tmp_path / "profiles").exists()


def test_files_larger_than_a_chunk_are_read_whole(tmp_path: Path) -> None:
    documents = [fragment(f"p{number}", text="é" * (number % 90)) for number in range(500)]
    with mock.patch.object(sources, "CHUNK", 1_000):
        report = load_records(tmp_path / "profiles", documents)
    snapshot = snapshot_of(report)
    assert contents(snapshot) == expected(documents, snapshot)


def test_an_empty_file_holds_no_fragments(tmp_path: Path) -> None:
    report = load_records(tmp_path / "profiles", [])
    assert (report.read, report.snapshot, report.rejects) == (0, None, None)
