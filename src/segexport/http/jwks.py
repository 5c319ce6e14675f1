"""The public keys of an identity provider, as it publishes them: a JSON Web Key Set."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
import structlog
from jwt import PyJWK, PyJWTError

from segexport.errors import ProviderUnreachable, TokenRefused

log: Final = structlog.stdlib.get_logger(__name__)

PAUSE: Final = 10.0
"""Seconds between two fetches, so that made-up key ids do not become requests."""
REFRESH: Final = 600.0
"""Seconds after which a set is fetched again: until a key that the provider has withdrawn is
not believed any more."""
TIMEOUT: Final = 5.0
"""Seconds that a fetch may take."""
MAX_BYTES: Final = 512 * 1024
"""Bytes in a set."""
MAX_KEYS: Final = 100

_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final[Mapping[tuple[str, str], Sequence[str]]] = {
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
ALGORITHMS: Final = (*_RSA, "ES256", "ES384", "ES512", "EdDSA")
"""Those that sign with a key of which only the other half is published."""

_Keys = Mapping[tuple[str | None, str], PyJWK]
"""By key id and algorithm."""


class KeySet:
    """The keys at `address`, an https URL or a file, kept and fetched again when need be.

    They are fetched in a thread, by one at a time, when a token names a key that is not known,
    and now and then. A provider that does not answer leaves the keys as they were. `clock` tells
    seconds.
    """

    def __init__(self, address: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._address = address
        self._clock = clock
        self._keys: _Keys = {}
        self._fetching: asyncio.Task[None] | None = None
        self._tried_at = float("-inf")
        self._fetched_at = float("-inf")
        self._failure: str | None = None

    async def key(self, key_id: str | None, algorithm: str) -> PyJWK:
        """The key of this id for this algorithm; without an id the only one for the algorithm.

        Raises `TokenRefused` if the provider has no such key, and `ProviderUnreachable` if that
        cannot be found out.
        """
        found = self._find(key_id, algorithm)
        if found is None:
            await self._fetch()
            found = self._find(key_id, algorithm)
        elif self._clock() - self._fetched_at >= REFRESH:
            self._begin()
        if found is not None:
            return found
        if self._failure is not None:
            raise ProviderUnreachable(
                "the identity provider's keys cannot be had now, and without them nothing can be "
                "said of its tokens; try again later"
            )
        raise TokenRefused(
            "the token is signed with a key that the identity provider does not publish"
        )

    def _find(self, key_id: str | None, algorithm: str) -> PyJWK | None:
        if key_id is not None:
            return self._keys.get((key_id, algorithm))
        fitting = [key for (_, known), key in self._keys.items() if known == algorithm]
        return fitting[0] if len(fitting) == 1 else None

    async def _fetch(self) -> None:
        task = self._begin()
        if task is not None:
            # The fetch is everybody's: a caller who goes away does not take it along.
            await asyncio.shield(task)

    def _begin(self) -> asyncio.Task[None] | None:
        """The fetch that runs, or a new one, or none if the last was a moment ago."""
        if self._fetching is None and self._clock() - self._tried_at >= PAUSE:
            self._tried_at = self._clock()
            self._fetching = asyncio.create_task(self._renew())
        return self._fetching

    async def _renew(self) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                content = await asyncio.to_thread(_content, self._address)
            self._keys = _usable(content)
        except (OSError, httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            # TimeoutError, an OSError, says nothing by itself.
            self._failure = str(error) or f"no answer within {TIMEOUT:.0f} s"
            log.warning(
                "the identity provider's keys cannot be had",
                address=self._address,
                error=self._failure,
            )
        else:
            self._failure = None
            self._fetched_at = self._clock()
        finally:
            self._fetching = None


def _content(address: str) -> bytes:
    if "://" not in address:
        with Path(address).open("rb") as file:
            return _bounded(iter((file.read(MAX_BYTES + 1),)))
    until = time.monotonic() + TIMEOUT
    # Not compressed: the bound is one of what is held in memory.
    plain = {"Accept": "application/json", "Accept-Encoding": "identity"}
    with httpx.stream("GET", address, headers=plain, timeout=TIMEOUT) as answer:
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"{address} answers {answer.status_code}")
        return _bounded(_until(until, answer.iter_raw()))


def _until(end: float, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """These chunks, as long as there is time: the timeout of a request is one for each chunk."""
    for chunk in chunks:
        if time.monotonic() > end:
            raise TimeoutError
        yield chunk


def _bounded(chunks: Iterator[bytes]) -> bytes:
    content = bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) > MAX_BYTES:
            raise ValueError(f"a key set has no more than {MAX_BYTES} bytes")
    return bytes(content)


def _usable(content: bytes) -> _Keys:
    """The keys that verify signatures. Raises ValueError if this is no key set."""
    document = orjson.loads(content)
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise ValueError(f"that is no set of at most {MAX_KEYS} keys")
    usable: dict[tuple[str | None, str], PyJWK] = {}
    for key in listed:
        if not isinstance(key, dict) or not _is_for_signatures(key):
            continue
        for algorithm in _algorithms(key):
            try:
                usable[key.get("kid"), algorithm] = PyJWK(key, algorithm)
            except PyJWTError as error:
                log.warning("a key of the identity provider is no good", error=type(error).__name__)
    return usable


def _is_for_signatures(key: Mapping[str, Any]) -> bool:
    operations = key.get("key_ops", ["verify"])
    return (
        "d" not in key  # a private key that was published is nobody's any more
        and isinstance(key.get("kid"), str | None)
        and key.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
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
