"""What relay and readers share about Kafka: client settings, topics, errors in plain words."""

from segexport.kafka.client import client_arguments
from segexport.kafka.faults import explain, in_plain_words
from segexport.kafka.topics import Topics, ensure_topics

__all__ = ["Topics", "client_arguments", "ensure_topics", "explain", "in_plain_words"]
