"""The command line as people and scripts use it: what goes wrong is said clearly."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from support.command_line import Segexport
from support.waiting import wait_until

INTERRUPTED = 130
"""What shells make of a process that SIGINT has ended."""
SUBMIT = ("submit", "--dataset", "gold", "--segment", "loyalty-gold")


@pytest.fixture
def service(segexport: Segexport) -> Iterator[subprocess.Popen[str]]:
    """`segexport serve` on the embedded defaults."""
    with segexport.serving() as process:
        yield process


def test_a_job_from_submit_to_tail(segexport: Segexport, service: subprocess.Popen[str]) -> None:
    done = segexport(*SUBMIT, "--fields", "person.name", "--wait", "--format", "json")
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)
    assert (job["state"], job["status"], job["progress"]) == ("COMPLETED", "SUCCEEDED", 1.0)
    assert job["counts"]["total"] == job["counts"]["realized"] > 0

    listed = segexport("list", "--format", "json")
    assert [json.loads(line)["id"] for line in listed.stdout.splitlines()] == [job["id"]]
    assert segexport("list", "--state", "FAILED").stdout.strip() == "no jobs"
    assert "COMPLETED" in segexport("list").stdout

    told = segexport("tail", "--once", "--job", str(job["id"]))
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    assert [line.split()[2] for line in lines] == ["queued", "started", "finished"]
    assert all(line.endswith("✓ valid") for line in lines)
    raw = segexport("tail", "--once", "--format", "json").stdout.splitlines()
    assert [json.loads(line)["https://segexport.example/sequence"] for line in raw] == [1, 2, 3]

    unchanged = segexport("cancel", str(job["id"]))
    assert (unchanged.returncode, "COMPLETED" in unchanged.stdout) == (0, True)
    again = segexport("retry", str(job["id"]), "--wait", "--format", "json")
    assert json.loads(again.stdout)["retryOf"] == job["id"]

    service.send_signal(signal.SIGTERM)
    assert service.wait(timeout=15) == 0
    assert '"stopped"' in segexport.log.read_text()
    assert "no Kafka is configured" in segexport("tail", "--once").stderr


def test_a_failed_job_that_was_waited_for_is_status_1(
    segexport: Segexport, service: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert service.poll() is None
    datasets = tmp_path / "data" / "datasets" / "local" / "prod"
    datasets.mkdir(parents=True)
    (datasets / "gold").touch()
    failed = segexport(*SUBMIT, "--wait")
    assert failed.returncode == 1
    assert "FAILED" in failed.stdout
    assert str(datasets / "gold") in failed.stdout


def test_without_a_service_a_job_waits_and_can_be_cancelled(segexport: Segexport) -> None:
    waiting = json.loads(segexport(*SUBMIT, "--format", "json").stdout)
    assert waiting["state"] == "CREATED"
    cancelled = segexport("cancel", str(waiting["id"]), "--reason", "no use", "--format", "json")
    assert json.loads(cancelled.stdout)["error"] == {"kind": "cancelled", "message": "no use"}
    shown = segexport("status", str(waiting["id"]))
    assert "CANCELLED" in shown.stdout
    assert "no use" in shown.stdout


def test_nothing_is_cut_short_where_there_is_no_terminal(segexport: Segexport) -> None:
    journey = "j" * 120
    job = json.loads(
        segexport(
            *SUBMIT, "--journey-version", journey, "--namespace", "Email", "--format", "json"
        ).stdout
    )
    reason = f"because of {'a long story ' * 20}indeed"
    segexport("cancel", str(job["id"]), "--reason", reason)
    (listed,) = segexport("list").stdout.splitlines()[1:]
    assert listed.split()[:2] == [str(job["id"]), "CANCELLED"]
    assert reason in segexport("status", str(job["id"])).stdout
    (refused,) = segexport("status", "5").stderr.splitlines()
    assert refused.endswith("list the jobs there")


def test_an_interrupted_sample_ends_quietly_and_leaves_nothing(
    segexport: Segexport, tmp_path: Path
) -> None:
    store = tmp_path / "sampled"
    sample = ("profiles", "sample", "-n", "3000000", "--store", str(store))
    with segexport.running(*sample) as process:
        wait_until(lambda: any(store.glob(".staging-*/people")), 30, "DuckDB is at work")
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (INTERRUPTED, "")
    assert not [*store.glob("*0*")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("submit", "--dataset", "d", "--segment", "loyalty-golf"),
            ["[request.invalid]", "filter.segments.0.segmentId", "loyalty-golf", "loyalty-gold"],
        ),
        (
            (*SUBMIT, "--fields", "person.nam"),
            ["[request.invalid]", "fields", "person.nam", "did you mean"],
        ),
        (("submit", "--dataset", "x" * 129), ["[request.invalid]", "destination.datasetId"]),
        (("submit", "--dataset", "../up"), ["[request.invalid]", "destination.datasetId"]),
        (
            (*SUBMIT, "--request-id", "x" * 129),
            ["[request.invalid]", "requestId", "1 to 128"],
        ),
        (("status", "4711"), ["[job.not_found]", "4711"]),
        (("cancel", "4711"), ["[job.not_found]", "4711"]),
        (("submit", "nowhere.json"), ["[request.invalid]", "nowhere.json", "No such file"]),
        (("submit", "--segment", "loyalty-gold"), ["--dataset"]),
        (("submit", "request.json", "--dataset", "d"), ["not both"]),
        ((*SUBMIT, "--journey-version", "v1"), ["--namespace"]),
        (("list", "--state", "DONE"), ["DONE"]),
    ],
)
def test_a_wrong_call_is_answered_with_what_and_where(
    segexport: Segexport, arguments: tuple[str, ...], said: list[str]
) -> None:
    refused = segexport(*arguments)
    assert refused.returncode == 2
    for word in said:
        assert word in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_request_from_standard_input_that_is_wrong_names_every_problem(
    segexport: Segexport,
) -> None:
    body = {"filter": {"segments": [{"segmentId": ""}]}, "destination": {}, "more": True}
    refused = segexport("submit", "-", stdin=json.dumps(body))
    assert refused.returncode == 2
    for path in ("filter.segments.0.segmentId", "destination.datasetId", "more"):
        assert path in refused.stderr


def test_the_same_request_id_gives_the_same_job_and_another_body_is_a_conflict(
    segexport: Segexport,
) -> None:
    once = ("--request-id", "nightly", "--format", "json")
    first = json.loads(segexport(*SUBMIT, *once).stdout)
    assert json.loads(segexport(*SUBMIT, *once).stdout)["id"] == first["id"]
    other = segexport(*SUBMIT, "--fields", "person", *once)
    assert other.returncode == 2
    assert "[request.conflict]" in other.stderr
    assert "nightly" in other.stderr


def test_without_a_profile_store_submit_says_where_it_was_looked_for(
    segexport: Segexport, tmp_path: Path
) -> None:
    refused = segexport(*SUBMIT, SEGEXPORT_PROFILES=str(tmp_path / "none"))
    assert refused.returncode == 2
    assert "[profiles.missing]" in refused.stderr
    assert str(tmp_path / "none") in refused.stderr


def test_a_corrupt_profile_store_is_named(segexport: Segexport, tmp_path: Path) -> None:
    snapshot = tmp_path / "profiles" / "00000001-20260101T000000Z"
    snapshot.mkdir(parents=True)
    (snapshot / "snapshot.json").write_text("{}")
    refused = segexport(*SUBMIT, SEGEXPORT_PROFILES=str(tmp_path / "profiles"))
    assert refused.returncode == 2
    assert "[profiles.corrupt]" in refused.stderr


def test_a_wrong_setting_is_named(segexport: Segexport) -> None:
    refused = segexport("settings", SEGEXPORT_KAFKA__PARTITIONS="none")
    assert refused.returncode == 2
    assert "[settings] these settings are wrong: kafka.partitions" in refused.stderr


def test_the_settings_in_effect_hide_secrets(segexport: Segexport) -> None:
    shown = segexport("settings", SEGEXPORT_KAFKA__SASL_PASSWORD="hunter2")
    assert shown.returncode == 0
    assert "hunter2" not in shown.stdout + shown.stderr
    assert "kafka.sasl_password = " in shown.stdout


def test_a_data_folder_that_cannot_be_made_is_named(segexport: Segexport, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = segexport("list", SEGEXPORT_DATA=str(tmp_path / "file" / "data"))
    assert refused.returncode == 2
    assert "SEGEXPORT_DATA" in refused.stderr


def test_a_broker_address_that_makes_no_sense_stops_the_service_at_once(
    segexport: Segexport,
) -> None:
    refused = segexport("serve", SEGEXPORT_KAFKA__BOOTSTRAP_SERVERS="kafka:port")
    assert refused.returncode == 2
    assert "kafka.bootstrap_servers" in refused.stderr


def test_tail_says_that_nobody_answers_at_the_brokers_address(segexport: Segexport) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    refused = segexport("tail", "--once", SEGEXPORT_KAFKA__BOOTSTRAP_SERVERS=address)
    assert refused.returncode == 2
    assert "[delivery.unreachable]" in refused.stderr
    assert address in refused.stderr


@pytest.mark.parametrize(
    "command",
    ["submit", "status", "list", "cancel", "retry", "serve", "tail", "settings", "demo"],
)
def test_every_help_has_an_example(segexport: Segexport, command: str) -> None:
    shown = segexport(command, "--help")
    assert shown.returncode == 0
    _, _, behind_usage = shown.stdout.partition("Usage:")[2].partition("\n")
    assert f"segexport {command}" in behind_usage


def test_the_version_is_that_of_the_package(segexport: Segexport) -> None:
    assert segexport("--version").stdout.strip() == f"segexport {version('segexport')}"


def test_python_m_is_the_same_as_the_command() -> None:
    script = Path(sys.executable).with_name("segexport")
    both = [
        subprocess.run(
            [*call, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "COLUMNS": "100"},
        )
        .stdout.partition("[OPTIONS]")[2]
        .split()
        for call in ([str(script)], [sys.executable, "-m", "segexport"])
    ]
    assert both[0] == both[1] != []


def test_keys_are_private_and_a_damaged_file_is_named(segexport: Segexport, tmp_path: Path) -> None:
    made = segexport("keys", "create", "nightly", "--organization", "acme", "--format", "json")
    assert made.returncode == 0, made.stderr
    key = json.loads(made.stdout)
    for name in ("keys.json", "master.key"):
        assert (tmp_path / "data" / name).stat().st_mode & 0o777 == 0o600
    assert key["clientId"] in segexport("keys", "list").stdout

    (tmp_path / "data" / "keys.json").write_text("{")
    damaged = segexport("keys", "list")
    assert damaged.returncode == 2
    assert "[keys]" in damaged.stderr
    assert "keys.json is damaged" in damaged.stderr
    assert "Traceback" not in damaged.stderr
