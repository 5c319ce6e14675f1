"""Datasets on S3, with nothing but settings: from `submit` to `delete` on the command line."""

import json
from collections.abc import Iterator

import pytest

from support.command_line import Segexport
from support.s3 import SECRET, Bucket


@pytest.fixture
def on_s3(segexport: Segexport, bucket: Bucket) -> Iterator[Segexport]:
    """The command line with datasets in a bucket, and a service that runs."""
    segexport = Segexport(segexport.folder, **segexport.environment, **bucket.variables)
    with segexport.serving():
        yield segexport


def test_the_whole_life_of_a_dataset_on_s3(on_s3: Segexport, bucket: Bucket) -> None:
    registered = on_s3("datasets", "register", "gold", "--schema", "_xdm.context.profile")
    assert registered.returncode == 0, registered.stderr
    done = on_s3(
        *("submit", "--dataset", "gold", "--segment", "loyalty-gold", "--wait", "--format", "json")
    )
    assert done.returncode == 0, done.stderr
    realized = json.loads(done.stdout)["counts"]["realized"]
    assert realized > 0
    (listed,) = json.loads(on_s3("datasets", "list", "--format", "json").stdout)
    assert (listed["dataset"], listed["batches"], listed["rows"]) == ("gold", 1, realized)
    shown = json.loads(on_s3("datasets", "show", "gold", "--format", "json").stdout)
    assert shown["schema"] == "_xdm.context.profile"
    (batch,) = shown["batchIds"]
    assert on_s3("datasets", "verify", "gold").returncode == 0

    part = next(key for key in bucket.keys if key.endswith(".parquet"))
    address = f"{bucket.root}/{part}"
    content = bucket.files.cat_file(address)
    bucket.files.pipe_file(address, bytes([content[0] ^ 1]) + content[1:])
    damaged = on_s3("datasets", "verify", "gold")
    assert damaged.returncode == 1
    assert f"{address} has changed" in damaged.stdout

    assert on_s3("datasets", "delete", "gold", batch, "--yes").returncode == 0
    assert bucket.keys == ["local/prod/gold/dataset.json"]
    assert on_s3("datasets", "delete", "gold", "--yes").returncode == 0
    assert not bucket.keys
    assert SECRET not in on_s3.log.read_text()


def test_settings_for_s3_are_shown_without_secrets(segexport: Segexport, bucket: Bucket) -> None:
    shown = segexport("settings", **bucket.variables, SEGEXPORT_S3__TOKEN="the-token").stdout
    assert f'datasets = "{bucket.root}"' in shown
    assert f's3.endpoint_url = "{bucket.server.endpoint}"' in shown
    assert SECRET not in shown
    assert "the-token" not in shown


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("SEGEXPORT_DATASETS", "gs://bucket/x", "datasets: "),
        ("SEGEXPORT_S3__ENDPOINT_URL", "http://user:word@host", "without a login"),
        ("SEGEXPORT_S3__OPTIONS", '{"secret": "word"}', "set `s3.key`, `s3.secret`"),
    ],
)
def test_wrong_settings_for_s3_are_named(
    segexport: Segexport, variable: str, value: str, said: str
) -> None:
    refused = segexport("datasets", "list", **{variable: value})
    assert refused.returncode == 2
    assert said in refused.stderr
    assert "word" not in refused.stderr.replace("password", "")


def test_a_store_that_is_not_there_is_explained(segexport: Segexport, bucket: Bucket) -> None:
    away = {**bucket.variables, "SEGEXPORT_S3__ENDPOINT_URL": "http://127.0.0.1:9"}
    refused = segexport("datasets", "list", **away)
    assert refused.returncode == 2
    assert "[dataset.unreachable]" in refused.stderr
    assert bucket.root in refused.stderr
