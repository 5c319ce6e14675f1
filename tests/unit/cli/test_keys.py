"""`segexport keys`: secrets are shown once, and never again."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from segexport.cli.app import app
from segexport.errors import KeysError, UnknownKey
from segexport.http.keys import KeyFile, KeyRing, MasterKey


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGEXPORT_DATA", str(tmp_path))
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", *arguments])


def create(*arguments: str) -> dict[str, str]:
    made = run("create", "nightly", "--organization", "acme", "--format", "json", *arguments)
    assert made.exit_code == 0, made.output
    document: dict[str, str] = json.loads(made.output)
    return document


def test_what_a_new_key_shows_is_what_the_service_believes(data: Path) -> None:
    made = create("--sandbox", "prod", "--sandbox", "dev")
    ring = KeyRing(KeyFile(data / "keys.json"), MasterKey.in_file(data / "master.key"))
    key = ring.by_client(made["clientId"])
    assert key is not None
    assert (key.name, key.organization, key.sandboxes) == ("nightly", "acme", ("prod", "dev"))
    assert ring.believes(key, made["clientSecret"])
    assert ring.by_access_key(made["accessKeyId"]) == key
    assert ring.secret_access_key(key) == made["secretAccessKey"]


def test_the_text_shows_all_of_it_as_well() -> None:
    text = run("create", "[nightly]", "--organization", "acme").output
    listed = json.loads(run("list", "--format", "json").output)
    rows = dict(line.split("  ", 1) for line in text.splitlines() if "  " in line)
    shown = {name: value.strip() for name, value in rows.items()}
    assert shown["name"] == "[nightly]"
    assert shown["sandboxes"] == "all"
    assert shown["client id (API key)"] == listed["clientId"]
    assert shown["AWS access key id"] == listed["accessKeyId"]
    assert (len(shown["client secret"]), len(shown["AWS secret access key"])) == (64, 40)
    assert "not shown again" in text


def test_a_list_shows_everything_but_secrets(data: Path) -> None:
    made = [create(), create("--sandbox", "prod")]
    hidden = [one.pop(name) for one in made for name in ("clientSecret", "secretAccessKey")]
    hidden += re.findall(r"[0-9a-f]{64}", (data / "keys.json").read_text())
    assert len(hidden) == 6
    lines, text = run("list", "--format", "json").output, run("list").output
    assert [json.loads(line) for line in lines.splitlines()] == made
    assert all(one["clientId"] in text and one["accessKeyId"] in text for one in made)
    assert not [secret for secret in hidden if secret in lines + text]


def test_a_revoked_key_is_gone() -> None:
    made = create()
    revoked = run("revoke", made["clientId"])
    assert (revoked.exit_code, revoked.output.strip()) == (0, "revoked nightly of acme")
    assert run("list").output.strip() == "no keys"
    assert run("list", "--format", "json").output == ""
    again = run("revoke", made["clientId"])
    assert isinstance(again.exception, UnknownKey)


def test_a_key_for_no_possible_scope_is_refused() -> None:
    refused = run("create", "nightly", "--organization", "../acme")
    assert isinstance(refused.exception, KeysError)
    assert "organization" in str(refused.exception)


def test_the_help_of_the_group_has_examples() -> None:
    text = run("--help").output
    for command in ("create nightly", "list", "revoke 0123"):
        assert f"segexport keys {command}" in text
