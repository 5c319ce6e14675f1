"""The wheel has what the package needs when nobody has the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCHEMAS = sorted(path.name for path in (ROOT / "src/segexport/schemas").glob("*.schema.json"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_every_schema(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".schema.json")]
    assert sorted(names) == [f"segexport/schemas/{name}" for name in SCHEMAS]


def test_an_installed_wheel_finds_its_schemas_and_judges_by_them(
    wheel: Path, tmp_path: Path
) -> None:
    installed = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    assert_judges_from(installed, tmp_path)


def test_a_wheel_finds_them_even_when_it_is_imported_without_being_unpacked(
    wheel: Path, tmp_path: Path
) -> None:
    assert_judges_from(wheel, tmp_path)


def assert_judges_from(place: Path, folder: Path) -> None:
    # The checkout is on sys.path through the editable install; the wheel is put before it,
    # and the program says where it found the package.
    program = (
        "import segexport; from segexport.events import contract, schema;"
        "examples = schema.schemas()['segment-export-job']['examples'];"
        "print(segexport.__file__);"
        "print(*(contract.judge(it).verdict for it in [*examples, {}]), sep=',')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    where, verdicts = done.stdout.splitlines()
    assert Path(where).is_relative_to(place)
    assert verdicts == "valid,valid,valid,says nothing"
