"""What is said about a job: service events, their schemas, their Kafka records. No I/O."""
