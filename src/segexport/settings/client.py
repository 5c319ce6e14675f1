"""The service elsewhere that the command line asks, and how it is known there."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from segexport.settings.kinds import Duration, Section, is_safe_url, matching


class ClientSettings(Section):
    """Commands about jobs go to the service at `url`; without it, to the store in `data`.

    `api_key` is the client id of a key, and `client_secret` what it was made with; a service
    without keys needs neither. `cafile` holds the certificates that are trusted instead of the
    usual ones. An answer has `timeout`; what may pass is tried again for `patience`.
    """

    url: str | None = None
    api_key: Annotated[str, *matching(r"^[!-~]{1,128}$", "must be 1 to 128 of !-~")] | None = None
    client_secret: SecretStr | None = Field(default=None, min_length=1)
    cafile: Path | None = None
    timeout: Duration = timedelta(seconds=30)
    patience: Duration = timedelta(seconds=30)

    @field_validator("url")
    @classmethod
    def _is_safe(cls, url: str | None) -> str | None:
        if not url:
            return None
        if not is_safe_url(url):
            raise ValueError("give an https URL such as https://exports.example (http on loopback)")
        parts = urlsplit(url)
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("leave out login, query and fragment; client.api_key is the login")
        if not re.fullmatch(r"[!-~]+", url):
            raise ValueError("write other characters than those of ASCII in percent encoding")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _login_is_whole(self) -> "ClientSettings":
        if (self.api_key is None) != (self.client_secret is None):
            raise ValueError("a login needs both, api_key and client_secret")
        return self
