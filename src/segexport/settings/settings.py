"""Everything that can be set, with its default, from the environment and a TOML file.

Order of precedence: command-line options, environment (`SEGEXPORT_KAFKA__TOPIC=…`, two
underscores between section and name), the TOML file (`segexport.toml` in the working
directory, or the one that `SEGEXPORT_CONFIG` names), the defaults below.
"""

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import (
    SettingsError as UnreadableSettings,
)

from segexport.errors import SettingsError
from segexport.settings.client import ClientSettings
from segexport.settings.exports import ExportSettings, S3Settings
from segexport.settings.file import CONFIG_VARIABLE, read_file
from segexport.settings.http import HttpSettings, PinpointSettings
from segexport.settings.kafka import EventSettings, KafkaSettings
from segexport.settings.kinds import DatasetsRoot, Folder, FolderName
from segexport.validation import in_words, path_of

_TESTS = "SEGEXPORT_TEST_"
"""Variables that begin so are about this project's own tests."""


class Settings(BaseSettings):
    """The settings in effect. `organization` and `sandbox` are what the command line acts for."""

    model_config = SettingsConfigDict(
        env_prefix="SEGEXPORT_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    data: Folder = Path(".segexport")
    profiles: Folder | None = None
    datasets: DatasetsRoot | None = None
    s3: S3Settings = S3Settings()
    organization: FolderName = "local"
    sandbox: FolderName = "prod"
    kafka: KafkaSettings = KafkaSettings()
    events: EventSettings = EventSettings()
    exports: ExportSettings = Field(default_factory=ExportSettings)
    http: HttpSettings = HttpSettings()
    pinpoint: PinpointSettings = PinpointSettings()
    client: ClientSettings = ClientSettings()
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
    def keys_file(self) -> Path:
        """The API keys."""
        return self.http.keys or self.data / "keys.json"

    @property
    def master_key_file(self) -> Path:
        """What secrets are derived from, unless the settings say it."""
        return self.data / "master.key"

    @property
    def discards_folder(self) -> Path:
        """Where the discard files of finished jobs are kept."""
        return self.data / "discards"

    @property
    def private_places(self) -> Sequence[Path]:
        """Files and folders that are for the user of the service alone, if they are there."""
        store = self.store_file
        return (
            *(store.with_name(f"{store.name}{suffix}") for suffix in ("", "-wal", "-shm")),
            self.profiles_folder,
            self.journeys_folder,
            self.discards_folder,
            self.data / "uploads",
            self.data / "spill",
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  (pydantic-settings' signature)
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  (as above)
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = InitSettingsSource(settings_cls, init_kwargs=dict(read_file()))
        return init_settings, env_settings, file


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; `overrides` win over environment and file.

    Raises `SettingsError` that names every setting that is wrong.
    """
    _refuse_unknown(os.environ)
    try:
        return Settings(**overrides)
    except ValidationError as error:
        wrong = "; ".join(
            f"{path_of(found)}: {_in_plain_words(found)}"
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
    if found["type"] == "extra_forbidden":
        return "there is no such setting"
    return in_words(found)
