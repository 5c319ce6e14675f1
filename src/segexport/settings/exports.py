"""How exports run, and how the S3 that they write to is reached."""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue, SecretStr, field_validator

from segexport.modes import Modes
from segexport.settings.kinds import Duration, Section, Size, bytes_of, seconds


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


def _mode(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"0?6[0246][0246]", value):
        raise ValueError(
            'give a mode as text, such as "0640": 6 for the user of the service, then 0, 2, 4 or 6 '
            "for its group and for all others"
        )
    return value


FileMode = Annotated[str, BeforeValidator(_mode)]
"""The mode of files, in octal digits: 0640."""


class ExportSettings(Section):
    """How exports run.

    A worker runs `jobs_in_flight` jobs at once, of an organization no more than
    `jobs_per_organization` on all workers together. Of all these jobs `pieces_in_flight`
    pieces run at once, on an engine with `threads` threads and `memory_limit` (DuckDB's
    notation). A piece that fails is tried `piece_tries` times, at first after `piece_delay`,
    then after twice as long each time. A lease that is not renewed for `lease` passes to
    another worker. All datasets together take no more of the disk than `disk_budget`; in a
    folder their files have the mode `file_mode`, and the folders as well, where whoever may read
    may also pass. When the service stops, running pieces have `grace` to end before they are
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
    file_mode: FileMode | None = None
    lease: Duration = timedelta(seconds=15)
    deadline: Duration = timedelta(hours=12)
    attempts: int = Field(default=5, ge=1, le=100)
    retry_delay: Duration = timedelta(seconds=10)
    grace: Annotated[timedelta, BeforeValidator(seconds), Field(ge=timedelta(0))] = timedelta(
        seconds=10
    )

    @property
    def modes(self) -> Modes:
        """`file_mode`, and what folders get of it."""
        return Modes(None if self.file_mode is None else int(self.file_mode, 8))

    @property
    def slots(self) -> int:
        """Pieces that run at once: what is set, or else as many as processors and memory carry."""
        carried = bytes_of(self.memory_limit) // MEMORY_PER_PIECE
        return self.pieces_in_flight or max(1, min(self.threads, carried, 64))

    @property
    def disk_budget_bytes(self) -> int | None:
        """`disk_budget` as a number; None without one."""
        return None if self.disk_budget is None else bytes_of(self.disk_budget)
