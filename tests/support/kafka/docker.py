"""Apache Kafka's programs from its own Docker image, for machines with an engine but no Java."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from support.kafka.distribution import KafkaMissing, Running, kafka_version

IMAGE = f"apache/kafka:{kafka_version()}"
PULL_PATIENCE = 600.0
"""Seconds for pulling the image the first time."""

_JAVA = ["java", "-Xmx384m", "-cp", "/opt/kafka/libs/*"]
_AS_IF_LOCAL: dict[str, Any] = {"network_mode": "host", "user": f"{os.getuid()}:{os.getgid()}"}


class KafkaImage:
    """Runs main classes in containers that share the host's network and one of its folders."""

    def __init__(self) -> None:
        # Asked in another process: where no engine answers, the library leaves a socket open.
        _docker("info", otherwise="no Docker engine answers", patience=20)
        try:
            _docker("image", "inspect", IMAGE, otherwise="it has to be pulled first", patience=20)
        except KafkaMissing:
            problem = f"the Docker image {IMAGE} cannot be pulled"
            _docker("pull", "--quiet", IMAGE, otherwise=problem, patience=PULL_PATIENCE)
        from testcontainers.core.docker_client import DockerClient  # noqa: PLC0415  (slow)

        self._client = DockerClient()

    def close(self) -> None:
        self._client.client.close()

    def run(self, folder: Path, main: str, *arguments: str) -> str:
        output: bytes = self._client.client.containers.run(
            IMAGE,
            [*_JAVA, main, *arguments],
            remove=True,
            volumes={str(folder): {"bind": str(folder), "mode": "rw"}},
            **_AS_IF_LOCAL,
        )
        return output.decode()

    def start(self, folder: Path, log: Path, main: str, *arguments: str) -> Running:
        from testcontainers.core.container import DockerContainer  # noqa: PLC0415  (slow)

        container = DockerContainer(IMAGE, **_AS_IF_LOCAL)
        container.with_volume_mapping(str(folder), str(folder), "rw")
        # The shell gives the log the same place that it has without Docker.
        line = f'exec "$0" "$@" >>"{log}" 2>&1'
        container.with_command(["sh", "-c", line, *_JAVA, main, *arguments])
        container.start()
        return _Container(container)


def _docker(*arguments: str, otherwise: str, patience: float) -> None:
    try:
        subprocess.run(["docker", *arguments], capture_output=True, timeout=patience, check=True)
    except FileNotFoundError as error:
        raise KafkaMissing("there is no `docker` on the path") from error
    except subprocess.SubprocessError as error:
        raise KafkaMissing(otherwise) from error


class _Container:
    def __init__(self, container: Any) -> None:
        self._container = container
        self._docker = container.get_wrapped_container()

    def signal(self, number: signal.Signals) -> None:
        self._docker.kill(signal=number.name)

    def wait(self, patience: float) -> None:
        from requests.exceptions import RequestException  # noqa: PLC0415  (as above)

        try:
            self._docker.wait(timeout=patience)
        except RequestException as error:
            raise TimeoutError(f"the container has not ended after {patience:g} s") from error
        self._container.stop()

    @property
    def ended(self) -> bool:
        self._docker.reload()
        return self._docker.status in {"exited", "dead"}
