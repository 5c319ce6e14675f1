"""The fixtures around Kafka; `tests/conftest.py` loads them."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import pytest

from segexport.settings import KafkaSettings
from support.kafka import (
    VARIABLE,
    Cluster,
    ClusterFactory,
    Distribution,
    ForeignKafka,
    Kafka,
    KafkaMissing,
    Security,
    find_distribution,
)
from support.must_run import missing

_FIXTURES = {"kafka", "kafka_cluster", "kafka_distribution"}
_distribution = pytest.StashKey[Distribution | KafkaMissing]()


def _found(config: pytest.Config) -> Distribution | KafkaMissing:
    if _distribution not in config.stash:
        try:
            config.stash[_distribution] = find_distribution()
        except KafkaMissing as error:
            config.stash[_distribution] = error
    return config.stash[_distribution]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever uses a Kafka is marked so."""
    for item in items:
        if _FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("kafka")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Resolve Kafka here, where no test's time limit runs: the first time it is downloaded."""
    wanted = any(item.get_closest_marker("kafka") for item in session.items)
    if wanted and not session.config.option.collectonly:
        _found(session.config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Nothing that was started is left."""
    found = config.stash.get(_distribution, None)
    if found is not None and not isinstance(found, KafkaMissing):
        found.close()


@pytest.fixture(scope="session")
def kafka_distribution(request: pytest.FixtureRequest) -> Distribution:
    """Kafka's programs."""
    found = _found(request.config)
    if isinstance(found, KafkaMissing):
        missing(str(found))
    return found


@pytest.fixture(scope="session")
def kafka(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kafka]:
    """One Kafka for the whole session. Use topics of your own, and do not hurt it."""
    folder = tmp_path_factory.mktemp("kafka")
    found: Kafka
    if servers := os.environ.get(VARIABLE):
        found = ForeignKafka(servers, folder, _found(request.config))
    else:
        found = Cluster(request.getfixturevalue("kafka_distribution"), folder)
    yield found
    found.close()


@pytest.fixture
def kafka_cluster(kafka_distribution: Distribution, tmp_path: Path) -> Iterator[ClusterFactory]:
    """Make clusters of your own: `kafka_cluster(nodes=3)`. They end with the test."""
    made: list[Cluster] = []

    def make(
        *,
        nodes: int = 1,
        security: Security | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> Cluster:
        folder = tmp_path / f"kafka-{len(made)}"
        made.append(
            Cluster(
                kafka_distribution, folder, nodes=nodes, security=security, properties=properties
            )
        )
        return made[-1]

    yield make
    for cluster in made:
        cluster.close()


@pytest.fixture
def topic() -> str:
    """A name that no other test uses."""
    return f"test-{uuid4().hex[:12]}"


@pytest.fixture
def kafka_settings(kafka: Kafka, topic: str) -> KafkaSettings:
    """Settings for a topic of this test's own on the session's Kafka."""
    return KafkaSettings(
        bootstrap_servers=kafka.bootstrap_servers, topic=topic, partitions=3, replication_factor=1
    )
