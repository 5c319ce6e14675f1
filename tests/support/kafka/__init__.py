"""Apache Kafka for the tests: where it comes from, and what is done with it.

`SEGEXPORT_TEST_KAFKA` (bootstrap servers) if set; else Docker, if an engine answers; else a
local Java, with Kafka's jars from Maven. docs/testing.md tells the same to people.
"""

from collections.abc import Sequence
from pathlib import Path

from support.kafka.access import Kafka, Record
from support.kafka.cluster import Cluster, ClusterFactory, Security
from support.kafka.distribution import Distribution, KafkaMissing, LocalJava
from support.kafka.docker import KafkaImage

__all__ = [
    "VARIABLE",
    "Cluster",
    "ClusterFactory",
    "Distribution",
    "ForeignKafka",
    "Kafka",
    "KafkaMissing",
    "Record",
    "Security",
    "find_distribution",
]

VARIABLE = "SEGEXPORT_TEST_KAFKA"


class ForeignKafka(Kafka):
    """A cluster that somebody else runs; its tools are ours, if there are any."""

    def __init__(self, servers: str, folder: Path, tools: Distribution | KafkaMissing) -> None:
        super().__init__(servers, client={})
        self._folder = folder
        self._tools = tools

    def run_tool(self, main: str, *arguments: str) -> str:
        if isinstance(self._tools, KafkaMissing):
            raise self._tools
        return self._tools.run(self._folder, main, *arguments)

    def close(self) -> None:
        pass


def find_distribution() -> Distribution:
    """Kafka's programs from Docker, else from Maven. Raises `KafkaMissing` with all reasons."""
    reasons: Sequence[str] = ()
    for kind in (KafkaImage, LocalJava):
        try:
            return kind()
        except KafkaMissing as error:
            reasons = (*reasons, str(error))
    raise KafkaMissing(f"no Apache Kafka: {VARIABLE} is not set; {'; '.join(reasons)}")
