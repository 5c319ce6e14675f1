"""`segexport serve` listens, and ends when it is told to."""

import os
import signal
import time
from pathlib import Path

import httpx

from support.command_line import Segexport
from support.interfaces import BODY, JOBS
from support.waiting import wait_until


def test_sigterm_ends_it_in_bounded_time_with_streams_open(segexport: Segexport) -> None:
    told = segexport.folder / "data" / "http-address"
    with segexport.serving() as process:
        address = told.read_text()
        with httpx.Client(base_url=address, timeout=30) as client:
            assert client.get("/readyz").json()["status"] == "ready"
            streams = [
                client.send(client.build_request("GET", "/events/stream"), stream=True)
                for _ in range(3)
            ]
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0
            assert time.monotonic() - began < 15
            for stream in streams:
                assert "event: bye" in list(stream.iter_lines())
    assert not told.exists()


def test_a_killed_embedded_broker_gets_an_heir_with_all_events(segexport: Segexport) -> None:
    told = segexport.folder / "data" / "embedded-broker"
    submitted = segexport("submit", "--dataset", "gold", "--segment", "loyalty-gold")
    assert submitted.returncode == 0, submitted.stderr
    with (
        segexport.serving() as process,
        segexport.running("tail", "--from", "beginning") as following,
    ):
        assert following.stdout is not None
        assert "queued" in following.stdout.readline()
        first = told.read_text()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        wait_until(lambda: told.read_text() != first, 20, "the address of another one is told")
        address = (segexport.folder / "data" / "http-address").read_text()
        with httpx.Client(base_url=address, timeout=30) as client:
            wait_until(
                lambda: client.get("/readyz").json()["status"] == "ready", 20, "it is ready again"
            )
        tailed = segexport("tail", "--from", "beginning", "--once")
        assert tailed.returncode == 0, tailed.stderr
        assert "queued" in tailed.stdout
        assert following.wait(timeout=20) == 2
        assert "has started another one" in following.stdout.read()
    said = segexport.log.read_text()
    assert "the embedded broker has ended" in said
    assert "kafka.bootstrap_servers" not in said
    assert "security_protocol" not in said


def test_a_folder_that_loses_its_permissions_for_a_while_costs_no_more_than_that_while(
    segexport: Segexport,
) -> None:
    body = {**BODY, "filter": {"segments": [{"segmentId": "loyalty-gold"}]}}
    data = segexport.folder / "data"
    segexport.is_privileged = False
    with segexport.serving() as process:
        with httpx.Client(base_url=segexport.address, timeout=30) as client:
            assert client.post(JOBS, json=body).status_code == 200
            data.chmod(0o000)
            try:
                # Whatever can be done without the folder is; nothing waits for it for ever.
                assert client.post(JOBS, json=body).status_code in {200, 503}
            finally:
                data.chmod(0o700)
            wait_until(
                lambda: client.get("/readyz").json()["status"] == "ready", 20, "it is ready again"
            )
            assert client.post(JOBS, json=body).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    assert "Traceback" not in segexport.log.read_text()
