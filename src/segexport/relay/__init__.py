"""From the store to Kafka."""
