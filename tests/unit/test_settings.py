"""Where settings come from, and how wrong ones are answered."""

from datetime import timedelta
from pathlib import Path

import pytest

from segexport.errors import SettingsError
from segexport.settings import load_settings

REGIONS_IN_JSON = '["eu-west-1", "us-west-2"]'


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("SEGEXPORT_CONFIG", "SEGEXPORT_DATA", "SEGEXPORT_KAFKA__TOPIC"):
        monkeypatch.delenv(name, raising=False)


def test_without_any_setting_everything_lies_in_one_folder() -> None:
    settings = load_settings()
    assert settings.kafka.bootstrap_servers is None
    assert settings.store_file == Path(".segexport/jobs.sqlite")
    assert settings.profiles_folder == Path(".segexport/profiles")


def test_the_environment_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "segexport.toml").write_text(
        'data = "from-file"\n[kafka]\ntopic = "file"\npartitions = 3\n'
    )
    monkeypatch.setenv("SEGEXPORT_KAFKA__TOPIC", "environment")
    settings = load_settings()
    assert settings.data == Path("from-file")
    assert (settings.kafka.topic, settings.kafka.partitions) == ("environment", 3)


def test_another_file_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.toml").write_text("[exports]\nlease = 30\n")
    monkeypatch.setenv("SEGEXPORT_CONFIG", "other.toml")
    assert load_settings().exports.lease == timedelta(seconds=30)


@pytest.mark.parametrize("name", ["REGION", "REGIONS"])
@pytest.mark.parametrize("text", ["eu-west-1,us-west-2", "eu-west-1, us-west-2", REGIONS_IN_JSON])
def test_regions_in_the_environment_stand_between_commas_or_in_a_list(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.setenv(f"SEGEXPORT_PINPOINT__{name}", text)
    assert load_settings().pinpoint.regions == ("eu-west-1", "us-west-2")


@pytest.mark.parametrize(
    ("section", "regions"),
    [
        ('region = "eu-west-1"', ("eu-west-1",)),
        ('region = ["eu-west-1"]', ("eu-west-1",)),
        ('regions = ["eu-west-1", "us-west-2"]', ("eu-west-1", "us-west-2")),
        ("", ("us-east-1",)),
    ],
)
def test_the_region_of_earlier_versions_is_the_list_of_regions(
    tmp_path: Path, section: str, regions: tuple[str, ...]
) -> None:
    (tmp_path / "segexport.toml").write_text(f"[pinpoint]\n{section}\n")
    assert load_settings().pinpoint.regions == regions


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ('region = "a"\nregions = ["b"]', "give regions alone"),
        ("regions = []", "one or more regions"),
        ('regions = ["eu west"]', "one or more regions"),
        ("regions = 7", "one or more regions"),
        ('regions = ""', "one or more regions"),
    ],
)
def test_what_are_no_regions_is_refused(tmp_path: Path, section: str, said: str) -> None:
    (tmp_path / "segexport.toml").write_text(f"[pinpoint]\n{section}\n")
    with pytest.raises(SettingsError, match=said):
        load_settings()


@pytest.mark.parametrize(
    "host", ["", " ", "127.0.0.1:8080", "localhost:80", "[::1]:80", "http://localhost", "a@b", "["]
)
def test_what_is_no_host_to_listen_on_is_refused(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("SEGEXPORT_HTTP__HOST", host)
    with pytest.raises(SettingsError, match=r"http\.host: give a name or an address alone"):
        load_settings()


@pytest.mark.parametrize("text", ["0.5", "PT0.5S"])
def test_a_duration_in_the_environment_is_seconds_or_iso_8601(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("SEGEXPORT_EXPORTS__LEASE", text)
    monkeypatch.setenv("SEGEXPORT_EXPORTS__GRACE", text)
    exports = load_settings().exports
    assert (exports.lease, exports.grace) == (timedelta(seconds=0.5),) * 2


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("SEGEXPORT_KAFKA_TOPIC", "SEGEXPORT_KAFKA__TOPIC"),
        ("SEGEXPORT_DATASET", "SEGEXPORT_DATASETS"),
        ("SEGEXPORT_FOO", "segexport settings"),
    ],
)
def test_a_variable_that_names_no_setting_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, hint: str
) -> None:
    monkeypatch.setenv(variable, "x")
    with pytest.raises(SettingsError, match=f"{variable}: there is no such setting.*{hint}"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[kafka]\npartitions = 0\n", "kafka.partitions"),
        ("[kafka]\ntransaction_timeout = 0.5\n", "kafka.transaction_timeout"),
        ("[kafka]\ntransaction_timeout = 2147484\n", "kafka.transaction_timeout"),
        ("[kafka]\ntopics = 'x'\n", "kafka.topics: there is no such setting"),
        ("[kafka]\ntopic = 'a b'\n", "kafka.topic"),
        ("[kafka]\nsecurity_protocol = 'SASL_SSL'\n", "sasl_username and sasl_password"),
        ("organization = '../up'\n", "organization"),
        ("[exports]\nmemory_limit = 'lots'\n", "exports.memory_limit: give a size"),
        ("[exports]\nlease = -1\n", "exports.lease"),
        ("[exports]\nlease = 'soon'\n", "exports.lease: give seconds"),
        ("log_level = 'loud'\n", "log_level"),
        ("data = 's3://bucket/data'\n", "data: name a folder of this machine"),
        ("profiles = 'file:///profiles'\n", "profiles: name a folder of this machine"),
        ("data = \n", "cannot be read"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "segexport.toml").write_text(text)
    with pytest.raises(SettingsError, match=named):
        load_settings()


def test_a_file_that_is_named_but_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGEXPORT_CONFIG", "nowhere.toml")
    with pytest.raises(SettingsError, match=r"nowhere\.toml"):
        load_settings()


def test_secrets_do_not_show_in_errors_or_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGEXPORT_KAFKA__SASL_PASSWORD", "hunter2")
    assert "hunter2" not in repr(load_settings())
    assert "hunter2" not in load_settings().model_dump_json()
    monkeypatch.setenv("SEGEXPORT_KAFKA__PARTITIONS", "0")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)


def test_what_is_wrong_is_said_in_our_words_alone() -> None:
    with pytest.raises(SettingsError, match=r"client\.url: give an https URL"):
        load_settings(client={"url": "ftp://x"})
