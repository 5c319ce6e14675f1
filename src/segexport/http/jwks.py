"""The public keys of an identity provider, as it publishes them: a JSON Web Key Set."""

import asyncio
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

import httpx
import structlog

from segexport.errors import ProviderUnreachable, TokenRefused
from segexport.http.published import PublishedKey, usable_keys

log: Final = structlog.stdlib.get_logger(__name__)

PAUSE: Final = 10.0
"""Seconds between two fetches, so that made-up tokens do not become requests."""
REFRESH: Final = 600.0
"""Seconds after which a set is fetched again: until a key that the provider has withdrawn is
not believed any more."""
TIMEOUT: Final = 5.0
"""Seconds that a fetch may take."""
MAX_BYTES: Final = 1024 * 1024
"""Bytes in a set."""
MAX_TRIES: Final = 20
"""Keys that a token is tried with: whoever makes one up pays nothing for it, and we do."""

_FAILED: Final = "the identity provider's keys cannot be had"
_T = TypeVar("_T")


class KeySet:
    """The keys at `address`, an https URL or a file, kept and fetched again when need be.

    They are fetched in a thread, by one at a time, when no known key fits a token, and now and
    then. A fetch that fails, for whatever reason, leaves the keys as they were and is tried
    again. `clock` tells seconds.
    """

    def __init__(self, address: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._address = address
        self._clock = clock
        self._keys: Sequence[PublishedKey] = ()
        self._fetching: asyncio.Task[None] | None = None
        self._tried_at = float("-inf")
        self._fetched_at = float("-inf")
        self._failure: str | None = None

    async def verify(
        self, key_id: str | None, algorithm: str, attempt: Callable[[PublishedKey], _T | None]
    ) -> _T:
        """What `attempt` makes of a token with the key that has signed it; None with any other.

        Tried are the keys for the algorithm that have the id which the token names; where none
        has it, those without one; for a token that names none, all. At most `MAX_TRIES` of them.
        Raises `TokenRefused` if none of the provider's keys does, and `ProviderUnreachable` if
        that cannot be found out.
        """
        known = self._keys
        fitting = self._fitting(key_id, algorithm)
        if fitting and self._clock() - self._fetched_at >= REFRESH:
            self._begin()
        found = _first(attempt, fitting)
        if found is None:
            await self._fetch()
            if self._keys is not known:
                fitting = self._fitting(key_id, algorithm)
                found = _first(attempt, fitting)
        if found is not None:
            return found
        is_known = key_id is not None and any(key.key_id == key_id for key in fitting)
        if self._failure is not None and not is_known:
            raise ProviderUnreachable(
                "the identity provider's keys cannot be had now, and without them nothing can be "
                "said of its tokens; try again later"
            )
        raise TokenRefused(_reason(len(fitting)))

    def _fitting(self, key_id: str | None, algorithm: str) -> Sequence[PublishedKey]:
        fitting = [key for key in self._keys if algorithm in key.algorithms]
        if key_id is None:
            return fitting
        named = [key for key in fitting if key.key_id == key_id]
        return named or [key for key in fitting if key.key_id is None]

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
                self._keys = await asyncio.to_thread(_published, self._address)
        except (OSError, httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            # TimeoutError, an OSError, says nothing by itself.
            self._failure = str(error) or f"no answer within {TIMEOUT:.0f} s"
            log.warning(_FAILED, address=self._address, error=self._failure)
        except Exception as error:
            # Whatever a library trips over is an outage like any other, and its traceback is kept.
            self._failure = repr(error)
            log.exception(_FAILED, address=self._address, error=self._failure)
        else:
            self._failure = None
            self._fetched_at = self._clock()
        finally:
            self._fetching = None


def _first(attempt: Callable[[PublishedKey], _T | None], keys: Sequence[PublishedKey]) -> _T | None:
    results = map(attempt, keys[:MAX_TRIES])
    return next((result for result in results if result is not None), None)


def _reason(fitting: int) -> str:
    if not fitting:
        return "the token is signed with a key that the identity provider does not publish"
    if fitting > MAX_TRIES:
        return (
            f"the token's signature is not right: the first {MAX_TRIES} of {fitting} keys that fit "
            "it have not made it; let the provider name the key in the token (kid)"
        )
    return "the token's signature is not right: no key that the identity provider publishes made it"


def _published(address: str) -> Sequence[PublishedKey]:
    return usable_keys(_content(address))


def _content(address: str) -> bytes:
    if "://" not in address:
        path = Path(address)
        if not stat.S_ISREG(path.stat().st_mode):  # to open another may take for ever
            raise ValueError(f"{address} is no file")
        with path.open("rb") as file:
            return _bounded(iter((file.read(MAX_BYTES + 1),)))
    until = time.monotonic() + TIMEOUT
    # Not compressed: the bound is one of what is held in memory.
    plain = {"Accept": "application/json", "Accept-Encoding": "identity"}
    with httpx.stream("GET", address, headers=plain, timeout=TIMEOUT) as answer:
        if answer.is_redirect:
            raise ValueError(
                f"{address} leads to {answer.headers['location'][:256]!r}, which is not followed; "
                "set http.tokens.jwks to where the keys are"
            )
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"{address} answers {answer.status_code}")
        encoding = answer.headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            raise ValueError(f"{address} answers compressed ({encoding[:32]!r}), unasked")
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
