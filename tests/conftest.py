"""Fixtures for all tests."""

pytest_plugins = ["support.kafka.fixtures"]
