"""What a JSON Web Token says (RFC 7519), and whether that may be believed."""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import jwt
from jwt.algorithms import AllowedPublicKeys

from segexport.errors import TokenExpired, TokenRefused

ISSUER: Final = "segexport"
OWN_ALGORITHM: Final = "HS256"
"""What our own tokens are signed with."""
LATEST: Final = 253_402_300_799
"""The end of the year 9999, in seconds since 1970: a later time is one in other units, or none."""

# Times are compared here, with the time that is passed in.
_OPTIONS: Final = jwt.types.Options(
    verify_exp=False, verify_nbf=False, verify_iat=False, enforce_minimum_key_length=True
)


def own_claims(token: str, key: bytes) -> Mapping[str, Any]:
    """The claims of a token that we have signed with this key. Raises `TokenRefused`."""
    claims = verified(token, key, OWN_ALGORITHM, issuer=ISSUER)
    if claims is None:
        raise TokenRefused("the token's signature is not right")
    return claims


def unverified(token: str) -> tuple[Mapping[str, Any], object]:
    """The header and the issuer of a token, whoever has written them. Raises `TokenRefused`."""
    try:
        read = jwt.decode_complete(token, options={"verify_signature": False})
    except (jwt.PyJWTError, UnicodeError) as error:
        raise TokenRefused("this is no token: it is not a JSON Web Token") from error
    return read["header"], read["payload"].get("iss")


def verified(
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


def require_current(
    claims: Mapping[str, Any], now: datetime, leeway: timedelta = timedelta(0)
) -> None:
    """Raise `TokenExpired`, or `TokenRefused` if the times are none or the token not good yet.

    `leeway` is by how much the clock of whoever has issued it may differ from ours.
    """
    seconds, slack = now.timestamp(), leeway.total_seconds()
    for name in ("exp", "nbf", "iat"):
        if name in claims and not _is_time(claims[name]):
            raise TokenRefused(
                f"the token's {name} is no time: that is a number of seconds since 1970"
            )
    if claims["exp"] <= seconds - slack:
        raise TokenExpired("the token has expired; get another one")
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


def text_claim(claims: Mapping[str, Any], name: str) -> str:
    """A claim that has to be there, and a text. Raises `TokenRefused`."""
    value = claims.get(name)
    if not isinstance(value, str):
        raise TokenRefused(f"the token has no {name}, which is to name the API key of its bearer")
    return value
