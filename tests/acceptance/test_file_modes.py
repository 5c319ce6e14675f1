"""Who may read what the commands write, whatever the umask of whoever runs them."""

import json
import os
import signal
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from support.command_line import Segexport

PRIVATE = ("jobs.sqlite", "keys.json", "master.key", "http-address", "embedded-broker")
PRIVATE_TREES = ("profiles", "discards", "journeys", "spill")
PERSON = {
    "identityMap": {"Email": [{"id": "ines@example.com", "primary": True}]},
    "updatedAt": "2026-01-01T00:00:00Z",
    "person": {"name": {"lastName": "Ines"}},
}


@pytest.fixture(params=["022", "077"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    mask = int(request.param, 8)
    before = os.umask(mask)
    yield mask
    os.umask(before)


def modes(folder: Path) -> Mapping[str, int]:
    """Those of all that is in the folder, itself as well."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        found[str(path.relative_to(folder.parent))] = stat.S_IMODE(path.lstat().st_mode)
    return found


def work(folder: Path, **variables: str) -> Path:
    """Have the commands make all there is; the data folder, while the service runs."""
    segexport = Segexport(folder, SEGEXPORT_DATA=str(folder / "data"), **variables)
    (folder / "people.ndjson").write_text(json.dumps(PERSON) + "\n")
    (folder / "keys.txt").write_text("ines@example.com\n")
    for command in (
        "keys create nightly --organization acme",
        "profiles load people.ndjson",
        "policies define crm --merging none",
        "journeys add v1 keys.txt --namespace Email",
    ):
        done = segexport(*command.split())
        assert done.returncode == 0, done.stderr
    with segexport.serving() as service:
        journey = ("--journey-version", "v1", "--namespace", "Email")
        done = segexport("submit", "--dataset", "gold", *journey, "--wait")
        assert done.returncode == 0, done.stdout + done.stderr
        while_it_runs = modes(folder / "data")
        service.send_signal(signal.SIGTERM)
        service.wait(timeout=20)
    for path, mode in while_it_runs.items():
        name = Path(path).parts[1] if path != "data" else path
        if name.startswith(PRIVATE) or name in PRIVATE_TREES:
            assert mode & 0o077 == 0, (path, f"{mode:04o}")
    assert {Path(path).name for path in while_it_runs} >= {*PRIVATE, *PRIVATE_TREES}
    return folder / "data"


def test_state_is_for_its_owner_alone_and_datasets_are_as_the_umask_says(
    tmp_path: Path, umask: int
) -> None:
    data = work(tmp_path)
    assert stat.S_IMODE(data.stat().st_mode) == 0o777 & ~umask
    for path, mode in modes(data / "datasets").items():
        usual = 0o777 if (data / path).is_dir() else 0o666
        assert mode == usual & ~umask, (path, f"{mode:04o}")


def test_datasets_have_the_mode_that_is_set(tmp_path: Path, umask: int) -> None:
    del umask  # it does not matter
    data = work(tmp_path, SEGEXPORT_EXPORTS__FILE_MODE="0640")
    for path, mode in modes(data / "datasets").items():
        assert mode == (0o750 if (data / path).is_dir() else 0o640), (path, f"{mode:04o}")


def test_what_is_open_to_others_from_before_is_closed_at_the_start(tmp_path: Path) -> None:
    segexport = Segexport(tmp_path, SEGEXPORT_DATA=str(tmp_path / "data"))
    assert segexport("list").returncode == 0
    store, folder = tmp_path / "data" / "jobs.sqlite", tmp_path / "data" / "discards"
    folder.mkdir()
    store.chmod(0o644)
    folder.chmod(0o755)
    with segexport.serving():
        assert stat.S_IMODE(store.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    told = [json.loads(line) for line in segexport.log.read_text().splitlines()]
    closed = {line["path"] for line in told if "open to others" in line["event"]}
    assert closed == {str(store), str(folder)}


@pytest.mark.parametrize("mode", ["640", "0644", "0660"])
def test_modes_are_octal_digits(tmp_path: Path, mode: str) -> None:
    shown = Segexport(tmp_path)("settings", SEGEXPORT_EXPORTS__FILE_MODE=mode)
    assert f'exports.file_mode = "{mode}"' in shown.stdout


@pytest.mark.parametrize("mode", ["0444", "0777", "rw-r-----", "8", ""])
def test_other_modes_are_refused(tmp_path: Path, mode: str) -> None:
    refused = Segexport(tmp_path)("settings", SEGEXPORT_EXPORTS__FILE_MODE=mode)
    assert refused.returncode == 2
    assert 'exports.file_mode: give a mode as text, such as "0640"' in refused.stderr
