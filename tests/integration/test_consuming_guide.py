"""What docs/consuming.md tells writers of consumers is true: its examples are run here."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Timer
from typing import get_args

import pytest

from segexport.events.contract import Contract, Verdict, judge
from segexport.events.record import data_schema
from segexport.events.versions import CURRENT
from segexport.events.xdm import compact_path
from segexport.settings import KafkaSettings
from support.events import EVENTS
from support.kafka import Kafka
from support.told import told

GUIDE = (Path(__file__).parents[2] / "docs" / "consuming.md").read_text()
TOPIC = KafkaSettings().topic


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, flags=re.MULTILINE | re.DOTALL)


def test_its_first_lines_say_how_records_are_compressed_and_what_else_can_be_set() -> None:
    first = GUIDE.partition("## ")[0].partition("\n\n")[2].partition("\n\n")[0]
    assert f"compressed with {KafkaSettings().compression.upper()}" in first
    others = set(get_args(KafkaSettings.model_fields["compression"].annotation))
    for offered in others - {KafkaSettings().compression}:
        assert f"`{offered}`" in first
    assert "(#what-a-client-needs)" in first


def as_here(example: str, kafka: Kafka, topic: str) -> str:
    """An example of the guide for this test's broker and topic."""
    assert "localhost:9092" in example
    assert TOPIC in example
    here = {"localhost:9092": kafka.bootstrap_servers, TOPIC: topic, "export-dashboard": topic}
    for there, now in here.items():
        example = example.replace(there, now)
    return example


@pytest.fixture
def filled(kafka: Kafka, topic: str) -> str:
    """A topic with the events that the guide speaks of, in one order: it has one partition."""
    kafka.create_topic(topic)
    kafka.send(topic, told())
    return topic


def output_of(program: str, lines: int) -> Iterator[str]:
    """The first lines that a program prints; it may run for ever."""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as it:
        deadline = Timer(60, it.kill)
        deadline.start()
        try:
            assert it.stdout is not None
            for _ in range(lines):
                yield it.stdout.readline().rstrip()
        finally:
            deadline.cancel()
            it.kill()


def test_the_python_example_prints_what_the_guide_says(kafka: Kafka, filled: str) -> None:
    (example,) = blocks("python")
    (promised,) = blocks("text")
    lines = promised.splitlines()
    assert list(output_of(as_here(example, kafka, filled), len(lines))) == lines


def test_the_python_example_passes_over_repeats(kafka: Kafka, filled: str) -> None:
    end = told()[0]
    headers = [(name, b"103" if name == "ce_subject" else text) for name, text in end.headers]
    kafka.send(filled, [*told(), end._replace(headers=headers)])
    (example,) = blocks("python")
    (promised,) = blocks("text")
    lines = [*promised.splitlines(), "103 1 queued"]
    assert list(output_of(as_here(example, kafka, filled), len(lines))) == lines


def test_the_console_example_shows_keys_headers_and_values(kafka: Kafka, filled: str) -> None:
    (example,) = (block for block in blocks("sh") if block.startswith("kafka-console-consumer.sh"))
    _, *arguments = shlex.split(as_here(example, kafka, filled))
    printed = kafka.run_tool(
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        *arguments,
        *("--max-messages", str(len(told()))),
    ).splitlines()
    for line, record in zip(printed, told(), strict=True):
        headers, key, value = line.split("\t")
        assert headers == ",".join(f"{name}:{text.decode()}" for name, text in record.headers)
        assert key.encode() == record.key
        assert value.encode() == record.value


def test_the_events_in_the_guide_are_ones_that_are_emitted() -> None:
    shown = [json.loads(block) for block in blocks("json")]
    emitted = [json.loads(record.value) for form in ("uri", "compact") for record in told(form)]
    assert shown
    for document in shown:
        assert document in emitted
        assert judge(document, Contract.EMITTED).verdict is Verdict.VALID


def test_every_field_is_in_the_guide_and_no_other() -> None:
    table = GUIDE.partition("| field | in which events | holds |")[2].partition("\n\n")[0]
    first_columns = [line.split("|")[1] for line in table.splitlines()[2:]]
    named = [name for column in first_columns for name in re.findall(r"`([^`]+)`", column)]
    fields = {
        ".".join(map(str, compact_path((key, *inner))))
        for document in EVENTS.values()
        for key, value in document.items()
        for inner in ([(each,) for each in value] if isinstance(value, dict) else [()])
    }
    assert sorted(name.replace("…", "_experience.journeyOrchestration") for name in named) == (
        sorted(fields)
    )


def test_every_header_is_in_the_guide_and_no_other() -> None:
    table = GUIDE.partition("| header | holds |")[2].partition("\n\n")[0]
    first_columns = [line.split("|")[1] for line in table.splitlines()[2:]]
    named = {name for column in first_columns for name in re.findall(r"`([^`]+)`", column)}
    for record in told():
        assert {name for name, _ in record.headers} == named
    for compact in (False, True):
        assert f"`{data_schema(CURRENT.number, compact=compact).decode()}`" in table
