"""Messages of a stream of Server-Sent Events, as bytes.

The format is that of the HTML standard, "Server-sent events": lines `field: value`, and an
empty line behind each message.
"""

from datetime import timedelta
from typing import Any

import orjson

from segexport.events.outbox import OutboxRow


def job_event(row: OutboxRow, cursor: str) -> bytes:
    """An event about a whole job: its id, `queued`, `started` or `finished`, its document.

    The document is sent byte for byte as it was stored, which is JSON in one line.
    """
    return _message(row.type.rpartition(".")[2], row.value, cursor)


def notice(event: str, cursor: str, **facts: Any) -> bytes:
    """What the stream says about itself; its document repeats the cursor and adds `facts`."""
    return _message(event, orjson.dumps({"cursor": cursor, **facts}), cursor)


def farewell(event: str, reason: str) -> bytes:
    """The last message. It has no id, so the reader keeps the one of what it saw last."""
    return b"event: %s\ndata: %s\n\n" % (event.encode(), orjson.dumps({"reason": reason}))


def retry(pause: timedelta) -> bytes:
    """How long a reader whose connection ends waits before it comes again."""
    return b"retry: %d\n\n" % (pause / timedelta(milliseconds=1))


def heartbeat(cursor: str | None) -> bytes:
    """A comment, so that nothing on the way takes the connection for dead.

    The id, without data, is no message to the reader; it moves the reader's Last-Event-ID
    past what happened elsewhere.
    """
    return b":\n\n" if cursor is None else b":\nid: %s\n\n" % cursor.encode()


def _message(event: str, data: bytes, cursor: str) -> bytes:
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (cursor.encode(), event.encode(), data)
