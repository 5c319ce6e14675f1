"""Bearer tokens: ours, an identity provider's, and nobody else's."""

import asyncio
import base64
import hmac
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from structlog.testing import capture_logs

from segexport.errors import ProviderUnreachable, SettingsError, TokenRefused
from segexport.http import jwks
from segexport.http import published as published_keys
from segexport.http.jwks import KeySet
from segexport.http.keys import IssuedKey, KeyFile, KeyRing, MasterKey
from segexport.http.tokens import Kind, Tokens
from segexport.settings.http import TokenSettings
from support.waiting import until
from unit.http.conftest import NOW, Clock

ISSUER: Final = "https://login.example"
AUDIENCE: Final = "exports"
PROVIDER: Final = TokenSettings(jwks="set", issuer=ISSUER, audience=AUDIENCE)
RSA: Final = rsa.generate_private_key(65_537, 2_048)
OTHER_RSA: Final = rsa.generate_private_key(65_537, 2_048)
CURVES: Final = {
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
}
EDWARDS: Final = ed25519.Ed25519PrivateKey.generate()
HOURS: Final = timedelta(hours=24)
INFINITY: Final = float("inf")
NO_TIMES: Final[Sequence[object]] = (
    *(float("nan"), INFINITY, -INFINITY, 10**400, -1),
    *("0", True, [], {}),
)

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def public(key: PrivateKey, kid: str | None, **more: object) -> dict[str, Any]:
    """The half of a key that a provider publishes."""
    half = key.public_key()
    match half:
        case rsa.RSAPublicKey():
            document = jwt.algorithms.RSAAlgorithm.to_jwk(half, as_dict=True)
        case ec.EllipticCurvePublicKey():
            document = jwt.algorithms.ECAlgorithm.to_jwk(half, as_dict=True)
        case ed25519.Ed25519PublicKey():
            document = jwt.algorithms.OKPAlgorithm.to_jwk(half, as_dict=True)
    # PyJWT says so of the half that only verifies.
    return {**document, **({} if kid is None else {"kid": kid}), **more}


def key_set(*keys: Mapping[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A file with the provider's key set, in which is the key `1`."""
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(public(RSA, "1")))
    return path


@pytest.fixture
def own(master: MasterKey, ring: KeyRing) -> Tokens:
    return Tokens(master, ring, TokenSettings())


@pytest.fixture
def tokens(master: MasterKey, ring: KeyRing, published: Path, clock: Clock) -> Tokens:
    """With an identity provider whose keys are in `published`."""
    return Tokens(master, ring, PROVIDER, KeySet(str(published), clock))


def claims(issued: IssuedKey, **other: object) -> dict[str, Any]:
    """Those of a good token of the identity provider; None leaves one out."""
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "exp": NOW.timestamp() + 60,
        "client_id": issued.key.client_id,
    }
    return {name: value for name, value in {**good, **other}.items() if value is not None}


def provided(
    issued: IssuedKey,
    key: Any = RSA,
    algorithm: str = "RS256",
    kid: str | None = "1",
    **other: object,
) -> str:
    """A token of the identity provider."""
    headers = None if kid is None else {"kid": kid}
    return jwt.encode(claims(issued, **other), key, algorithm=algorithm, headers=headers)


def forged(header: Mapping[str, Any], payload: Mapping[str, Any], signature: bytes = b"") -> str:
    parts = (json.dumps(header).encode(), json.dumps(payload).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


async def test_a_token_of_ours_is_good_until_it_expires(own: Tokens, issued: IssuedKey) -> None:
    token, seconds = own.issue(issued.key, NOW)
    assert seconds == HOURS.total_seconds()
    assert await own.client_of(token, NOW) == issued.key.client_id
    last = NOW + HOURS - timedelta(seconds=1)
    assert await own.client_of(token, last) == issued.key.client_id
    with pytest.raises(TokenRefused, match="has expired"):
        await own.client_of(token, NOW + HOURS)


def test_a_token_of_ours_says_whose_it_is_and_never_twice_the_same(
    own: Tokens, issued: IssuedKey
) -> None:
    first, second = (
        jwt.decode(own.issue(issued.key, NOW)[0], options={"verify_signature": False})
        for _ in range(2)
    )
    assert first.pop("jti") != second.pop("jti")
    assert first == {
        "iss": "segexport",
        "sub": issued.key.client_id,
        "client_id": issued.key.client_id,
        "org": "acme",
        "iat": NOW.timestamp(),
        "exp": (NOW + HOURS).timestamp(),
        "kind": "access",
    }


async def test_a_session_is_no_access_token_and_the_other_way_round(
    own: Tokens, issued: IssuedKey
) -> None:
    session, _ = own.issue(issued.key, NOW, Kind.SESSION)
    access, _ = own.issue(issued.key, NOW)
    assert await own.client_of(session, NOW, Kind.SESSION) == issued.key.client_id
    with pytest.raises(TokenRefused, match="no access token"):
        await own.client_of(session, NOW)
    with pytest.raises(TokenRefused, match="no session token"):
        await own.client_of(access, NOW, Kind.SESSION)


async def test_an_identity_providers_token_opens_no_session(
    tokens: Tokens, issued: IssuedKey
) -> None:
    with pytest.raises(TokenRefused):
        await tokens.client_of(provided(issued), NOW, Kind.SESSION)


async def test_a_revoked_keys_tokens_are_worth_nothing(
    master: MasterKey, tmp_path: Path, clock: Clock
) -> None:
    file = KeyFile(tmp_path / "keys.json")
    key = file.create(master, "ci", organization="acme", now=NOW).key
    tokens = Tokens(master, KeyRing(file, master, clock), TokenSettings())
    token, _ = tokens.issue(key, NOW)
    file.revoke(key.client_id)
    clock.seconds = 1
    with pytest.raises(TokenRefused, match="was revoked"):
        await tokens.client_of(token, NOW)


async def test_another_master_keys_tokens_are_refused(
    own: Tokens, ring: KeyRing, issued: IssuedKey
) -> None:
    others = Tokens(MasterKey("another master key of 32 letters"), ring, TokenSettings())
    with pytest.raises(TokenRefused, match="signature is not right"):
        await own.client_of(others.issue(issued.key, NOW)[0], NOW)


@pytest.mark.parametrize(
    "text", ["", "x", "a.b", "a.b.c", "é.é.é", "\ud800.a.b", "e30.e30.", "....", "x" * 9_000]
)
async def test_what_is_no_token_is_refused(text: str, own: Tokens) -> None:
    with pytest.raises(TokenRefused):
        await own.client_of(text, NOW)


@pytest.mark.parametrize(
    "other",
    [
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": True},
        {"exp": float("nan")},
        {"exp": 10**400 * -1},
        {"exp": 10**400},
        {"exp": float("inf")},
        {"exp": -float("inf")},
        {"exp": -1},
        {"exp": NOW.timestamp() * 1000},
        {"exp": str(NOW.timestamp() + 60)},
        {"exp": [NOW.timestamp() + 60]},
        *({name: value} for name in ("nbf", "iat") for value in NO_TIMES),
        {"kind": None},
        {"client_id": None},
        {"client_id": 7},
        {"client_id": "somebody"},
        {"iss": "somebody"},
        {"iss": None},
        {"iss": ["segexport"]},
        {"nbf": NOW.timestamp() + 60},
        {"aud": "somebody"},
    ],
)
async def test_claims_of_ours_that_are_not_right_are_refused(
    other: Mapping[str, object], own: Tokens, master: MasterKey, issued: IssuedKey
) -> None:
    good = claims(issued, iss="segexport", aud=None, kind="access")
    signed = jwt.encode(good, master.signing_key)
    assert await own.client_of(signed, NOW) == issued.key.client_id
    changed = {name: value for name, value in {**good, **other}.items() if value is not None}
    payload = json.dumps(changed).encode()
    token = jwt.api_jws.encode(payload, master.signing_key, algorithm="HS256")
    with pytest.raises(TokenRefused):
        await own.client_of(token, NOW)


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, 7])
@pytest.mark.parametrize("issuer", ["segexport", ISSUER])
async def test_a_token_without_signature_is_refused(
    algorithm: object, issuer: str, tokens: Tokens, issued: IssuedKey
) -> None:
    header = {"alg": algorithm, "typ": "JWT", "kid": "1"}
    token = forged(header, claims(issued, iss=issuer, kind="access"))
    with pytest.raises(TokenRefused):
        await tokens.client_of(token, NOW)


async def test_a_public_key_is_not_taken_for_a_shared_secret(
    tokens: Tokens, published: Path, issued: IssuedKey
) -> None:
    document = json.loads(published.read_bytes())["keys"][0]
    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for secret in (pem, json.dumps(document).encode(), document["n"].encode()):
        for issuer in ("segexport", ISSUER):
            token = forged({"alg": "HS256", "kid": "1"}, claims(issued, iss=issuer, kind="access"))
            signed = token.removesuffix(".")
            signature = hmac.digest(secret, signed.encode(), "sha256")
            signed += "." + base64.urlsafe_b64encode(signature).rstrip(b"=").decode()
            with pytest.raises(TokenRefused):
                await tokens.client_of(signed, NOW)


async def test_keys_of_one_kind_do_not_verify_tokens_of_the_other(
    tokens: Tokens, master: MasterKey, issued: IssuedKey
) -> None:
    """Whatever issuer a token names, only the key of that issuer verifies it."""
    theirs_as_ours = provided(issued, iss="segexport", kind="access", aud=None)
    ours_as_theirs = jwt.encode(claims(issued), master.signing_key, headers={"kid": "1"})
    ours_with_a_key_id = jwt.encode(
        claims(issued, iss="segexport", kind="access", aud=None), RSA, "RS256", {"kid": "1"}
    )
    for token in (theirs_as_ours, ours_as_theirs, ours_with_a_key_id):
        with pytest.raises(TokenRefused):
            await tokens.client_of(token, NOW)


async def test_a_key_set_with_shared_secrets_verifies_nothing_with_them(
    tokens: Tokens, published: Path, issued: IssuedKey
) -> None:
    secret = b"0123456789abcdefghijklmnopqrstuv"
    known = base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
    published.write_bytes(key_set({"kty": "oct", "k": known, "kid": "1", "alg": "HS256"}))
    with pytest.raises(TokenRefused, match="have to be signed with RS256"):
        await tokens.client_of(provided(issued, secret, "HS256"), NOW)


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        *((RSA, f"{family}{bits}") for family in ("RS", "PS") for bits in (256, 384, 512)),
        *((key, algorithm) for algorithm, key in CURVES.items()),
        (EDWARDS, "EdDSA"),
    ],
)
async def test_an_identity_providers_token_is_believed(
    key: PrivateKey, algorithm: str, tokens: Tokens, published: Path, issued: IssuedKey
) -> None:
    published.write_bytes(key_set(public(key, "1"), public(key, "2", alg=algorithm)))
    for kid in ("1", "2"):
        token = provided(issued, key, algorithm, kid)
        assert await tokens.client_of(token, NOW) == issued.key.client_id


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"exp": None}, "does not say its exp"),
        ({"exp": NOW.timestamp() - 31}, "has expired"),
        ({"nbf": NOW.timestamp() + 31}, "not good yet"),
        ({"exp": float("inf")}, "exp is no time"),
        ({"iat": float("nan")}, "iat is no time"),
        ({"aud": None}, "does not say its aud"),
        ({"aud": "somebody"}, "meant for somebody else"),
        ({"iss": "https://login.elsewhere"}, "of an issuer whose tokens are not taken"),
        ({"client_id": None}, "has no client_id"),
        ({"client_id": "somebody"}, "no API key of the token's client id"),
    ],
)
async def test_what_is_wrong_with_an_identity_providers_token_is_said(
    other: Mapping[str, object], said: str, tokens: Tokens, issued: IssuedKey
) -> None:
    with pytest.raises(TokenRefused, match=said):
        await tokens.client_of(provided(issued, **other), NOW)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "other",
    [
        {"exp": NOW.timestamp() - 29},
        {"nbf": NOW.timestamp() + 29},
        {"aud": ["somebody", AUDIENCE]},
        {"kind": "session"},
        {"iat": NOW.timestamp() + 0.5},
    ],
)
async def test_what_may_differ_may_differ(
    other: Mapping[str, object], tokens: Tokens, issued: IssuedKey
) -> None:
    token = provided(issued, **other)  # type: ignore[arg-type]
    assert await tokens.client_of(token, NOW) == issued.key.client_id


async def test_the_claim_that_names_the_key_can_be_another(
    master: MasterKey, ring: KeyRing, published: Path, issued: IssuedKey
) -> None:
    settings = PROVIDER.model_copy(update={"client_claim": "azp"})
    tokens = Tokens(master, ring, settings, KeySet(str(published)))
    token = provided(issued, client_id="somebody", azp=issued.key.client_id)
    assert await tokens.client_of(token, NOW) == issued.key.client_id


def test_an_identity_provider_cannot_be_called_as_we_are(master: MasterKey, ring: KeyRing) -> None:
    with pytest.raises(SettingsError, match=r"http\.tokens\.issuer"):
        Tokens(master, ring, PROVIDER.model_copy(update={"issuer": "segexport"}))


@pytest.mark.parametrize(
    "document",
    [
        public(RSA, "1", use="enc"),
        public(RSA, "1", key_ops=["encrypt"]),
        public(RSA, "1", alg="PS256"),
        public(RSA, "2"),
        public(OTHER_RSA, "1"),
        {
            **jwt.algorithms.RSAAlgorithm.to_jwk(RSA, as_dict=True),
            "kid": "1",
            "key_ops": ["verify"],
        },
        {**public(RSA, "1"), "n": "x"},
        {**public(RSA, "1"), "kty": ["RSA"]},
        {**public(RSA, "1"), "kid": ["1"]},
    ],
)
async def test_a_key_that_is_not_for_this_verifies_nothing(
    document: Mapping[str, Any], tokens: Tokens, published: Path, issued: IssuedKey
) -> None:
    published.write_bytes(key_set(document))
    with pytest.raises(TokenRefused):
        await tokens.client_of(provided(issued), NOW)


async def test_a_short_rsa_key_is_not_trusted(
    tokens: Tokens, published: Path, issued: IssuedKey
) -> None:
    short = rsa.generate_private_key(65_537, 1_024)
    published.write_bytes(key_set(public(short, "1")))
    with pytest.warns(jwt.warnings.InsecureKeyLengthWarning):
        token = provided(issued, short)
    with pytest.raises(TokenRefused):
        await tokens.client_of(token, NOW)


@pytest.mark.parametrize("signed_with", ["RS256", "PS384", "ES256"])
@pytest.mark.parametrize("ids", [("1", "1"), ("1", None), (None, "1"), (None, None)])
async def test_of_keys_that_share_their_id_or_have_none_each_is_tried(
    ids: tuple[str | None, str | None],
    signed_with: str,
    tokens: Tokens,
    published: Path,
    issued: IssuedKey,
) -> None:
    published_as, kid = ids
    signers: Mapping[str, PrivateKey] = {"RS256": RSA, "PS384": OTHER_RSA, "ES256": CURVES["ES256"]}
    keys = (*signers.values(), EDWARDS, CURVES["ES384"])
    published.write_bytes(key_set(*(public(each, published_as) for each in keys)))
    token = provided(issued, signers[signed_with], signed_with, kid)
    assert await tokens.client_of(token, NOW) == issued.key.client_id


async def test_a_key_of_another_id_is_not_tried(
    tokens: Tokens, published: Path, issued: IssuedKey
) -> None:
    published.write_bytes(key_set(public(RSA, "2"), public(OTHER_RSA, "1"), public(RSA, None)))
    with pytest.raises(TokenRefused, match="signature is not right"):
        await tokens.client_of(provided(issued), NOW)


async def test_what_is_wrong_with_a_token_is_said_whichever_key_has_signed_it(
    tokens: Tokens, published: Path, issued: IssuedKey
) -> None:
    published.write_bytes(key_set(public(OTHER_RSA, "1"), public(RSA, "1")))
    with pytest.raises(TokenRefused, match="has expired"):
        await tokens.client_of(provided(issued, exp=1), NOW)


async def test_a_key_that_was_replaced_under_its_id_is_found(
    tokens: Tokens, published: Path, issued: IssuedKey, clock: Clock
) -> None:
    assert await tokens.client_of(provided(issued), NOW) == issued.key.client_id
    published.write_bytes(key_set(public(OTHER_RSA, "1")))
    clock.seconds = jwks.PAUSE
    assert await tokens.client_of(provided(issued, OTHER_RSA), NOW) == issued.key.client_id
    with pytest.raises(TokenRefused):
        await tokens.client_of(provided(issued), NOW)


async def test_no_more_keys_are_tried_than_cost_little(
    tokens: Tokens, published: Path, issued: IssuedKey, master: MasterKey, ring: KeyRing
) -> None:
    others = [public(OTHER_RSA, None)] * (jwks.MAX_TRIES - 1)
    published.write_bytes(key_set(*others, public(RSA, None)))
    assert await tokens.client_of(provided(issued, kid=None), NOW) == issued.key.client_id
    others.append(public(OTHER_RSA, None))
    fresh = Tokens(master, ring, PROVIDER, KeySet(str(published)))
    published.write_bytes(key_set(*others, public(RSA, None)))
    with pytest.raises(TokenRefused, match="name the key in the token"):
        await fresh.client_of(provided(issued, kid=None), NOW)


async def test_of_a_large_set_the_keys_for_signatures_are_used_and_the_log_says_so(
    tokens: Tokens, published: Path, issued: IssuedKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published_keys, "MAX_KEYS", 3)
    encrypting = [public(OTHER_RSA, f"e{number}", use="enc") for number in range(120)]
    two = [public(OTHER_RSA, "2"), public(OTHER_RSA, "3")]
    more = [public(OTHER_RSA, f"m{number}") for number in range(40)]
    published.write_bytes(key_set(*encrypting, *two, public(RSA, "1"), *more))
    with capture_logs() as logs:
        assert await tokens.client_of(provided(issued), NOW) == issued.key.client_id
    assert logs == [
        {
            "event": "the identity provider publishes more keys than are used",
            "log_level": "warning",
            "published": 163,
            "used": 3,
        }
    ]


async def test_more_than_a_hundred_keys_are_a_key_set(
    tokens: Tokens, published: Path, issued: IssuedKey
) -> None:
    others = [public(OTHER_RSA, f"m{number}") for number in range(150)]
    published.write_bytes(key_set(*others, public(RSA, "1")))
    assert await tokens.client_of(provided(issued), NOW) == issued.key.client_id


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
async def test_a_byte_order_mark_before_the_set_is_left_out(
    encoding: str, tokens: Tokens, published: Path, issued: IssuedKey
) -> None:
    published.write_bytes(key_set(public(RSA, "1")).decode().encode(encoding))
    assert await tokens.client_of(provided(issued), NOW) == issued.key.client_id


ODD: Final[Mapping[str, object]] = {
    "nothing": None,
    "a text": "key",
    "no type": {"kid": "1"},
    "another type": {"kty": "AKP", "alg": "ML-DSA-44", "kid": "1", "pub": "AA"},
    "another curve": {**public(CURVES["ES256"], "1"), "crv": "secp256k1"},
    "no modulus": {"kty": "RSA", "e": "AQAB", "kid": "1"},
    "a number for a modulus": {**public(RSA, "1"), "n": 5},
    "a list for a modulus": {**public(RSA, "1"), "n": ["AQAB"]},
    "no base64": {**public(RSA, "1"), "n": "\ud800"},
    "an even exponent": {**public(RSA, "1"), "e": "Ag"},
    "an exponent without end": {**public(RSA, "1"), "e": "_" * 600},
    "a modulus without end": {**public(RSA, "1"), "n": "_" * 200_000},
    "a modulus that is too long": {**public(RSA, "1"), "n": "_" * 4_000},
    "a point beside the curve": {**public(CURVES["ES256"], "1"), "x": "AQ"},
    "another use": {**public(RSA, "1"), "use": ["sig"]},
    "operations that are none": {**public(RSA, "1"), "key_ops": {"verify": 1}},
    "an algorithm that is none": {**public(RSA, "1"), "alg": {"RS256": 1}},
    "a number that is none": {"kty": "oct", "exp": float("nan"), "more": 10**400},
}


@pytest.mark.parametrize("odd", ODD)
async def test_a_key_that_is_odd_spoils_no_other(
    odd: str, tokens: Tokens, published: Path, issued: IssuedKey
) -> None:
    published.write_bytes(json.dumps({"keys": [ODD[odd], public(RSA, "1"), ODD[odd]]}).encode())
    assert await tokens.client_of(provided(issued), NOW) == issued.key.client_id


def test_nothing_is_computed_from_what_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def make(described: Mapping[str, str], algorithm: str) -> jwt.PyJWK:
        made.append(described["n"])
        return jwt.PyJWK(dict(described), algorithm)

    monkeypatch.setattr(published_keys, "PyJWK", make)
    good = public(RSA, "1")
    found = published_keys.usable_keys(key_set({**good, "n": "_" * 200_000}, good))
    assert made == [good["n"]]
    assert [key.key_id for key in found] == ["1"]


@pytest.mark.parametrize(
    "other",
    [
        {"x5c": ["no certificate", 5], "x5t": None, "x5u": "http://127.0.0.1:1/"},
        {"use": None, "key_ops": None, "alg": None},
        {"key_ops": ["sign", "verify"], "use": "sig"},
        {"exp": float("inf"), "nested": {"a": [[]]}},
    ],
)
async def test_what_else_a_key_says_does_not_matter(
    other: Mapping[str, object], tokens: Tokens, published: Path, issued: IssuedKey
) -> None:
    published.write_bytes(key_set({**public(RSA, "1"), **other}))
    assert await tokens.client_of(provided(issued), NOW) == issued.key.client_id


@pytest.mark.parametrize(
    "error", [RuntimeError("can't start new thread"), KeyError("location"), RecursionError()]
)
async def test_whatever_goes_wrong_in_a_fetch_is_an_outage_that_ends(
    error: Exception,
    tokens: Tokens,
    issued: IssuedKey,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: str) -> bytes:
        raise error

    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(jwks, "_content", fail)
        with pytest.raises(ProviderUnreachable):
            await tokens.client_of(provided(issued), NOW)
    (line,) = logs
    assert line["event"] == "the identity provider's keys cannot be had"
    assert (line["error"], line["exc_info"]) == (repr(error), True)
    clock.seconds = jwks.PAUSE
    assert await tokens.client_of(provided(issued), NOW) == issued.key.client_id


async def test_a_new_key_is_fetched_but_not_more_often_than_every_ten_seconds(
    tokens: Tokens, published: Path, issued: IssuedKey, clock: Clock
) -> None:
    assert await tokens.client_of(provided(issued), NOW) == issued.key.client_id
    published.write_bytes(key_set(public(OTHER_RSA, "2")))
    rotated = provided(issued, OTHER_RSA, kid="2")
    clock.seconds = 9.9
    with pytest.raises(TokenRefused, match="does not publish"):
        await tokens.client_of(rotated, NOW)
    clock.seconds = 10
    assert await tokens.client_of(rotated, NOW) == issued.key.client_id
    with pytest.raises(TokenRefused):
        await tokens.client_of(provided(issued), NOW)


async def test_a_key_that_was_withdrawn_is_believed_no_longer_than_ten_minutes(
    tokens: Tokens, published: Path, issued: IssuedKey, clock: Clock
) -> None:
    token = provided(issued)
    assert await tokens.client_of(token, NOW) == issued.key.client_id
    published.write_bytes(key_set(public(OTHER_RSA, "2")))
    clock.seconds = jwks.REFRESH
    await tokens.client_of(token, NOW)  # and the set is fetched, which nobody waits for
    assert tokens._provider is not None
    assert tokens._provider._fetching is not None
    await tokens._provider._fetching
    with pytest.raises(TokenRefused):
        await tokens.client_of(token, NOW)


@pytest.mark.parametrize(
    "content", [None, b"", b"[]", b"{}", b'{"keys": 1}', b"x" * (jwks.MAX_BYTES + 1)]
)
async def test_without_a_key_set_nothing_is_said_of_a_token_and_known_keys_stay(
    content: bytes | None, tokens: Tokens, published: Path, issued: IssuedKey, clock: Clock
) -> None:
    good = published.read_bytes()

    def break_it() -> None:
        if content is None:
            published.unlink()
        else:
            published.write_bytes(content)

    break_it()
    for _ in range(2):  # the second time without trying again
        with pytest.raises(ProviderUnreachable, match="try again later"):
            await tokens.client_of(provided(issued), NOW)
    published.write_bytes(good)
    clock.seconds = 10
    assert await tokens.client_of(provided(issued), NOW) == issued.key.client_id
    break_it()
    clock.seconds = 20
    with capture_logs() as logs, pytest.raises(ProviderUnreachable):
        await tokens.client_of(provided(issued, OTHER_RSA, kid="2"), NOW)
    assert [line["event"] for line in logs] == ["the identity provider's keys cannot be had"]
    assert await tokens.client_of(provided(issued), NOW) == issued.key.client_id


class Provider(ThreadingHTTPServer):
    """An identity provider on loopback, whose key set is `content`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.content: bytes = key_set(public(RSA, "1"))
        self.status = 200
        self.encoding = "identity"
        self.asked = 0
        self.answers = threading.Event()
        self.answers.set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/keys"


class _Answer(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        self.server.asked += 1
        self.server.answers.wait(10)
        self.send_response(self.server.status)
        if self.server.status == 302:
            self.send_header("Location", self.server.address.replace("/keys", "/other"))
        self.send_header("Content-Encoding", self.server.encoding)
        self.end_headers()
        try:
            self.wfile.write(self.server.content)
        except OSError:
            return  # the other side had enough

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.answers.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def remote(master: MasterKey, ring: KeyRing, provider: Provider, clock: Clock) -> Tokens:
    """With the identity provider on loopback."""
    return Tokens(master, ring, PROVIDER, KeySet(provider.address, clock))


async def test_many_tokens_at_once_are_one_request_which_outlives_who_began_it(
    remote: Tokens, provider: Provider, issued: IssuedKey
) -> None:
    provider.answers.clear()
    token = provided(issued)
    asking = [asyncio.create_task(remote.client_of(token, NOW)) for _ in range(20)]
    await until(lambda: asyncio.sleep(0, provider.asked == 1), 5, "the provider is asked")
    asking[0].cancel()
    provider.answers.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert set(answers[1:]) == {issued.key.client_id}
    assert provider.asked == 1


async def test_made_up_key_ids_do_not_become_requests(
    remote: Tokens, provider: Provider, issued: IssuedKey
) -> None:
    for number in range(20):
        with pytest.raises(TokenRefused):
            await remote.client_of(provided(issued, kid=f"made up {number}"), NOW)
    assert provider.asked == 1


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_an_answer_other_than_200_is_none(
    status: int, remote: Tokens, provider: Provider, issued: IssuedKey
) -> None:
    provider.status = status
    with pytest.raises(ProviderUnreachable):
        await remote.client_of(provided(issued), NOW)
    assert provider.asked == 1


async def test_what_has_to_be_done_about_an_address_that_leads_elsewhere_is_said(
    remote: Tokens, provider: Provider, issued: IssuedKey
) -> None:
    provider.status = 302
    with capture_logs() as logs, pytest.raises(ProviderUnreachable):
        await remote.client_of(provided(issued), NOW)
    assert "/other" in logs[0]["error"]
    assert "set http.tokens.jwks" in logs[0]["error"]


async def test_an_answer_that_is_compressed_unasked_is_told_as_such(
    remote: Tokens, provider: Provider, issued: IssuedKey
) -> None:
    provider.encoding = "gzip"
    with capture_logs() as logs, pytest.raises(ProviderUnreachable):
        await remote.client_of(provided(issued), NOW)
    assert "compressed ('gzip')" in logs[0]["error"]


@pytest.mark.parametrize("address", ["https://[::1", "http://\u2100.example", "https://", "x://y"])
async def test_an_address_that_is_none_is_an_outage(
    address: str, master: MasterKey, ring: KeyRing, issued: IssuedKey
) -> None:
    tokens = Tokens(master, ring, PROVIDER, KeySet(address))
    with capture_logs() as logs, pytest.raises(ProviderUnreachable):
        await tokens.client_of(provided(issued), NOW)
    assert logs[0]["error"]


async def test_a_pipe_is_no_key_set_and_is_not_waited_for(
    master: MasterKey, ring: KeyRing, issued: IssuedKey, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "jwks.json")
    tokens = Tokens(master, ring, PROVIDER, KeySet(str(tmp_path / "jwks.json")))
    with capture_logs() as logs, pytest.raises(ProviderUnreachable):
        await tokens.client_of(provided(issued), NOW)
    assert "is no file" in logs[0]["error"]


async def test_a_provider_that_does_not_answer_is_not_waited_for(
    remote: Tokens, provider: Provider, issued: IssuedKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "TIMEOUT", 0.2)
    provider.answers.clear()
    with capture_logs() as logs, pytest.raises(ProviderUnreachable):
        await remote.client_of(provided(issued), NOW)
    assert logs[0]["error"]


async def test_a_provider_that_sends_without_end_is_cut_off(
    remote: Tokens, provider: Provider, issued: IssuedKey
) -> None:
    provider.content = b" " * (64 * 1024 * 1024)
    with capture_logs() as logs, pytest.raises(ProviderUnreachable):
        await remote.client_of(provided(issued), NOW)
    assert f"no more than {jwks.MAX_BYTES} bytes" in logs[0]["error"]


async def test_a_provider_that_is_not_there_is_told_from_a_bad_token(
    master: MasterKey, ring: KeyRing, provider: Provider, issued: IssuedKey
) -> None:
    provider.server_close()
    tokens = Tokens(master, ring, PROVIDER, KeySet(provider.address))
    with pytest.raises(ProviderUnreachable):
        await tokens.client_of(provided(issued), NOW)
