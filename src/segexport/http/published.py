"""The keys of a JSON Web Key Set (RFC 7517) that verify signatures.

The set is written by others: what is odd about one of its keys costs that key and no other.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.algorithms import AllowedPublicKeys

log: Final = structlog.stdlib.get_logger(__name__)

MAX_KEYS: Final = 500
"""Keys of a set that are used: the first that verify signatures."""
MAX_MEMBER: Final = 8_192
"""Characters in a member that is part of a key: an RSA modulus of 16 384 bits, which is as much
as OpenSSL verifies with, has a third of that."""

_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final[Mapping[tuple[str, str], Sequence[str]]] = {
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
_MEMBERS: Final = ("n", "e", "x", "y")
_MAX_RSA_BITS: Final = 16_384
_MAX_EXPONENT_BITS: Final = 64
ALGORITHMS: Final = (*_RSA, "ES256", "ES384", "ES512", "EdDSA")
"""Those that sign with a key of which only the other half is published."""


@dataclass(frozen=True, slots=True)
class PublishedKey:
    """A key, and the algorithms that it may verify. Several keys may have one id, or none."""

    key_id: str | None
    algorithms: Sequence[str]
    key: AllowedPublicKeys


def usable_keys(content: bytes) -> Sequence[PublishedKey]:
    """The keys of a set that verify signatures, in its order, at most `MAX_KEYS`.

    `content` is JSON in UTF-8, UTF-16 or UTF-32, with or without a byte order mark. Raises
    ValueError if it is no key set.
    """
    try:
        document = json.loads(content)
    except RecursionError:
        raise ValueError("the set is nested too deeply") from None
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError('that is no key set: it has no list "keys"')  # noqa: TRY004
    usable: list[PublishedKey] = []
    for key in _usable(listed):
        if len(usable) == MAX_KEYS:
            log.warning(
                "the identity provider publishes more keys than are used",
                published=len(listed),
                used=MAX_KEYS,
            )
            break
        usable.append(key)
    return usable


def _usable(listed: Sequence[object]) -> Iterator[PublishedKey]:
    for number, described in enumerate(listed):
        if not isinstance(described, dict) or not _is_for_signatures(described):
            continue
        algorithms = _algorithms(described)
        if not algorithms:
            continue
        key_id = described.get("kid")
        try:
            yield PublishedKey(key_id, algorithms, _key(described, algorithms[0]))
        except Exception as error:  # noqa: BLE001  (PyJWT trips over members in many ways)
            log.warning(
                "a key of the identity provider is no good",
                number=number,
                kid=str(key_id)[:128],
                error=type(error).__name__,
            )


def _key(described: Mapping[str, Any], algorithm: str) -> AllowedPublicKeys:
    # Before anything is computed from them.
    if any(len(str(described.get(name, ""))) > MAX_MEMBER for name in _MEMBERS):
        raise ValueError("too long")
    key: AllowedPublicKeys = PyJWK(dict(described), algorithm).key
    if isinstance(key, RSAPublicKey) and (
        key.key_size > _MAX_RSA_BITS or key.public_numbers().e.bit_length() > _MAX_EXPONENT_BITS
    ):
        raise ValueError("too large to verify with")
    return key


def _is_for_signatures(key: Mapping[str, Any]) -> bool:
    operations = key.get("key_ops")
    return (
        "d" not in key  # a private key that was published is nobody's any more
        and isinstance(key.get("kid"), str | None)
        and key.get("use") in (None, "sig")
        and (operations is None or (isinstance(operations, list) and "verify" in operations))
    )


def _algorithms(key: Mapping[str, Any]) -> Sequence[str]:
    """What a key may verify: by its type, and the one algorithm that it may be bound to."""
    kind, curve = key.get("kty"), key.get("crv")
    fitting: Sequence[str] = ()
    if kind == "RSA":
        fitting = _RSA
    elif isinstance(kind, str) and isinstance(curve, str):
        fitting = _CURVES.get((kind, curve), ())
    bound = key.get("alg")
    return [name for name in fitting if bound is None or bound == name]
