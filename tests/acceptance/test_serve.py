"""`segexport serve` listens, and ends when it is told to."""

import signal
import time

import httpx

from support.command_line import Segexport


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
