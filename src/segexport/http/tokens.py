"""Bearer tokens: those that segexport issues, and those of an identity provider.

Either way a token says no more than which API key its bearer holds. What that key may do is
looked up with each request, so a revoked key's tokens are worth nothing.
"""

import math
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import jwt
from jwt.algorithms import AllowedPublicKeys

from segexport.errors import SettingsError, TokenRefused
from segexport.http.jwks import KeySet
from segexport.http.keys import Key, KeyRing, MasterKey
from segexport.http.published import ALGORITHMS, PublishedKey
from segexport.settings.http import TokenSettings

ISSUER: Final = "segexport"
LEEWAY: Final = timedelta(seconds=30)
"""By how much an identity provider's clock may differ from ours."""
MAX_TOKEN: Final = 8_192
"""Characters in a token."""
LATEST: Final = 253_402_300_799
"""The end of the year 9999, in seconds since 1970: a later time is one in other units, or none."""

_ALGORITHM: Final = "HS256"
# Times are compared here, with the time that is passed in.
_OPTIONS: Final = jwt.types.Options(
    verify_exp=False, verify_nbf=False, verify_iat=False, enforce_minimum_key_length=True
)


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
        return jwt.encode(claims, self._signing_key, algorithm=_ALGORITHM), seconds

    async def client_of(self, token: str, now: datetime, kind: Kind = Kind.ACCESS) -> str:
        """The client id of the key whose holder this token was issued to.

        Raises `TokenRefused` with what is wrong, and `ProviderUnreachable` if an identity
        provider's token cannot be judged now.
        """
        if len(token) > MAX_TOKEN:
            raise TokenRefused(f"a token has no more than {MAX_TOKEN} characters")
        header, issuer = _unverified(token)
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
        claims = _verified(token, self._signing_key, _ALGORITHM, issuer=ISSUER)
        if claims is None:
            raise TokenRefused("the token's signature is not right")
        _require_current(claims, now, timedelta(0))
        if claims.get("kind") != kind:
            raise TokenRefused(f"this is no {kind} token")
        return _text(claims, "client_id")

    async def _theirs(
        self, token: str, header: Mapping[str, Any], now: datetime, provider: KeySet
    ) -> str:
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS:
            taken = ", ".join(ALGORITHMS)
            raise TokenRefused(f"the identity provider's tokens have to be signed with {taken}")

        def verified_with(key: PublishedKey) -> Mapping[str, Any] | None:
            return _verified(
                token,
                key.key,
                algorithm,
                issuer=self._settings.issuer,
                audience=self._settings.audience,
            )

        claims = await provider.verify(key_id, algorithm, verified_with)
        _require_current(claims, now, LEEWAY)
        return _text(claims, self._settings.client_claim)


def _unverified(token: str) -> tuple[Mapping[str, Any], object]:
    """The header and the issuer of a token, whoever has written them."""
    try:
        read = jwt.decode_complete(token, options={"verify_signature": False})
    except (jwt.PyJWTError, UnicodeError) as error:
        raise TokenRefused("this is no token: it is not a JSON Web Token") from error
    return read["header"], read["payload"].get("iss")


def _verified(
    token: str,
    key: bytes | AllowedPublicKeys,
    algorithm: str,
    *,
    issuer: str | None,
    audience: str | None = None,
) -> Mapping[str, Any] | None:
    """The claims of a token; None if another key has signed it. Raises `TokenRefused`."""
    required = ["exp", "iss"] if audience is None else ["exp", "iss", "aud"]
    try:
        return jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            options={**_OPTIONS, "require": required},
            issuer=issuer,
            audience=audience,
        )
    except (jwt.InvalidSignatureError, jwt.InvalidKeyError):
        return None
    except jwt.InvalidAudienceError as error:
        raise TokenRefused("the token is meant for somebody else (audience)") from error
    except jwt.MissingRequiredClaimError as error:
        raise TokenRefused(f"the token does not say its {error.claim}") from error
    except jwt.PyJWTError as error:
        raise TokenRefused("the token's header or claims are not right") from error


def _require_current(claims: Mapping[str, Any], now: datetime, leeway: timedelta) -> None:
    seconds, slack = now.timestamp(), leeway.total_seconds()
    for name in ("exp", "nbf", "iat"):
        if name in claims and not _is_time(claims[name]):
            raise TokenRefused(
                f"the token's {name} is no time: that is a number of seconds since 1970"
            )
    if claims["exp"] <= seconds - slack:
        raise TokenRefused("the token has expired; get another one")
    if claims.get("nbf", 0) > seconds + slack:
        raise TokenRefused("the token is not good yet (nbf)")


def _is_time(value: object) -> bool:
    """Whether it is a NumericDate (RFC 7519, section 2). JSON here may hold NaN and Infinity."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and (isinstance(value, int) or math.isfinite(value))
        and 0 <= value <= LATEST
    )


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str):
        raise TokenRefused(f"the token has no {name}, which is to name the API key of its bearer")
    return value
