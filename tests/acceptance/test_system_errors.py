"""What the system refuses is said in a line, by every command, with the status that means it."""

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from segexport.cli.app import app
from segexport.jobs.job import Scope
from segexport.jobs.reading import parse_request
from segexport.profiles.definitions import define_segment
from support import cli_process
from support.cli_process import CLOSED, GONE, Order
from support.command_line import Segexport
from support.forked import Forked
from support.people import Person, write_snapshot
from support.workplace import Workplace

HERE = Scope("local", "prod")
OUTPUT_CLOSED = 141
PERSON = {
    "identityMap": {"Email": [{"id": "ines@example.com", "primary": True}]},
    "updatedAt": "2026-01-01T00:00:00Z",
    "person": {"name": {"lastName": "Ines"}},
}

COMMANDS = {
    "demo": "demo --profiles 1000 --keep demo",
    "submit": "submit request.json",
    "status": "status JOB",
    "list": "list",
    "cancel": "cancel JOB",
    "retry": "retry JOB",
    "settings": "settings",
    "tail": "tail --once",
    "validate": "validate request.json",
    "profiles load": "profiles load people.ndjson",
    "profiles sample": "profiles sample --profiles 100 --store sample",
    "profiles show": "profiles show",
    "profiles erase": "profiles erase Email:nobody@example.com --yes",
    "datasets list": "datasets list",
    "datasets show": "datasets show audience",
    "datasets verify": "datasets verify audience",
    "datasets delete": "datasets delete audience --yes",
    "datasets register": "datasets register audience --schema x",
    "journeys add": "journeys add v1 keys.txt --namespace Email",
    "journeys remove": "journeys remove v1 keys.txt --namespace Email",
    "journeys list": "journeys list",
    "keys create": "keys create nightly --organization acme",
    "keys list": "keys list",
    "keys revoke": "keys revoke 00000000000000000000000000000000",
    "keys session": "keys session 00000000000000000000000000000000",
    "outbox show": "outbox show",
    "outbox replay": "outbox replay JOB",
    "outbox new-generation": "outbox new-generation",
    "outbox set-position": "outbox set-position 0",
    "policies define": "policies define crm --merging none",
    "policies list": "policies list",
    "schema list": "schema list",
    "schema print": "schema print segment-export-job",
    "segments define": "segments define ines --where \"person.name.lastName='Ines'\"",
    "segments list": "segments list",
    "segments show": "segments show gold",
    "segments evaluate": "segments evaluate",
}
"""All but `serve`, which prints nothing and goes on: an example of each."""
SAY_NO = {
    "keys revoke": "keys.unknown",
    "keys session": "keys.unknown",
    "outbox replay": "job.not_found",
    "outbox set-position": "settings",
    "tail": "delivery.unreachable",
}
"""These print nothing here."""
WITHOUT_DATA = {"demo", "settings", "validate", "profiles sample", "schema list", "schema print"}
WITHOUT_SETTINGS = {"validate", "schema list", "schema print"}


@dataclass(frozen=True)
class Ended:
    """What a command has come to."""

    status: int
    stdout: str
    stderr: str

    @property
    def code(self) -> str | None:
        """That of the error in its one line, if there is one."""
        found = re.search(r"^error \[([a-z_.]+)\] \S.*\n\Z", self.stderr, re.MULTILINE)
        return found and found[1]


@dataclass
class Terminal:
    """Runs commands in a folder with a batch, a job, a segment and profiles in it."""

    forked: Forked
    folder: Path
    job: str

    def run(self, command: str, *, stdout: str = "out", stderr: str = "err") -> Ended:
        arguments = shlex.split(COMMANDS.get(command, command).replace("JOB", self.job))
        order = Order(arguments=arguments, folder=str(self.folder), stdout=stdout, stderr=stderr)
        status = self.forked.run(order.to_json())
        return Ended(status, self._read(stdout), self._read(stderr))

    def _read(self, name: str) -> str:
        file = self.folder / name
        return file.read_text() if file.is_file() and file.is_relative_to(self.folder) else ""


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked]:
    with Forked(cli_process) as forked:
        yield forked


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder that every command finds something in; copy it, do not change it."""
    folder = tmp_path_factory.mktemp("furnished")
    request = {"destination": {"datasetId": "audience"}}

    async def furnish() -> str:
        data = folder / ".segexport"
        data.mkdir()
        place = await Workplace.open(data)
        write_snapshot(place.settings.profiles_folder, [Person(number) for number in (1, 2, 3)])
        define_segment(place.settings.profiles_folder, "gold", "person.name.lastName = 'Ines'")
        async with place.working():
            job = (await place.commands.submit(HERE, parse_request(request))).job
            await place.ended(job)
        await place.store.close()
        return str(job.id)

    job = asyncio.run(furnish())
    (folder / "request.json").write_text(json.dumps(request))
    (folder / "people.ndjson").write_text(json.dumps(PERSON) + "\n")
    (folder / "keys.txt").write_text("ines@example.com\n")
    return folder, job


@pytest.fixture
def terminal(
    forked: Forked,
    furnished: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Terminal:
    template, job = furnished
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    for name in list(os.environ):
        if "SEGEXPORT" in name:
            monkeypatch.delenv(name)
    return Terminal(forked, tmp_path, job)


def leaves(group: TyperGroup, *path: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from leaves(command, *path, name)
        else:
            yield " ".join((*path, name))


def test_every_command_is_tried() -> None:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    assert set(leaves(group)) == {*COMMANDS, "serve"}


@pytest.mark.parametrize("command", COMMANDS)
def test_results_that_cannot_be_printed_are_an_error_of_the_output(
    terminal: Terminal, command: str
) -> None:
    ended = terminal.run(command, stdout="/dev/full")
    assert (ended.status, ended.code) == (2, SAY_NO.get(command, "system.output")), ended.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_stdout_nothing_counts_as_printed(terminal: Terminal, command: str) -> None:
    ended = terminal.run(command, stdout=CLOSED)
    assert (ended.status, ended.code) == (2, SAY_NO.get(command, "system.output")), ended.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_has_gone_ends_a_command_without_words(
    terminal: Terminal, command: str
) -> None:
    ended = terminal.run(command, stdout=GONE)
    if command in SAY_NO:
        assert (ended.status, ended.code) == (2, SAY_NO[command])
    else:
        assert (ended.status, ended.stderr) == (OUTPUT_CLOSED, "")


@pytest.mark.parametrize(
    ("command", "stderr"),
    [
        *((command, CLOSED) for command in sorted(COMMANDS.keys() - {"demo"})),
        *((command, stderr) for command in ("list", "tail") for stderr in (GONE, "/dev/full")),
    ],
)
def test_words_that_nobody_hears_change_nothing(
    terminal: Terminal, command: str, stderr: str
) -> None:
    expected = {"validate": 1}.get(command, 2 if command in SAY_NO else 0)
    ended = terminal.run(command, stderr=stderr)
    assert ended.status == expected
    assert "Traceback" not in ended.stdout


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"demo"}))
def test_a_data_folder_that_cannot_be_read_is_said(terminal: Terminal, command: str) -> None:
    data = terminal.folder / ".segexport"
    data.chmod(0)
    try:
        ended = terminal.run(command)
    finally:
        data.chmod(0o700)
    if command in WITHOUT_DATA:
        assert ended.status in {0, 1}, ended.stderr
    else:
        assert ended.status == 2, ended.stdout + ended.stderr
        assert ended.code is not None, ended.stderr
        assert command == "tail" or re.search("ermission|folder exists, is writ", ended.stderr)


def in_a_folder(file: Path) -> None:
    file.mkdir()


def closed_to_all(file: Path) -> None:
    file.touch(0)


def not_utf_8(file: Path) -> None:
    file.write_bytes(b'data = ".segexport"\n# caf\xe9\n')


def leading_to_itself(file: Path) -> None:
    file.symlink_to(file)


def with_a_nul(file: Path) -> None:
    file.write_text('data = "a\\u0000b"\n')


@pytest.mark.parametrize(
    "spoil", [in_a_folder, closed_to_all, not_utf_8, leading_to_itself, with_a_nul]
)
@pytest.mark.parametrize("name", ["named.toml", "segexport.toml"])
def test_settings_that_cannot_be_read_are_said(
    terminal: Terminal,
    spoil: Callable[[Path], None],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoil(terminal.folder / name)
    if name == "named.toml":
        monkeypatch.setenv("SEGEXPORT_CONFIG", name)
    ended = terminal.run("settings")
    assert (ended.status, ended.code) == (2, "settings"), ended.stderr
    assert name in ended.stderr


@pytest.mark.parametrize("command", [*sorted(COMMANDS.keys() - WITHOUT_SETTINGS), "serve"])
def test_every_command_says_that_its_settings_cannot_be_read(
    terminal: Terminal, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGEXPORT_CONFIG", ".segexport")
    ended = terminal.run(command)
    assert (ended.status, ended.code) == (2, "settings"), ended.stderr


def test_a_byte_order_mark_before_the_settings_says_nothing(terminal: Terminal) -> None:
    (terminal.folder / "segexport.toml").write_bytes(BOM_UTF8 + b'organization = "acme"\n')
    assert 'organization = "acme"' in terminal.run("settings").stdout


def test_a_byte_order_mark_before_any_input_says_nothing(terminal: Terminal) -> None:
    for name in ("request.json", "people.ndjson", "keys.txt"):
        file = terminal.folder / name
        file.write_bytes(BOM_UTF8 + file.read_bytes())
    assert terminal.run("submit").status == 0
    assert terminal.run("profiles load people.ndjson --format json").status == 0
    assert terminal.run("journeys add").status == 0
    (terminal.folder / "keys.txt").write_text("ines@example.com\n")
    removed = terminal.run("journeys remove v1 keys.txt --namespace Email --format json")
    assert json.loads(removed.stdout)[0]["keys"] == 0


def test_a_key_whose_secrets_cannot_be_printed_is_not_made(terminal: Terminal) -> None:
    for stdout in ("/dev/full", CLOSED, GONE):
        for output in ("text", "json"):
            command = f"keys create nightly --organization acme --format {output}"
            assert terminal.run(command, stdout=stdout).status in {2, OUTPUT_CLOSED}
    assert terminal.run("keys list").stdout.strip() == "no keys"
    # Not even a file without keys, with which the service would believe nobody.
    assert [file.name for file in terminal.folder.glob(".segexport/keys*")] == []


def test_validate_does_not_blame_its_input_for_its_output(terminal: Terminal) -> None:
    (terminal.folder / "many.ndjson").write_text('{"a": 1}\n' * 10_000)
    ended = terminal.run("validate many.ndjson", stdout="/dev/full")
    assert (ended.status, ended.code) == (2, "system.output")
    assert "many.ndjson" not in ended.stderr


def test_real_processes_with_closed_streams_behave_so(segexport: Segexport) -> None:
    def shell(line: str) -> tuple[int, str]:
        done = subprocess.run(
            ["bash", "-c", f'run() {{ "$PYTHON" -m segexport "$@"; }}; {line}'],
            capture_output=True,
            text=True,
            cwd=segexport.folder,
            env={**segexport.environment, "PYTHON": sys.executable},
            check=False,
        )
        return done.returncode, done.stderr

    for redirection in (">&-", ">/dev/full", "<&- >&-", ">&- 2>&-"):
        status, said = shell(f"run schema list {redirection}")
        assert (status, "Traceback" in said) == (2, False)
    assert shell("run schema list 2>&- <&-") == (0, "")
    assert shell("run schema print emitted | true; exit ${PIPESTATUS[0]}") == (141, "")
    status, said = shell("run submit - <&-")
    assert (status, "[system.input]" in said) == (2, True)
