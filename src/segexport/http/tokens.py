"""Bearer tokens: those that segexport issues, and those of an identity provider.

Either way a token says no more than which API key its bearer holds. What that key may do is
looked up with each request, so a revoked key's tokens are worth nothing.
"""

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import jwt

from segexport.errors import SettingsError, TokenRefused
from segexport.http.claims import (
    ISSUER,
    OWN_ALGORITHM,
    own_claims,
    require_current,
    text_claim,
    unverified,
    verified,
)
from segexport.http.jwks import KeySet
from segexport.http.keys import Key, KeyRing, MasterKey
from segexport.http.published import ALGORITHMS, PublishedKey
from segexport.settings.http import TokenSettings

LEEWAY: Final = timedelta(seconds=30)
"""By how much an identity provider's clock may differ from ours."""
MAX_TOKEN: Final = 8_192
"""Characters in a token."""


class Kind(StrEnum):
    """What a token of ours is good for. One kind is not taken for the other."""

    ACCESS = "access"  # in the Authorization header
    SESSION = "session"  # in a browser's cookie


class Tokens:
    """Issues tokens, and says whose a token is."""

    def __init__(
        self,
        master: MasterKey,
        ring: KeyRing,
        settings: TokenSettings,
        key_set: KeySet | None = None,
    ) -> None:
        """Without a `key_set` that of the settings is used. Raises `SettingsError`."""
        if settings.issuer == ISSUER:
            raise SettingsError(f"http.tokens.issuer cannot be {ISSUER!r}: that is this service")
        self._signing_key = master.signing_key
        self._ring = ring
        self._settings = settings
        self._provider = key_set or (KeySet(settings.jwks) if settings.jwks else None)

    def issue(self, key: Key, now: datetime, kind: Kind = Kind.ACCESS) -> tuple[str, int]:
        """A token for the holder of a key, and the seconds for which it is good."""
        seconds = int(self._settings.lifetime.total_seconds())
        issued_at = int(now.timestamp())
        claims = {
            "iss": ISSUER,
            "sub": key.client_id,
            "client_id": key.client_id,
            "org": key.organization,
            "iat": issued_at,
            "exp": issued_at + seconds,
            "kind": kind.value,
            "jti": secrets.token_hex(16),
        }
        return jwt.encode(claims, self._signing_key, algorithm=OWN_ALGORITHM), seconds

    async def client_of(self, token: str, now: datetime, kind: Kind = Kind.ACCESS) -> str:
        """The client id of the key whose holder this token was issued to.

        Raises `TokenRefused` with what is wrong, and `ProviderUnreachable` if an identity
        provider's token cannot be judged now.
        """
        if len(token) > MAX_TOKEN:
            raise TokenRefused(f"a token has no more than {MAX_TOKEN} characters")
        header, issuer = unverified(token)
        # The issuer that is not verified yet only says which keys to verify with; whoever
        # writes another one into a token has it verified with keys that did not sign it.
        if issuer == ISSUER:
            client_id = self._ours(token, now, kind)
        elif self._provider and issuer == self._settings.issuer and kind is Kind.ACCESS:
            client_id = await self._theirs(token, header, now, self._provider)
        else:
            raise TokenRefused("the token is of an issuer whose tokens are not taken here")
        if self._ring.by_client(client_id) is None:
            raise TokenRefused("there is no API key of the token's client id, or it was revoked")
        return client_id

    def _ours(self, token: str, now: datetime, kind: Kind) -> str:
        claims = own_claims(token, self._signing_key)
        require_current(claims, now)
        if claims.get("kind") != kind:
            raise TokenRefused(f"this is no {kind} token")
        return text_claim(claims, "client_id")

    async def _theirs(
        self, token: str, header: Mapping[str, Any], now: datetime, provider: KeySet
    ) -> str:
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS:
            taken = ", ".join(ALGORITHMS)
            raise TokenRefused(f"the identity provider's tokens have to be signed with {taken}")

        def verified_with(key: PublishedKey) -> Mapping[str, Any] | None:
            return verified(
                token,
                key.key,
                algorithm,
                issuer=self._settings.issuer,
                audience=self._settings.audience,
            )

        claims = await provider.verify(key_id, algorithm, verified_with)
        require_current(claims, now, LEEWAY)
        return text_claim(claims, self._settings.client_claim)
