"""`segexport datasets` on the command line."""

import io
from pathlib import Path
from typing import Any

import orjson
import pytest

from segexport.cli import main
from segexport.exports.dataset import Datasets
from segexport.jobs.job import Scope
from segexport.jobs.reading import parse_request
from support.people import Person, write_snapshot
from support.workplace import Workplace

HERE = Scope("local", "prod")


@pytest.fixture
async def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Runs `segexport` where the dataset `audience` has two batches of three profiles."""
    data = tmp_path / ".segexport"
    data.mkdir()
    place = await Workplace.open(data)
    write_snapshot(place.settings.profiles_folder, [Person(number) for number in (1, 2, 3)])
    request = parse_request({"destination": {"datasetId": "audience"}})
    async with place.working():
        for _ in range(2):
            await place.ended((await place.commands.submit(HERE, request)).job)
    await place.store.close()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    capsys.readouterr()

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["segexport", "datasets", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return call


def batches() -> Any:
    return Datasets(Path(".segexport/datasets")).dataset(HERE, "audience").batches()


def test_datasets_and_batches_are_listed_and_shown(run: Any) -> None:
    status, printed, _ = run("list", "--format", "json")
    assert status == 0
    (listed,) = orjson.loads(printed)
    assert (listed["dataset"], listed["batches"], listed["rows"]) == ("audience", 2, 6)
    assert "audience" in run("list")[1]
    shown = orjson.loads(run("show", "audience", "--format", "json")[1])
    names = [batch.manifest.batch for batch in batches()]
    assert shown["batchIds"] == names
    assert all(name in run("show", "audience")[1] for name in names)
    manifest = orjson.loads(run("show", "audience", names[0], "--format", "json")[1])
    assert (manifest["batch"], manifest["counts"]["realized"]) == (names[0], 3)
    text = run("show", "audience", names[0])[1]
    assert "3/3/0" in text
    assert manifest["files"][0]["sha256"] in text


def test_verifying_names_what_differs_and_ends_with_status_1(run: Any) -> None:
    assert run("verify", "audience")[:2] == (0, "2 of 2 batches are as their manifests say\n")
    first, second = batches()
    (second.folder / second.manifest.files[0].name).unlink()
    status, printed, _ = run("verify", "audience")
    assert status == 1
    assert "is missing" in printed
    assert "1 of 2 batches" in printed
    status, printed, _ = run("verify", "audience", second.manifest.batch, "--format", "json")
    assert status == 1
    (fault,) = orjson.loads(printed)["faults"]
    assert fault["batch"] == second.manifest.batch
    assert run("verify", "audience", first.manifest.batch)[0] == 0


def test_a_batch_then_the_dataset_is_deleted(run: Any) -> None:
    first, second = batches()
    assert run("delete", "audience", first.manifest.batch)[0] == 1  # nobody says yes
    assert len(batches()) == 2
    assert run("delete", "audience", first.manifest.batch, "--yes")[0] == 0
    assert [each.manifest.batch for each in batches()] == [second.manifest.batch]
    assert run("delete", "audience", "--yes")[0] == 0
    status, _, problem = run("show", "audience")
    assert status == 2
    assert "there is no dataset 'audience'" in problem


def test_what_is_not_there_is_named(run: Any) -> None:
    status, _, problem = run("show", "audience", "nonsense")
    assert status != 0
    assert "has no batch 'nonsense'" in problem
    assert "segexport datasets list" in run("verify", "other")[2]


def test_a_schema_is_registered_and_shown(run: Any) -> None:
    assert run("register", "audience", "--schema", "_xdm.context.profile")[0] == 0
    shown = orjson.loads(run("show", "audience", "--format", "json")[1])
    assert shown["schema"] == "_xdm.context.profile"


def moved_and_linked(path: Path) -> Path:
    """What lies there, moved elsewhere, with a link to it in its place."""
    there = Path("elsewhere") / path.name
    there.parent.mkdir()
    path.rename(there)
    path.symlink_to(there.absolute())
    return there


@pytest.mark.parametrize(
    "place",
    [
        "local",
        "local/prod",
        "local/prod/audience",
        "local/prod/audience/BATCH",
        "local/prod/audience/BATCH/manifest.json",
        "local/prod/audience/BATCH/FILE",
    ],
)
def test_a_link_below_the_root_is_neither_verified_nor_deleted_through(
    run: Any, place: str
) -> None:
    batch = batches()[0]
    known = {"BATCH": batch.manifest.batch, "FILE": batch.manifest.files[0].name}
    for word, name in known.items():
        place = place.replace(word, name)
    linked = Path(".segexport/datasets") / place
    there = moved_and_linked(linked)
    before = sorted(Path("elsewhere").rglob("*"))
    for asked in (["audience"], ["audience", known["BATCH"]]):
        for command in (["verify"], ["delete", "--yes"]):
            status, printed, problem = run(*command, *asked)
            assert status == 2, printed
            assert f"{linked.absolute()} is a symbolic link" in problem
            assert "put in its place what it leads to" in problem
    assert sorted(Path("elsewhere").rglob("*")) == before
    linked.unlink()
    there.rename(linked)
    assert run("verify", "audience")[0] == 0


def test_a_root_that_is_a_link_is_the_operators_choice(run: Any) -> None:
    moved_and_linked(Path(".segexport/datasets"))
    assert run("verify", "audience")[0] == 0
    assert run("delete", "audience", "--yes")[0] == 0


@pytest.mark.parametrize(
    "name",
    [
        "../../../../../mine.parquet",
        "../other/part.parquet",
        "/mine.parquet",
        "*.parquet",
        "",
        ".",
        "..",
        ".hidden",
        "manifest.json",
        "a\0b",
        "part\n.parquet",
    ],
)
def test_a_manifest_that_names_what_is_elsewhere_is_refused(
    run: Any, tmp_path: Path, name: str
) -> None:
    mine = tmp_path / "mine.parquet"
    mine.write_bytes(b"not yours")
    first = batches()[0]
    path = Path(str(first.folder)) / "manifest.json"
    manifest = orjson.loads(path.read_bytes())
    named = str(mine) if name == "/mine.parquet" else name
    manifest["files"][0] |= {"name": named, "size": 9, "sha256": ""}
    path.write_bytes(orjson.dumps(manifest))
    for command in (["verify"], ["delete", "--yes"], ["show"]):
        status, printed, problem = run(*command, "audience", first.manifest.batch)
        assert (status, printed) == (2, "")
        assert "which is no file of its batch" in problem
    assert mine.read_bytes() == b"not yours"
    assert path.exists()


@pytest.mark.parametrize("batch", ["../other/BATCH", "../audience/BATCH", ".", "..", "/", "a/b"])
def test_a_batch_is_named_and_not_a_way_to_it(run: Any, batch: str) -> None:
    name = batches()[0].manifest.batch
    status, _, problem = run("delete", "audience", batch.replace("BATCH", name), "--yes")
    assert status == 2
    assert "leads elsewhere" in problem
    assert len(batches()) == 2
