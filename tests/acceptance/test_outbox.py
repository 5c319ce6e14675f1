"""What operators see of delivery, and where they decide."""

import json
from collections import Counter

import pytest

from segexport.settings import KafkaSettings
from support.command_line import Segexport
from support.kafka import Kafka
from support.waiting import wait_until

SUBMIT = ("submit", "--dataset", "gold", "--segment", "loyalty-gold", "--format", "json")


@pytest.fixture
def kafka_variables(kafka_settings: KafkaSettings) -> dict[str, str]:
    return {
        "SEGEXPORT_KAFKA__BOOTSTRAP_SERVERS": str(kafka_settings.bootstrap_servers),
        "SEGEXPORT_KAFKA__TOPIC": kafka_settings.topic,
        "SEGEXPORT_KAFKA__PARTITIONS": "3",
        "SEGEXPORT_KAFKA__REPLICATION_FACTOR": "1",
    }


def test_the_outbox_shows_what_waits(segexport: Segexport) -> None:
    for _ in range(2):
        segexport(*SUBMIT)
    shown = json.loads(segexport("outbox", "show", "--format", "json").stdout)
    assert (shown["last"], shown["delivered"], shown["parked"]) == (2, 0, [])
    assert "2 events, 2 of them wait, 0 parked" in segexport("outbox", "show").stdout


def test_a_replay_of_a_job_without_a_parked_event_is_refused(segexport: Segexport) -> None:
    job = json.loads(segexport(*SUBMIT).stdout)
    refused = segexport("outbox", "replay", str(job["id"]))
    assert refused.returncode == 2
    assert str(job["id"]) in refused.stderr


@pytest.mark.kafka
def test_after_a_new_generation_delivery_goes_on_where_a_person_says(
    segexport: Segexport,
    kafka: Kafka,
    kafka_settings: KafkaSettings,
    kafka_variables: dict[str, str],
) -> None:
    for _ in range(3):
        segexport(*SUBMIT)
    out_of_range = segexport("outbox", "set-position", "4", **kafka_variables)
    assert out_of_range.returncode == 2
    assert "from 0 to 3" in out_of_range.stderr

    first = segexport("outbox", "set-position", "2", **kafka_variables)
    assert first.returncode == 0, first.stderr
    assert "generation 2" in segexport("outbox", "new-generation").stdout
    stopped = segexport("serve", **kafka_variables)
    assert stopped.returncode == 2
    assert "[delivery.position]" in stopped.stderr
    assert "set-position" in stopped.stderr

    assert segexport("outbox", "set-position", "2", **kafka_variables).returncode == 0
    with segexport.serving(**kafka_variables):
        wait_until(
            lambda: (
                json.loads(segexport("outbox", "show", "--format", "json").stdout)["delivered"] == 9
            ),
            30,
            "the events of all three jobs are delivered",
        )
    told = Counter(
        record.header["ce_type"] for record in kafka.read(kafka_settings.topic, at_least=7)
    )
    prefix = b"segexport.segmentExportJob."
    assert told == {prefix + b"queued": 1, prefix + b"started": 3, prefix + b"finished": 3}


def test_the_embedded_broker_has_no_position_to_set(segexport: Segexport) -> None:
    refused = segexport("outbox", "set-position", "0")
    assert refused.returncode == 2
    assert "kafka.bootstrap_servers" in refused.stderr


@pytest.mark.kafka
def test_a_service_whose_topic_was_made_anew_ends_until_a_person_says_that_it_is_meant(
    segexport: Segexport,
    kafka: Kafka,
    kafka_settings: KafkaSettings,
    kafka_variables: dict[str, str],
) -> None:
    def delivered(number: int) -> bool:
        shown = json.loads(segexport("outbox", "show", "--format", "json").stdout)
        return bool(shown["delivered"] == number)

    segexport(*SUBMIT)
    with segexport.serving(**kafka_variables):
        wait_until(lambda: delivered(3), 30, "the job's events are delivered")
    kafka.delete_topic(kafka_settings.topic)
    stopped = segexport("serve", **kafka_variables)
    assert stopped.returncode == 2
    assert "[delivery.position]" in stopped.stderr
    assert "made anew" in stopped.stderr

    assert segexport("outbox", "set-position", "0", **kafka_variables).returncode == 0
    with segexport.serving(**kafka_variables):
        assert len(kafka.read(kafka_settings.topic, at_least=3)) == 3


@pytest.mark.kafka
def test_a_transaction_timeout_that_the_broker_does_not_take_ends_the_service_by_name(
    segexport: Segexport, kafka_variables: dict[str, str]
) -> None:
    refused = segexport("serve", **kafka_variables, SEGEXPORT_KAFKA__TRANSACTION_TIMEOUT="PT1H")
    assert refused.returncode == 2
    assert "[delivery.setting]" in refused.stderr
    assert "kafka.transaction_timeout is 3600 s" in refused.stderr
    assert "900 s at most" in refused.stderr
