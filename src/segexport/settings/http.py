"""How the HTTP interfaces listen, whom they believe, and how much they take."""

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from segexport.settings.kinds import (
    Duration,
    FolderName,
    Section,
    Size,
    bytes_of,
    is_loopback,
    is_safe_url,
    without_brackets,
)

S3: Final = "s3"
"""The destination of an application that is the S3 of the `s3` settings."""


def _prefix(value: str) -> str:
    if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,62}(/[^?#]*)?", value):
        raise ValueError("give a prefix such as s3://bucket/folder")
    return value.rstrip("/") + "/"


S3Prefix = Annotated[str, BeforeValidator(_prefix)]
"""`s3://bucket/` or `s3://bucket/folder/`, with the slash at its end."""


class TokenSettings(Section):
    """Which bearer tokens are believed, besides those that segexport issues itself.

    `jwks` is the address of an identity provider's key set: an https URL (http on loopback),
    or a file. Its tokens must be issued by `issuer` for `audience`, and name the API key of
    the caller in the claim `client_claim`. `lifetime` is that of our own tokens.
    """

    jwks: str | None = None
    issuer: str | None = None
    audience: str | None = None
    client_claim: str = "client_id"
    lifetime: Duration = timedelta(hours=24)

    @field_validator("jwks")
    @classmethod
    def _is_safe(cls, address: str | None) -> str | None:
        if address and "://" in address and not is_safe_url(address):
            raise ValueError("give an https URL (http on loopback only), or a file")
        return address

    @model_validator(mode="after")
    def _provider_is_whole(self) -> "TokenSettings":
        if self.jwks and not (self.issuer and self.audience):
            raise ValueError("jwks needs issuer and audience: whose tokens, and meant for whom")
        return self


class HttpSettings(Section):
    """Where the HTTP interfaces listen, and their limits.

    `keys` is the file of API keys, `master_key` what secrets are derived from; without them
    they lie in `data`. Port 0 takes a free one. `rate` requests a second, and `burst` at
    once, are what an organization may make. A request's head has `head_timeout` to arrive,
    its body `body_timeout`. An event stream that falls `stream_backlog` events behind, or
    does not take one for `stream_patience`, is cut off. At the end, open requests and streams
    have `grace`.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535)
    certificate: Path | None = None
    private_key: Path | None = None
    keys: Path | None = None
    master_key: SecretStr | None = Field(default=None, min_length=32)
    tokens: TokenSettings = TokenSettings()
    rate: float = Field(default=100, gt=0)
    burst: int = Field(default=200, ge=1)
    max_body: Size = "1MB"
    max_connections: int = Field(default=2_000, ge=1)
    head_timeout: Duration = timedelta(seconds=10)
    body_timeout: Duration = timedelta(seconds=30)
    stream_backlog: int = Field(default=10_000, ge=1)
    stream_patience: Duration = timedelta(seconds=10)
    grace: Duration = timedelta(seconds=5)

    @field_validator("host")
    @classmethod
    def _is_a_host(cls, host: str) -> str:
        bare = without_brackets(host.strip())
        if not bare or re.search(r"[\s/\[\]@]", bare) or re.fullmatch(r"[^:]*:\d+", bare):
            raise ValueError(
                "give a name or an address alone, such as 127.0.0.1, ::1 or 0.0.0.0; the port is "
                "http.port"
            )
        return bare

    @model_validator(mode="after")
    def _tls_is_whole(self) -> "HttpSettings":
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("TLS needs both, certificate and private_key")
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return is_loopback(self.host)

    @property
    def max_body_bytes(self) -> int:
        """`max_body` as a number."""
        return bytes_of(self.max_body)


class ApplicationSettings(Section):
    """Whose jobs a Pinpoint application's are, and where they may export to.

    `destinations` maps prefixes of S3 URLs to where they really lie: `s3`, the S3 of the
    `s3` settings under the same name, or a folder. The longest that fits counts.
    """

    organization: FolderName
    sandbox: FolderName = "prod"
    destinations: Mapping[S3Prefix, str] = {}

    @field_validator("destinations")
    @classmethod
    def _are_here(cls, destinations: Mapping[S3Prefix, str]) -> Mapping[S3Prefix, str]:
        if any(not place or "://" in place for place in destinations.values()):
            raise ValueError(f"a destination is {S3!r}, or a folder")
        return destinations


def _regions(value: object) -> object:
    """Environment variables are text: take `us-east-1,eu-west-1` for two regions."""
    if isinstance(value, str):
        value = [part.strip(" \"'") for part in value.strip(" []").split(",")]
    if not isinstance(value, list | tuple) or not all(map(_is_region, value)) or not value:
        raise ValueError("give one or more regions such as us-east-1")
    return tuple(value)


def _is_region(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[a-z0-9-]{1,64}", value) is not None


Regions = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_regions)]
"""A list, or text with commas between the names."""


class PinpointSettings(Section):
    """The applications that Pinpoint clients name, by their ids.

    `regions` are those that requests may be signed for. `region`, of earlier versions, is another
    name for it.
    """

    applications: Mapping[FolderName, ApplicationSettings] = {}
    regions: Regions = ("us-east-1",)

    @model_validator(mode="before")
    @classmethod
    def _region_is_regions(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or "region" not in given:
            return given
        if "regions" in given:
            raise ValueError("region and regions are the same setting; give regions alone")
        return {"regions" if name == "region" else name: given[name] for name in given}
