"""`segexport keys`: secrets are shown once, and never again."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from typer.testing import CliRunner, Result

from segexport.cli.app import app
from segexport.errors import KeysError, TokenExpired, UnknownKey
from segexport.http.keys import KeyFile, KeyRing, MasterKey
from segexport.http.sessions import session_signer


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


# Temporary credentials of AWS clients


def test_a_profile_of_aws_runs_the_command_for_temporary_credentials(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """botocore runs `credential_process`, and signs with what it prints."""
    client_id = create()["clientId"]
    command = f"{sys.executable} -m segexport keys session {client_id}"
    (data / "config").write_text(
        "[profile exports]\n"
        f"credential_process = {command} --duration 15m --format credential-process\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(data / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(data / "none"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    login = boto3.Session(profile_name="exports").get_credentials().get_frozen_credentials()
    ring = KeyRing(KeyFile(data / "keys.json"), MasterKey.in_file(data / "master.key"))
    key, secret = session_signer(login.token, login.access_key, ring, datetime.now(UTC))
    assert (key.client_id, secret) == (client_id, login.secret_key)


def test_a_shell_takes_temporary_credentials_into_its_environment(data: Path) -> None:
    client_id = create()["clientId"]
    printed = run("session", client_id, "--duration", "90m").output
    read = f"{printed}\nprintenv AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN"
    shell = subprocess.run(["sh", "-c", read], capture_output=True, text=True, check=True)
    access_key_id, secret, token = shell.stdout.split()
    ring = KeyRing(KeyFile(data / "keys.json"), MasterKey.in_file(data / "master.key"))
    soon = datetime.now(UTC) + timedelta(minutes=89)
    assert session_signer(token, access_key_id, ring, soon)[1] == secret
    with pytest.raises(TokenExpired):
        session_signer(token, access_key_id, ring, soon + timedelta(minutes=2))


@pytest.mark.parametrize("duration", ["1", "14m", "13h", "1d", "-1h", "", "1h30m", "99999999h"])
def test_how_long_temporary_credentials_may_be_good_is_said(duration: str) -> None:
    refused = run("session", create()["clientId"], "--duration", duration)
    assert refused.exit_code == 2
    assert "15m to 12h" in refused.output


def test_there_are_no_temporary_credentials_without_a_key() -> None:
    create()
    assert isinstance(run("session", "0" * 32).exception, UnknownKey)
