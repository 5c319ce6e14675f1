"""The compose file is one that Docker Compose takes, and keeps to this machine."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support.kafka.distribution import kafka_version

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text()


def compose() -> list[str]:
    """The command on this machine: Docker's plug-in, or the program of older days."""
    if shutil.which("docker") is not None:
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        if plugin.returncode == 0:
            return ["docker", "compose"]
    if shutil.which("docker-compose") is not None:
        return ["docker-compose"]
    pytest.skip("neither `docker compose` nor `docker-compose` is installed")


def test_docker_compose_understands_the_file() -> None:
    checked = subprocess.run(
        [*compose(), "--file", str(ROOT / "docker-compose.yml"), "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def test_it_runs_the_kafka_that_the_tests_run() -> None:
    assert f"image: apache/kafka:{kafka_version()}\n" in COMPOSE


def test_every_service_has_a_health_check_and_listens_on_the_loopback_interface_only() -> None:
    services = COMPOSE.partition("\nservices:\n")[2].partition("\nvolumes:\n")[0]
    by_name = re.split(r"^  (\w+):$", services, flags=re.MULTILINE)[1:]
    bodies = dict(zip(by_name[::2], by_name[1::2], strict=True))
    assert bodies.keys() == {"kafka", "postgres"}
    for name, body in bodies.items():
        assert "    healthcheck:\n" in body, name
        published = re.findall(r"^    ports:\n((?:      - .*\n)+)", body, flags=re.MULTILINE)
        ports = "".join(published).splitlines()
        assert ports
        assert all(line.startswith('      - "127.0.0.1:') for line in ports), name
