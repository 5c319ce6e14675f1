"""The lease that lets one relay work and keeps the others waiting."""

import asyncio
from datetime import timedelta
from typing import Final

from segexport.errors import RelayFenced, StoreError
from segexport.store.store import Outbox

_RENEWALS: Final = 3
"""Renewals in the time of one lease."""
_LONGEST_WAIT: Final = 1.0
"""Seconds at most until a standby asks again: a relay that resigns is followed this soon."""


class Leadership:
    """`owner`'s hold on an outbox. `epoch` is None while somebody else leads."""

    def __init__(self, outbox: Outbox, owner: str, lease: timedelta) -> None:
        self._outbox = outbox
        self._lease = lease
        self._pause = lease.total_seconds() / _RENEWALS
        self.owner = owner
        self.epoch: int | None = None

    async def win(self) -> int:
        """Wait until it is this relay's turn; the epoch. Raises `StoreUnavailable`."""
        while True:
            self.epoch = await self._outbox.lead(self.owner, self._lease)
            if self.epoch is not None:
                return self.epoch
            await asyncio.sleep(min(self._pause, _LONGEST_WAIT))

    async def keep(self) -> None:
        """Renew until that fails. Raises `RelayFenced`: another leads, or may do so by now."""
        epoch, clock = self.epoch, asyncio.get_running_loop().time
        renewed = clock()
        while True:
            await asyncio.sleep(self._pause)
            asked = clock()
            try:
                self.epoch = await self._outbox.lead(self.owner, self._lease)
            except StoreError as error:
                if clock() - renewed < self._lease.total_seconds():
                    continue
                self.epoch = None
                raise RelayFenced(
                    f"the lease could not be renewed for {self._lease.total_seconds():g} s: {error}"
                ) from error
            if self.epoch != epoch:
                raise _fenced()
            renewed = asked

    async def require_held(self) -> None:
        """Ask the store whether this relay has led without a break since it won.

        Raises `RelayFenced` if not, and `StoreUnavailable`.
        """
        epoch = self.epoch
        self.epoch = await self._outbox.lead(self.owner, self._lease)
        if epoch is None or self.epoch != epoch:
            raise _fenced()

    async def resign(self) -> None:
        """Let the next relay lead at once. Raises `StoreUnavailable`."""
        self.epoch = None
        await self._outbox.resign(self.owner)


def _fenced() -> RelayFenced:
    return RelayFenced("another relay took the lease, which this one did not renew in time")
