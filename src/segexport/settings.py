"""Everything that can be set, with its default, from the environment and a TOML file.

Order of precedence: command-line options, environment (`SEGEXPORT_KAFKA__TOPIC=…`, two
underscores between section and name), the TOML file (`segexport.toml` in the working
directory, or the one that `SEGEXPORT_CONFIG` names), the defaults below.
"""

import difflib
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import (
    SettingsError as UnreadableSettings,
)

from segexport.errors import SettingsError

CONFIG_VARIABLE = "SEGEXPORT_CONFIG"
DEFAULT_CONFIG = Path("segexport.toml")
_TESTS = "SEGEXPORT_TEST_"
"""Variables that begin so are about this project's own tests."""

FolderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.@-]*$", max_length=128)]
TopicName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,240}$")]


def _seconds(value: object) -> object:
    """Environment variables are text: take `15` and `0.5` for seconds there as well."""
    if isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    return value


def _root(value: object) -> object:
    """Tell a URL from a folder, whose name may look like anything else."""
    if not isinstance(value, str) or "://" not in value:
        return value if value is None else Path(str(value))
    if not re.fullmatch(r"s3://[^/?#@]+(/[^?#]*)?", value):
        raise ValueError("name a folder, or s3://bucket/prefix")
    return value


DatasetsRoot = Annotated[Path | str, BeforeValidator(_root)]
"""A folder, or `s3://bucket/prefix`."""

_SIZE = r"^(\d+(?:\.\d+)?) ?([KMGT])(i?)B$"
Size = Annotated[str, Field(pattern=_SIZE)]
"""Bytes in DuckDB's notation: 2GB, 512MiB."""
Duration = Annotated[timedelta, BeforeValidator(_seconds), Field(gt=timedelta(0))]


def _bytes(size: str) -> int:
    found = re.fullmatch(_SIZE, size)
    assert found is not None  # noqa: S101  (checked when the setting was read)
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** (1 + "KMGT".index(unit)))


class Section(BaseModel):
    """A group of settings; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(Section):
    """Where events go. Without `bootstrap_servers`, an embedded broker for trying things."""

    bootstrap_servers: str | None = None
    topic: TopicName = "segment-export-job-events"
    partitions: int = Field(default=6, ge=1, le=10_000)
    replication_factor: int = Field(default=3, ge=1, le=100)
    compression: Literal["none", "gzip", "lz4"] = "lz4"
    transaction_timeout: Duration = timedelta(seconds=60)
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    ssl_key_password: SecretStr | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None

    @model_validator(mode="after")
    def _sasl_is_whole(self) -> "KafkaSettings":
        if self.security_protocol.startswith("SASL") and not (
            self.sasl_username and self.sasl_password
        ):
            raise ValueError("SASL needs sasl_username and sasl_password")
        return self

    @property
    def positions_topic(self) -> str:
        """The compacted topic that holds how far delivery is."""
        return f"{self.topic}.positions"

    @property
    def transactional_id(self) -> str:
        """One relay per topic: whoever starts with this id fences the one before."""
        return f"segexport-relay-{self.topic}"


class EventSettings(Section):
    """How events are spoken: eventType's dialect, the form of the keys."""

    dialect: Literal["xdm", "journey-optimizer"] = "xdm"
    form: Literal["uri", "compact"] = "uri"


class SparkSettings(Section):
    """The cluster of exports on Spark: its master's URL, and Spark's own properties by name."""

    master: str = "local[*]"
    properties: Mapping[str, str] = {}


class S3Settings(Section):
    """How S3 is reached, where `datasets` lies there.

    What is not set, s3fs takes from the usual places of AWS: environment, profile, the
    machine's role. `options` are further ones of s3fs; they are shown, so that secrets are
    refused there.
    """

    endpoint_url: str | None = None
    region: str | None = None
    key: str | None = None
    secret: SecretStr | None = None
    token: SecretStr | None = None
    options: Mapping[str, JsonValue] = {}

    @field_validator("endpoint_url")
    @classmethod
    def _is_plain(cls, url: str | None) -> str | None:
        if url is not None and not re.fullmatch(r"https?://[^@\s]+", url):
            raise ValueError("give a URL such as https://storage.example:9000, without a login")
        return url

    @field_validator("options")
    @classmethod
    def _are_no_secrets(cls, options: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
        elsewhere = sorted({"key", "secret", "token", "username", "password"} & options.keys())
        if elsewhere:
            raise ValueError(
                f"{', '.join(elsewhere)}: set `s3.key`, `s3.secret` and `s3.token` instead, which "
                "are not shown"
            )
        return options

    def as_options(self) -> dict[str, Any]:
        """The same in the words of s3fs; what is not set is missing."""
        plain = {
            "endpoint_url": self.endpoint_url,
            "key": self.key,
            "secret": self.secret and self.secret.get_secret_value(),
            "token": self.token and self.token.get_secret_value(),
        }
        options = {**self.options, **{name: value for name, value in plain.items() if value}}
        if self.region:
            client = options.get("client_kwargs")
            named = client if isinstance(client, dict) else {}
            options["client_kwargs"] = {**named, "region_name": self.region}
        return options


MEMORY_PER_PIECE = 512 * 10**6
"""Bytes of the engine's memory that a piece should have, so that it need not spill."""


class ExportSettings(Section):
    """How exports run.

    A worker runs `jobs_in_flight` jobs at once, of an organization no more than
    `jobs_per_organization` on all workers together. Of all these jobs `pieces_in_flight`
    pieces run at once, on an engine with `threads` threads and `memory_limit` (DuckDB's
    notation). A piece that fails is tried `piece_tries` times, at first after `piece_delay`,
    then after twice as long each time. A lease that is not renewed for `lease` passes to
    another worker. All datasets together take no more of the disk than
    `disk_budget`. When the service stops, running pieces have `grace` to end before they are
    interrupted and their jobs handed back.
    """

    engine: Literal["duckdb", "spark"] = "duckdb"
    spark: SparkSettings = SparkSettings()
    jobs_in_flight: int = Field(default=8, ge=1, le=64)
    jobs_per_organization: int = Field(default=5, ge=1, le=1000)
    pieces_in_flight: int | None = Field(default=None, ge=1, le=64)
    piece_tries: int = Field(default=5, ge=1, le=100)
    piece_delay: Duration = timedelta(seconds=1)
    threads: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, le=512)
    memory_limit: Size = "2GB"
    disk_budget: Size | None = None
    lease: Duration = timedelta(seconds=15)
    deadline: Duration = timedelta(hours=12)
    attempts: int = Field(default=5, ge=1, le=100)
    retry_delay: Duration = timedelta(seconds=10)
    grace: Annotated[timedelta, BeforeValidator(_seconds), Field(ge=timedelta(0))] = timedelta(
        seconds=10
    )

    @property
    def slots(self) -> int:
        """Pieces that run at once: what is set, or else as many as processors and memory carry."""
        carried = _bytes(self.memory_limit) // MEMORY_PER_PIECE
        return self.pieces_in_flight or max(1, min(self.threads, carried, 64))

    @property
    def disk_budget_bytes(self) -> int | None:
        """`disk_budget` as a number; None without one."""
        return None if self.disk_budget is None else _bytes(self.disk_budget)


class Settings(BaseSettings):
    """The settings in effect. `organization` and `sandbox` are what the command line acts for."""

    model_config = SettingsConfigDict(
        env_prefix="SEGEXPORT_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    data: Path = Path(".segexport")
    profiles: Path | None = None
    datasets: DatasetsRoot | None = None
    s3: S3Settings = S3Settings()
    organization: FolderName = "local"
    sandbox: FolderName = "prod"
    kafka: KafkaSettings = KafkaSettings()
    events: EventSettings = EventSettings()
    exports: ExportSettings = Field(default_factory=ExportSettings)
    log_format: Literal["auto", "console", "json"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def store_file(self) -> Path:
        """The SQLite file with jobs and events."""
        return self.data / "jobs.sqlite"

    @property
    def profiles_folder(self) -> Path:
        """The profile store."""
        return self.profiles or self.data / "profiles"

    @property
    def datasets_root(self) -> Path | str:
        """The root of all datasets: a folder, or `s3://bucket/prefix`."""
        return self.datasets or self.data / "datasets"

    @property
    def datasets_folder(self) -> Path:
        """Where exports write on this machine: the root of all datasets, or, where that is on
        S3, what is on its way there."""
        root = self.datasets_root
        return root if isinstance(root, Path) else self.data / "uploads"

    @property
    def journeys_folder(self) -> Path:
        """The live instances of journeys."""
        return self.data / "journeys"

    @property
    def discards_folder(self) -> Path:
        """Where the discard files of finished jobs are kept."""
        return self.data / "discards"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  (pydantic-settings' signature)
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  (as above)
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        named = os.environ.get(CONFIG_VARIABLE)
        file = TomlConfigSettingsSource(settings_cls, Path(named) if named else DEFAULT_CONFIG)
        return init_settings, env_settings, file


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; `overrides` win over environment and file.

    Raises `SettingsError` that names every setting that is wrong.
    """
    _refuse_unknown(os.environ)
    named = os.environ.get(CONFIG_VARIABLE)
    if named and not Path(named).is_file():
        raise SettingsError(f"{CONFIG_VARIABLE} names {named!r}, which is not a file")
    try:
        return Settings(**overrides)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, found['loc']))}: {_in_plain_words(found)}"
            for found in error.errors(include_url=False, include_input=False)
        )
        raise SettingsError(f"these settings are wrong: {wrong}") from error
    except (UnreadableSettings, ValueError) as error:
        raise SettingsError(f"the settings cannot be read: {error}") from error


def _refuse_unknown(variables: Mapping[str, str]) -> None:
    """Raise for a variable of ours that names no setting: it would do nothing, silently."""
    prefix = str(Settings.model_config["env_prefix"])
    known = [prefix + name.upper() for name in Settings.model_fields]
    for variable in sorted(variables):
        name = variable.upper()
        if not name.startswith(prefix) or name == CONFIG_VARIABLE or name.startswith(_TESTS):
            continue
        if name.split("__")[0] not in known:
            section = next((each for each in known if name.startswith(f"{each}_")), None)
            # Without the prefix, which makes all of them look alike.
            bare = [each.removeprefix(prefix) for each in known]
            like = difflib.get_close_matches(name.removeprefix(prefix), bare, n=1, cutoff=0.8)
            hint = "`segexport settings` shows those there are"
            if section is not None:
                hint = f"did you mean {section}__{name.removeprefix(section + '_')}?"
            elif like:
                hint = f"did you mean {prefix}{like[0]}?"
            raise SettingsError(f"{variable}: there is no such setting; {hint}")


def _in_plain_words(found: Mapping[str, Any]) -> str:
    match found["type"]:
        case "extra_forbidden":
            return "there is no such setting"
        case "string_pattern_mismatch" if found["loc"][-1] in {"memory_limit", "disk_budget"}:
            return "give a size such as 2GB or 512MiB"
        case "time_delta_parsing":
            return "give seconds, or an ISO 8601 duration such as PT15S"
        case _:
            return str(found["msg"])
