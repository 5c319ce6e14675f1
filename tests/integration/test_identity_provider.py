"""Tokens of an identity provider at the interfaces: believed, refused, or not to be judged now."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from support.interfaces import JOBS, OpenPlace, http_settings, new_key, serving

ISSUER = "https://login.example"
KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())


def provider(jwks: str) -> dict[str, Any]:
    return http_settings(tokens={"jwks": jwks, "issuer": ISSUER, "audience": "exports"})


@pytest.fixture
def key_set(tmp_path: Path) -> Path:
    """The provider's key set, in a file."""
    public = jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [{**public, "kid": "one"}]}))
    return path


def token_of(client_id: str, key: ec.EllipticCurvePrivateKey = KEY, **changes: object) -> str:
    claims = {
        "iss": ISSUER,
        "aud": "exports",
        "client_id": client_id,
        "exp": int(time.time()) + 60,
        **changes,
    }
    return jwt.encode(claims, key, algorithm="ES256", headers={"kid": "one"})


async def asked(address: str, client_id: str, token: str) -> httpx.Response:
    """A list, asked for with this token."""
    headers = {
        "authorization": f"Bearer {token}",
        "x-api-key": client_id,
        "x-gw-ims-org-id": "acme",
        "x-sandbox-name": "prod",
    }
    async with httpx.AsyncClient(base_url=address, headers=headers) as client:
        return await client.get(JOBS)


async def test_a_provider_vouches_for_the_holder_of_a_key(
    open_place: OpenPlace, key_set: Path
) -> None:
    place = await open_place(http=provider(str(key_set)))
    client_id = new_key(place.settings).key.client_id
    wrong: dict[str, Callable[[], str]] = {
        "another key": lambda: token_of(client_id, OTHER),
        "another client": lambda: token_of("0" * 32),
        "another audience": lambda: token_of(client_id, aud="reports"),
        "another issuer": lambda: token_of(client_id, iss="https://elsewhere.example"),
        "ours in name": lambda: token_of(client_id, iss="segexport"),
        "expired": lambda: token_of(client_id, exp=int(time.time()) - 60),
    }
    async with serving(place) as house:
        assert (await asked(house.address, client_id, token_of(client_id))).status_code == 200
        for what, token in wrong.items():
            answer = await asked(house.address, client_id, token())
            assert answer.status_code == 401, what
            assert answer.json()["error_code"] == "401013", what


async def test_while_the_provider_is_away_nobody_is_told_that_a_token_is_wrong(
    open_place: OpenPlace,
) -> None:
    place = await open_place(http=provider("http://127.0.0.1:1/jwks"))
    key = new_key(place.settings)
    client_id = key.key.client_id
    async with serving(place) as house:
        answer = await asked(house.address, client_id, token_of(client_id))
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert "127.0.0.1" not in answer.text
        ours = await asked(house.address, client_id, await house.token(key))
        assert ours.status_code == 200, "our own tokens need no provider"
