"""Temporary credentials for clients of AWS: access key id, secret access key and session token.

They stand for an API key, end by themselves, and with the key. Nothing of them is kept: the session
token says which key they are of and until when, signed by us, and the secret is derived from it.
"""

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import jwt

from segexport.errors import TokenRefused
from segexport.http.claims import ISSUER, OWN_ALGORITHM, own_claims, require_current, text_claim
from segexport.http.keys import Key, KeyRing, MasterKey, new_access_key_id

SHORTEST: Final = timedelta(minutes=15)
LONGEST: Final = timedelta(hours=12)
"""How long they may be good, as with AWS: its clients renew what ends within fifteen minutes."""


@dataclass(frozen=True, slots=True)
class TemporaryCredentials:
    """What an AWS client signs with until `expires_at`."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires_at: datetime


def temporary_credentials(
    master: MasterKey, key: Key, *, now: datetime, lifetime: timedelta
) -> TemporaryCredentials:
    """New credentials for the holder of a key, good for `lifetime`, to the second."""
    access_key_id = new_access_key_id()
    expires = int((now + lifetime).timestamp())
    claims = {
        "iss": ISSUER,
        "client_id": key.client_id,
        "access_key_id": access_key_id,
        "exp": expires,
        "jti": secrets.token_hex(16),
    }
    token = jwt.encode(claims, master.session_key, algorithm=OWN_ALGORITHM)
    return TemporaryCredentials(
        access_key_id=access_key_id,
        secret_access_key=master.session_secret(token),
        session_token=token,
        expires_at=datetime.fromtimestamp(expires, UTC),
    )


def session_signer(token: str, access_key_id: str, ring: KeyRing, now: datetime) -> tuple[Key, str]:
    """The key that a session token stands for, and the secret access key that belongs to it.

    Raises `TokenRefused`, and `TokenExpired` for one that was good once.
    """
    claims = own_claims(token, ring.master.session_key)
    require_current(claims, now)
    if claims.get("access_key_id") != access_key_id:
        raise TokenRefused(f"the session token is not that of the access key {access_key_id}")
    key = ring.by_client(text_claim(claims, "client_id"))
    if key is None:
        raise TokenRefused("the API key of the session was revoked")
    return key, ring.master.session_secret(token)
