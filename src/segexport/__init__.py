"""Audience export jobs whose lives are told to Kafka, exactly once and in order."""
