"""The Kafka that other tests stand on keeps what they take for granted."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Producer

from support.kafka import ClusterFactory, Kafka
from support.waiting import wait_until


def test_both_foreign_readers_receive_the_same_bytes(kafka: Kafka, topic: str) -> None:
    kafka.create_topic(topic, partitions=2)
    written = [(b"1", '{"name": "Zoë"}'.encode()), (b"2", b"{}"), (b"1", b"[3]")]
    kafka.produce(topic, written)
    read = kafka.read(topic, at_least=3)
    assert sorted((record.key, record.value) for record in read) == sorted(written)
    assert kafka.console_consume(topic, count=3) == read


def test_an_aborted_record_is_seen_by_uncommitted_readers_only(kafka: Kafka, topic: str) -> None:
    kafka.create_topic(topic)
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": f"{topic}-id"}
    )
    producer.init_transactions(30)
    for value, finish in [
        (b"kept", producer.commit_transaction),
        (b"dropped", producer.abort_transaction),
        (b"kept too", producer.commit_transaction),
    ]:
        producer.begin_transaction()
        producer.produce(topic, value, headers={"ce_id": b"7"})
        producer.flush(10)
        finish(30)
    committed = kafka.read(topic, at_least=2)
    assert [record.value for record in committed] == [b"kept", b"kept too"]
    assert committed[0].headers == (("ce_id", b"7"),)
    assert kafka.console_consume(topic, count=2) == committed
    everything = kafka.read(topic, at_least=3, read_committed=False)
    assert [record.value for record in everything] == [b"kept", b"dropped", b"kept too"]
    assert kafka.console_consume(topic, count=3, read_committed=False) == everything


def test_a_killed_broker_comes_back_with_its_records(kafka_cluster: ClusterFactory) -> None:
    kafka = kafka_cluster()
    kafka.create_topic("t")
    kafka.produce("t", [(b"k", b"1")])
    kafka.kill()
    assert kafka.brokers() == []
    kafka.start()
    kafka.produce("t", [(b"k", b"2")])
    kafka.stop()
    kafka.start()
    assert [record.value for record in kafka.read("t", at_least=2)] == [b"1", b"2"]


def test_three_nodes_go_on_without_one(kafka_cluster: ClusterFactory) -> None:
    kafka = kafka_cluster(nodes=3)
    kafka.create_topic("t", copies=3, config={"min.insync.replicas": "2"})
    kafka.produce("t", [(b"k", b"1")], acks="all")
    kafka.kill(1)
    kafka.produce("t", [(b"k", b"2")], acks="all")
    assert [record.value for record in kafka.read("t", at_least=2)] == [b"1", b"2"]
    kafka.start(1)
    assert kafka.brokers() == [1, 2, 3]


OWNER = """
import sys, time
from pathlib import Path
from support.kafka import Cluster, find_distribution

print(Cluster(find_distribution(), Path(sys.argv[1])).bootstrap_servers, flush=True)
time.sleep(600)
"""


@pytest.mark.crash
@pytest.mark.usefixtures("kafka_distribution")
def test_a_broker_does_not_outlive_tests_that_are_killed(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert owner.stdout is not None
    host, port = owner.stdout.readline().strip().split(":")
    with socket.create_connection((host, int(port))):
        pass
    owner.send_signal(signal.SIGKILL)
    owner.communicate()

    def gone() -> bool:
        try:
            socket.create_connection((host, int(port))).close()
        except OSError:
            return True
        return False

    wait_until(gone, 30, "the broker has ended with its owner")
