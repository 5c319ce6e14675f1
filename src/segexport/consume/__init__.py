"""From Kafka to readers."""
