"""Who is in a journey already is not exported to it again."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segexport.cli import main
from segexport.errors import DatasetError, InstancesUnusable
from segexport.exports.instances import Instances, LiveTable
from segexport.jobs.job import Scope
from segexport.profiles.builder import link_or_copy
from segexport.store.discards import DiscardReader
from support.people import Identity, Person, write_snapshot
from support.stuck import Gate, GatedEngine
from support.waiting import until
from support.workplace import RESOURCES, SCOPE, Workplace, request_for

LINKING = "segexport.exports.instances.link_or_copy"
GOLD = ("ups", "gold")
PEOPLE = [
    Person(number, identities={"Email": [Identity(f"{number}@x")]}, memberships={GOLD: "realized"})
    for number in range(1, 9)
]
JOURNEY = {"versionId": "../it's v1", "namespace": "Email"}


@pytest.fixture
def instances(tmp_path: Path) -> Instances:
    return Instances(tmp_path / "journeys", SCOPE)


def text(path: Path, *keys: str) -> Path:
    path.write_text("".join(f"{key}\n" for key in keys))
    return path


def keys_of(instances: Instances, target: Path, version: str = "v1") -> list[str]:
    with duckdb.connect() as database:
        pinned = instances.pin(version, "Email", target)
        return [key for (key,) in database.execute(f"FROM read_parquet('{pinned}')").fetchall()]


def test_keys_come_and_go_and_are_there_once(instances: Instances, tmp_path: Path) -> None:
    lines = tmp_path / "keys.txt"
    lines.write_bytes(b'b\r\n\n a,"b" \n#c\nb\n')
    table = instances.add("v1", "Email", [lines, text(tmp_path / "more", "d")], RESOURCES)
    assert table == LiveTable("v1", "Email", 4)
    assert keys_of(instances, tmp_path / "1") == [' a,"b" ', "#c", "b", "d"]
    assert instances.remove("v1", "Email", [text(tmp_path / "out", "b", "z")], RESOURCES).keys == 3
    assert keys_of(instances, tmp_path / "2") == [' a,"b" ', "#c", "d"]
    assert len(list((tmp_path / "journeys").rglob("*.parquet"))) == 1


@pytest.mark.parametrize(("version", "namespace"), [("v\u202e1", "Email"), ("v1", "E\u2028")])
def test_a_table_is_not_called_by_what_does_not_show(
    version: str, namespace: str, instances: Instances, tmp_path: Path
) -> None:
    with pytest.raises(InstancesUnusable, match=r"its character 2 is U\+20"):
        instances.add(version, namespace, [text(tmp_path / "keys", "a")], RESOURCES)
    assert not list(instances.tables())


def test_parquet_files_of_keys_are_read(instances: Instances, tmp_path: Path) -> None:
    file = tmp_path / "keys.parquet"
    with duckdb.connect() as database:
        database.execute(f"COPY (SELECT 'k' || i AS key FROM range(3000) AS t(i)) TO '{file}'")
    assert instances.add("v1", "Email", [file], RESOURCES).keys == 3000


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("BIGINT", "4711, NULL, 9007199254740993", ["4711", "9007199254740993"]),
        ("INTEGER", "4711, NULL, 12", ["12", "4711"]),
        ("DOUBLE", "4711, NULL, 12", ["12", "4711"]),
        ("DOUBLE", "9007199254740991, NULL, -1e15", ["-1000000000000000", "9007199254740991"]),
        ("FLOAT", "4711, NULL, 16777215", ["16777215", "4711"]),
        ("DECIMAL(18,2)", "4711, NULL, 12.5", ["12.5", "4711"]),
        ("JSON", "'\"a@x\"', NULL, '4711'", ["4711", "a@x"]),
        (
            "UUID",
            "'6f1c3a52-0000-4000-8000-000000000001'",
            ["6f1c3a52-0000-4000-8000-000000000001"],
        ),
        ("VARCHAR", "'007', '1.0', '\"q\"', 'null'", ['"q"', "007", "1.0", "null"]),
    ],
)
def test_a_key_in_parquet_is_the_same_whatever_type_its_column_has(
    instances: Instances, tmp_path: Path, kind: str, values: str, expected: list[str]
) -> None:
    file = keys_in_parquet(tmp_path, kind, values)
    assert instances.add("v1", "Email", [file], RESOURCES).keys == len(expected)
    assert keys_of(instances, tmp_path / "pinned") == expected


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("DOUBLE", "9007199254740993"),
        ("DOUBLE", "9007199254740994"),
        ("FLOAT", "16777217"),
        ("FLOAT", "16777218"),
        ("DOUBLE", "'nan'::DOUBLE"),
        ("VARCHAR[]", "['a']"),
        ("STRUCT(id VARCHAR)", "{id: 'a'}"),
        ("JSON", """'{"id":"a"}'"""),
    ],
)
def test_a_key_in_parquet_that_is_not_known_is_refused(
    instances: Instances, tmp_path: Path, kind: str, values: str
) -> None:
    file = keys_in_parquet(tmp_path, kind, values)
    with pytest.raises(InstancesUnusable, match=r"keys\.parquet .*write the keys as strings"):
        instances.add("v1", "Email", [file], RESOURCES)
    assert not list(instances.tables())


def keys_in_parquet(folder: Path, kind: str, values: str) -> Path:
    file = folder / "keys.parquet"
    with duckdb.connect() as database:
        database.execute(
            f"COPY (SELECT unnest([{values}])::{kind} AS key) TO '{file}' (FORMAT parquet)"
        )
    return file


@pytest.mark.parametrize(
    ("columns", "keys"),
    [
        ([("Key", ["x", "y"]), ("key", ["a", None]), ("key_1", ["z", "z"])], ["a"]),
        ([("file_row_number", [7, 8]), ("key", [17, 18])], ["17", "18"]),
        ([("key", pa.array(["a", "a"]).dictionary_encode())], ["a"]),
    ],
)
def test_the_keys_of_a_parquet_file_are_those_of_the_column_that_is_called_key(
    columns: Sequence[tuple[str, Any]], keys: Sequence[str], instances: Instances, tmp_path: Path
) -> None:
    instances.add("v1", "Email", [columns_in_parquet(tmp_path, columns)], RESOURCES)
    assert keys_of(instances, tmp_path / "pinned") == keys


@pytest.mark.parametrize("columns", [[("Key", ["a"])], [("key", ["a"]), ("key", ["b"])]])
def test_a_column_that_is_not_certainly_that_of_the_keys_is_refused(
    columns: Sequence[tuple[str, Any]], instances: Instances, tmp_path: Path
) -> None:
    with pytest.raises(InstancesUnusable, match="no column, or more than one"):
        instances.add("v1", "Email", [columns_in_parquet(tmp_path, columns)], RESOURCES)


def columns_in_parquet(folder: Path, columns: Sequence[tuple[str, Any]]) -> Path:
    names, values = zip(*columns, strict=True)
    file = folder / "keys.parquet"
    pq.write_table(pa.table(list(values), names=names), file)
    return file


def test_versions_namespaces_and_sandboxes_are_apart(instances: Instances, tmp_path: Path) -> None:
    one = text(tmp_path / "one", "k")
    for version, namespace in (("v1", "Email"), ("v/1", "Email"), ("v1", ".."), (".hidden", "E")):
        instances.add(version, namespace, [one], RESOURCES)
    Instances(instances.root, Scope("other", "prod")).add("v9", "Email", [one], RESOURCES)
    assert {(each.version, each.namespace) for each in instances.tables()} == {
        ("v1", "Email"),
        ("v/1", "Email"),
        ("v1", ".."),
        (".hidden", "E"),
    }


def test_what_was_pinned_stays_what_it_was(instances: Instances, tmp_path: Path) -> None:
    target = tmp_path / "pinned.parquet"
    assert keys_of(instances, target) == []
    instances.add("v1", "Email", [text(tmp_path / "one", "k")], RESOURCES)
    assert keys_of(instances, target) == []
    assert keys_of(instances, tmp_path / "later.parquet") == ["k"]


def test_a_table_that_changes_while_it_is_pinned_is_pinned_as_it_is_then(
    instances: Instances, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = text(tmp_path / "one", "k"), text(tmp_path / "two", "l")
    instances.add("v1", "Email", [one], RESOURCES)

    def after_a_change(file: Path, target: Path) -> None:
        if file.stem == "00000001":
            instances.add("v1", "Email", [two], RESOURCES)
        link_or_copy(file, target)

    monkeypatch.setattr(LINKING, after_a_change)
    assert keys_of(instances, tmp_path / "pinned.parquet") == ["k", "l"]


def test_a_sweep_leaves_the_newest_table_alone(instances: Instances, tmp_path: Path) -> None:
    instances.add("v1", "Email", [text(tmp_path / "one", "k")], RESOURCES)
    table = instances.root / SCOPE.organization / SCOPE.sandbox / "v1" / "Email"
    begun = table.with_name("Phone")
    for leftover in (table / "00000000.parquet", begun / "00000001.next", begun / ".spill" / "s"):
        leftover.parent.mkdir(parents=True, exist_ok=True)
        leftover.write_text("k")
    instances.sweep()
    left = {path for path in instances.root.rglob("*") if path.is_file() and path.name != ".lock"}
    assert left == {table / "00000001.parquet"}
    assert keys_of(instances, tmp_path / "pinned.parquet") == ["k"]


def test_a_pin_that_was_cut_short_is_made_again(
    instances: Instances, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instances.add("v1", "Email", [text(tmp_path / "one", "k")], RESOURCES)

    def cut_short(_file: Path, target: Path) -> None:
        target.write_bytes(b"PAR1")
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(LINKING, cut_short)
        with pytest.raises(KeyboardInterrupt):
            instances.pin("v1", "Email", tmp_path / "pinned.parquet")
    assert keys_of(instances, tmp_path / "pinned.parquet") == ["k"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("bad.parquet", "nonsense", "Parquet with a column `key`"),
        ("gone.txt", None, "gone.txt cannot be taken"),
        ("long.txt", "x" * 300, "more than 256 characters"),
    ],
)
def test_a_file_that_cannot_be_taken_leaves_the_table_as_it_was(
    instances: Instances, tmp_path: Path, name: str, content: str | None, said: str
) -> None:
    instances.add("v1", "Email", [text(tmp_path / "one", "k")], RESOURCES)
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InstancesUnusable, match=said):
        instances.add("v1", "Email", [tmp_path / name], RESOURCES)
    assert keys_of(instances, tmp_path / "still") == ["k"]
    assert not list(instances.root.rglob("*.next"))


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Workplace]:
    place = await Workplace.open(tmp_path)
    write_snapshot(place.settings.profiles_folder, PEOPLE, buckets=4)
    yield place
    await place.store.close()


def feed(place: Workplace, *keys: str) -> None:
    table = Instances(place.settings.journeys_folder, SCOPE)
    file = text(place.folder / "fed.txt", *keys)
    table.add(JOURNEY["versionId"], JOURNEY["namespace"], [file], RESOURCES)


async def test_profiles_that_are_in_the_journey_become_discards(place: Workplace) -> None:
    feed(place, "2@x", "7@x", "nobody@x")
    async with place.working():
        job = await place.ended(await place.submit(request_for(GOLD, journey=JOURNEY)))
    assert job.counts is not None
    assert (job.counts.total, job.counts.realized, job.counts.failed) == (8, 6, 2)
    assert job.publication is not None
    assert job.publication.discards is not None
    with DiscardReader(job.publication.discards) as reader:
        assert {(row[2], row[3]) for row in reader.read(10)} == {
            (2, "ERROR_INSTANCE_DUPLICATION"),
            (7, "ERROR_INSTANCE_DUPLICATION"),
        }
    assert not place.left_behind()


async def test_a_job_that_is_taken_over_judges_by_the_instances_it_began_with(
    place: Workplace,
) -> None:
    exports = place.settings.exports.model_copy(update={"pieces_in_flight": 1})
    place = replace(place, settings=place.settings.model_copy(update={"exports": exports}))
    feed(place, "1@x")
    gate = Gate("run_piece", nth=3)
    worker = place.new_worker(
        change=lambda bench: replace(bench, engine=GatedEngine(bench.engine, gate))
    )
    async with place.working(worker):
        job = await place.submit(request_for(GOLD, journey=JOURNEY))

        async def two_are_saved() -> bool:
            return len(await place.store.pieces(job.id)) == 2

        await until(two_are_saved, 10, "two pieces are saved")
    feed(place, *(f"{number}@x" for number in range(1, 9)))
    async with place.working(place.new_worker("two")):
        job = await place.ended(job)
    assert job.counts is not None
    assert (job.counts.realized, job.counts.failed) == (7, 1)


def test_the_command_line_adds_removes_and_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Any:
        monkeypatch.setattr("sys.argv", ["segexport", "journeys", *arguments, "--format", "json"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return orjson.loads(capsys.readouterr().out)

    text(tmp_path / "keys.txt", "a", "b")
    text(tmp_path / "left.txt", "a")
    assert run("add", "v1", "keys.txt", "--namespace", "Email") == [
        {"versionId": "v1", "namespace": "Email", "keys": 2}
    ]
    run("remove", "v1", "left.txt", "--namespace", "Email")
    assert run("list") == [{"versionId": "v1", "namespace": "Email", "keys": 1}]


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_a_link_in_the_place_of_a_table_is_not_followed(
    instances: Instances, tmp_path: Path, depth: int
) -> None:
    keys = text(tmp_path / "keys", "a")
    instances.add("v1", "Email", [keys], RESOURCES)
    linked = tmp_path.joinpath("journeys", *("acme", "prod", "v1", "Email")[: depth + 1])
    linked.symlink_to(linked.rename(tmp_path / "elsewhere"))
    for change in (
        lambda: instances.remove("v1", "Email", [keys], RESOURCES),
        lambda: instances.forget("v1", "Email", ["a"]),
        lambda: list(instances.tables()),
        instances.sweep,
    ):
        with pytest.raises(DatasetError, match=f"{linked} is a symbolic link"):
            change()
    assert len(list((tmp_path / "elsewhere").rglob("*.parquet"))) == 1
