"""An API key and its secret, and the bearer token that they are good for."""

import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, Self

import httpx
from pydantic import BaseModel, Field, SecretStr, ValidationError

from segexport.client.refusals import Refusals
from segexport.errors import AccessFault, AccessRefused, NotSegexport
from segexport.http.auth import API_KEY
from segexport.http.sign_in import TOKEN
from segexport.settings import ClientSettings

MARGIN: Final = 60
"""Seconds before its end from which a token is not used any more."""


class _Granted(BaseModel):
    access_token: str = Field(pattern=r"^[!-~]+$", repr=False)
    expires_in: float = Field(gt=0)


class Login:
    """Knows who asks; keeps a token, in memory only."""

    path: Final = TOKEN

    def __init__(self, api_key: str, secret: SecretStr) -> None:
        self._api_key = api_key
        self._secret = secret
        self._token = SecretStr("")
        self._until = 0.0

    @classmethod
    def of(cls, settings: ClientSettings) -> Self | None:
        """The login of the settings; None if there is none."""
        if settings.api_key is None or settings.client_secret is None:
            return None
        return cls(settings.api_key, settings.client_secret)

    @property
    def needs_token(self) -> bool:
        """Whether a token has to be asked for first."""
        return time.monotonic() >= self._until

    @property
    def form(self) -> Mapping[str, str]:
        """What a token is asked for with."""
        return {
            "grant_type": "client_credentials",
            "client_id": self._api_key,
            "client_secret": self._secret.get_secret_value(),
        }

    @property
    def headers(self) -> Mapping[str, str]:
        """What a request is signed with."""
        return {
            API_KEY: self._api_key,
            "Authorization": f"Bearer {self._token.get_secret_value()}",
        }

    def forget(self) -> None:
        """Do without the token that there is."""
        self._until = 0.0

    def take(self, answer: httpx.Response, refusals: Refusals) -> None:
        """Take the token of an answer. Raises `AccessRefused`, or what else it means."""
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            raise AccessRefused(
                AccessFault.KEY_INVALID,
                f"{refusals.url} does not take this login; check client.api_key and "
                "client.client_secret (SEGEXPORT_CLIENT__API_KEY, "
                "SEGEXPORT_CLIENT__CLIENT_SECRET), or whether the key is revoked",
            )
        if not answer.is_success:
            raise refusals.error_of(answer)
        try:
            granted = _Granted.model_validate_json(answer.content)
        except ValidationError:
            # Without its cause, which would quote the token.
            raise NotSegexport(f"{refusals.url}{TOKEN} gives no token") from None
        self._token = SecretStr(granted.access_token)
        self._until = time.monotonic() + max(1, granted.expires_in - MARGIN)
