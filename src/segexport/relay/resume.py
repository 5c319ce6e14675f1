"""Saying where delivery goes on, which only a person can know after a restore."""

from datetime import timedelta
from typing import Final

from segexport.errors import PositionMismatch, RelayFenced
from segexport.relay.position import Position
from segexport.relay.publisher import Publisher
from segexport.store.store import Outbox

_LEASE: Final = timedelta(minutes=1)


async def set_position(outbox: Outbox, publisher: Publisher, *, owner: str, number: int) -> None:
    """Make delivery go on behind row `number` of this store: 0 sends everything again.

    What the topic holds is not touched: rows up to `number` that it lacks stay missing, rows
    behind it that it has come again, with the event ids they had. Raises `RelayFenced` while
    a relay is at work or took over meanwhile, and `PositionMismatch` if the store has not given
    that number.
    """
    backlog = await outbox.backlog()
    if not 0 <= number <= backlog.last:
        raise PositionMismatch(
            f"the store has numbered its events up to {backlog.last}; name a number from 0 to "
            f"{backlog.last}, not {number}"
        )
    epoch = await outbox.lead(owner, _LEASE)
    if epoch is None:
        raise RelayFenced("a relay is at work on this store; stop it first")
    try:
        await publisher.start()
        # A relay that took over before the producer started was fenced by it and may have
        # delivered; one that does so from now on fences the producer.
        if await outbox.lead(owner, _LEASE) != epoch:
            raise RelayFenced(
                "a relay took over before the position was set; stop it, and set it again"
            )
        topic = publisher.topic
        position = Position(
            store=outbox.identity, number=number, topic=topic.id, sent=not topic.is_empty
        )
        await publisher.publish(publisher.parcel(), position)
        await outbox.mark_delivered(owner, epoch, number)
    finally:
        await publisher.close()
        await outbox.resign(owner)
