"""A file is the one that was named, whatever it is called."""

import gzip
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import duckdb
import orjson
import pytest

import segexport
from segexport.errors import FileNameUnusable, SettingsError
from segexport.exports.instances import Instances
from segexport.jobs.lifecycle import JobState
from segexport.jobs.reading import parse_request
from segexport.profiles.definitions import define_segment
from segexport.profiles.loading import load
from segexport.profiles.subjects import Identity
from segexport.settings import load_settings
from segexport.sql import file_to_read, parquet, text
from segexport.store.discards import DiscardReader
from support.fragments import NOW, RESOURCES, fragment, load_records, snapshot_of
from support.workplace import DATASET, SCOPE, Workplace

NAMES: Final = (
    "a?b",
    "a*b",
    "**",
    "people[1]",
    "[!p]",
    "[a-z]",
    "a[b",
    "a]b",
    "{a,b}",
    "100%20",
    "a#b",
    "it's",
    'a "b"',
    " a b ",
    "a\nb",
    "a\\b",
    "-a",
    "~",
    "~root",
    "s3:",
    "file:a",
    "a:b",
    "year=2024",
    "a;b,c",
    "é",
)
STRANGE: Final = "what?now [1]*{a,b} 100%20#é 'n\n=5"
"""Most of these in one name."""


def lines(file: Path) -> Path:
    file.write_bytes(orjson.dumps(fragment(named=1)) + b"\n")
    return file


def array(file: Path) -> Path:
    file.write_bytes(orjson.dumps([fragment(named=1)]))
    return file


def gzipped(file: Path) -> Path:
    file.write_bytes(gzip.compress(orjson.dumps([fragment(named=1)])))
    return file


def rows(file: Path) -> Path:
    with TemporaryDirectory() as elsewhere, duckdb.connect() as database:
        database.execute(f"""COPY (SELECT 'p' AS "personID", 1 AS named,
            '2026-01-01T00:00:00Z' AS "updatedAt") TO '{elsewhere}/made' (FORMAT parquet)""")
        shutil.copy(f"{elsewhere}/made", file)
    return file


FORMS: Final[dict[str, Callable[[Path], Path]]] = {
    ".ndjson": lines,
    ".json": array,
    ".json.gz": gzipped,
    ".parquet": rows,
}


@pytest.mark.parametrize("name", NAMES)
def test_the_file_that_is_named_is_the_one_that_is_loaded(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, others = tmp_path / "home", ("aab", "people1", "b", "a", "x")
    folders = (home, *(tmp_path / folder for folder in (name, *others)))
    for folder in folders:
        folder.mkdir()
        for other in others:
            for suffix in FORMS:
                (folder / f"{other}{suffix}").write_bytes(b'{"beside": 1}\n')
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    files = [write(Path(name) / f"{name}{suffix}") for suffix, write in FORMS.items()]
    report = load(tmp_path / "profiles", files, now=NOW, resources=RESOURCES)
    assert (report.accepted, report.refused) == (len(FORMS), {})
    attributes = [attribute.path for attribute in snapshot_of(report).attributes]
    assert attributes == ["named", "personID", "updatedAt"]


@pytest.mark.parametrize("name", NAMES)
def test_keys_of_a_journey_are_those_of_the_file_that_is_named(name: str, tmp_path: Path) -> None:
    for other in ("aab", "people1", "b", "a", "x"):
        (tmp_path / other).write_text("other\n")
        (tmp_path / f"{other}.parquet").write_bytes(b"")
    (tmp_path / name).write_text("named\n")
    with duckdb.connect() as database:
        database.execute(f"COPY (SELECT 'row' AS key) TO '{tmp_path}/made' (FORMAT parquet)")
    (tmp_path / "made").rename(tmp_path / f"{name}.parquet")
    instances = Instances(tmp_path / "journeys", SCOPE)
    files = [tmp_path / name, tmp_path / f"{name}.parquet"]
    instances.add("v1", "Email", files, RESOURCES)
    assert instances.forget("v1", "Email", {"named", "row", "other"}) == 2


async def test_everything_works_below_a_folder_of_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in ("whatXnow 1 {a,b}", "whatXnow 1"):
        (tmp_path / other).mkdir()
    folder = tmp_path / STRANGE
    folder.mkdir()
    monkeypatch.chdir(folder)
    Path("~").mkdir()
    place = await Workplace.open(Path("~"))
    profiles = place.settings.profiles_folder
    records = [
        fragment(
            f"p{number}",
            number=number,
            **({"identityMap": {"Email": [{"id": f"{number % 9}@x"}]}} if number % 5 else {}),
        )
        for number in range(40)
    ]
    for half in (records[:20], records[20:]):
        load_records(profiles, half)
    define_segment(profiles, "many", "number >= 10")
    keys = tmp_path / "keys"
    keys.write_text("1@x\n")
    Instances(place.settings.journeys_folder, SCOPE).add("v1", "Email", [keys], RESOURCES)
    jobs = []
    for form in ("parquet", "ndjson", "ndjson.gz"):
        document = {
            "destination": {"datasetId": DATASET, "format": form, "segmentPerBatch": True},
            "filter": {"segments": [{"segmentId": "many"}]},
            "evaluationInfo": {"segmentation": True},
            "journey": {"versionId": "v1", "namespace": "Email"},
        }
        job = await place.submit(parse_request(document))
        async with place.working():
            jobs.append(await place.ended(job))
    for job, batch in zip(jobs, place.dataset.batches(), strict=True):
        assert (job.state, job.fault) == (JobState.COMPLETED, None)
        batch.verify()
        with duckdb.connect() as database:
            found = database.execute(f"SELECT count(*) FROM {batch.relation}").fetchone()
        assert found == (batch.manifest.counts.realized,)
        assert job.publication is not None
        assert job.publication.discards is not None
        with DiscardReader(job.publication.discards) as reader:
            assert len(reader.read(100)) == batch.manifest.counts.failed > 0
    await place.deliver()
    erasure = await place.erased(Identity("Email", "7@x"), everybody=True)
    assert erasure.is_complete
    for batch in place.dataset.batches():
        batch.verify()
    assert {path.name for path in tmp_path.iterdir()} == {
        *(STRANGE, "keys", "whatXnow 1 {a,b}", "whatXnow 1")
    }
    assert [path.name for path in folder.iterdir()] == ["~"]
    await place.store.close()


def test_a_name_that_duckdb_cannot_be_given_is_refused_and_no_other_file_is_read(
    tmp_path: Path,
) -> None:
    for name, why in ((b"caf\xe9", "not UTF-8"), (b"a\\b*", "a backslash and one of")):
        file = rows(tmp_path / f"{os.fsdecode(name)}.parquet")
        with pytest.raises(FileNameUnusable, match=why):
            load(tmp_path / "profiles", [file], now=NOW, resources=RESOURCES)
        with pytest.raises(SettingsError, match=why):
            load_settings(data=Path(os.fsdecode(name)))
        lines(tmp_path / "f.ndjson")
        with pytest.raises(FileNameUnusable, match=why):
            load(
                tmp_path / os.fsdecode(name),
                [tmp_path / "f.ndjson"],
                now=NOW,
                resources=RESOURCES,
            )


def test_a_name_that_is_not_utf_8_is_one_of_a_file_of_text(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"caf\xe9.ndjson")
    file.write_bytes(orjson.dumps(fragment()) + b"\nbroken\n")
    report = load(tmp_path / "profiles", [file], now=NOW, resources=RESOURCES)
    assert (report.accepted, report.refused) == (1, {"not_json": 1})
    assert report.rejects is not None
    assert orjson.loads(report.rejects.read_bytes())["source"].endswith("caf\\udce9.ndjson")


def test_the_address_of_an_object_is_no_pattern() -> None:
    assert file_to_read("s3://bucket/a?b[1]/*") == "'s3://bucket/a[?]b[[]1]/[*]'"


def test_names_are_absolute_for_duckdb_so_that_nothing_before_them_means_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert parquet(["~/a"]) == f"read_parquet(['{tmp_path}/~/a'], hive_partitioning = false)"
    assert text(Path("s3:/a")) == f"read_text(['{tmp_path}/s3:/a'])"


def test_no_other_module_gives_duckdb_a_file() -> None:
    root = Path(segexport.__file__).parent
    raw = re.compile(
        r"(?<![{\w])(read_(parquet|json|json_objects|ndjson|ndjson_objects|csv|text|blob)|glob"
        r"|parquet_(metadata|file_metadata|schema|scan))\s*\([^)]|\bTO \{literal|\bTO '"
    )
    found = [
        f"{path.relative_to(root)}: {line.strip()}"
        for path in root.rglob("*.py")
        if path.name != "sql.py"
        for line in path.read_text().splitlines()
        if raw.search(line) and not re.search(r"def |import |[.\w]*\.glob\(|await |rglob\(", line)
    ]
    assert found == []
