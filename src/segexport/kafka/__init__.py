"""What relay and readers share about Kafka: client settings, topics, errors in plain words."""

from segexport.kafka.client import client_arguments
from segexport.kafka.faults import client_failed, explain, in_plain_words, passed_over
from segexport.kafka.topics import (
    EMBEDDED_PARTITIONS,
    Topics,
    ensure_topics,
    topic_id,
    wait_for_topic,
)

__all__ = [
    "EMBEDDED_PARTITIONS",
    "Topics",
    "client_arguments",
    "client_failed",
    "ensure_topics",
    "explain",
    "in_plain_words",
    "passed_over",
    "topic_id",
    "wait_for_topic",
]
