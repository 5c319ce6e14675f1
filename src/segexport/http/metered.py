"""HTTP/1.1 that a client cannot have parsed without bounds: h11, with a meter.

h11 takes what is there apart into events (a head, a piece of a body, its end) for as long as
there is something. A segment from the network holds up to 256 KiB, which is one event or, in
chunks of one byte, forty thousand.
"""

from typing import Final

import h11

from segexport.http.turns import LARGE

MAX_HEAD: Final = 16 * 1024
"""Bytes of what a request is aimed at, and of its headers."""
MAX_HEADERS: Final = 100
"""Lines of headers in a request, and parameters in its query."""
MAX_SMALL_CHUNKS: Final = 5_000
"""Chunks of a body that may be as small as they like."""
SMALL: Final = 64
"""Bytes that the chunks of a body must have on average, where they are more than that."""
TOO_LARGE: Final = 431
"""The status of a head that is."""
EVENTS: Final = 32
"""Events that are parsed at a time, at most: a fraction of a millisecond."""
FIRST_EVENTS: Final = 3
"""Events that are parsed as soon as they arrive: a head, its body, and the end of that."""


class Metered(h11.Connection):
    """The server's side of a connection, which stops parsing when a limit is reached.

    Then `next_event` says NEED_DATA, although there is more. `has_more` is true if it was only
    that as many events as `allow` has allowed are parsed; `is_fragmented`, if the body comes in
    more small chunks than it may, and that is for good.
    """

    def __init__(self) -> None:
        super().__init__(h11.SERVER, MAX_HEAD)
        self.has_more = False
        self.is_fragmented = False
        self._is_head_too_large = False
        self._allowed = 0
        self._chunks = 0
        self._bytes = 0

    def allow(self, events: int) -> None:
        """Let so many events be parsed from here on."""
        self.has_more = False
        self._allowed = events

    @property
    def is_large(self) -> bool:
        """Whether what is to be parsed next is a request that is large, as far as it is there."""
        if self.their_state is not h11.IDLE:
            return False
        there, _ = self.trailing_data
        return len(there) > LARGE or b"\ntransfer-encoding" in there.lower()

    def postpone(self) -> None:
        """Parse nothing for now."""
        self.has_more = True

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """As h11's. Raises RemoteProtocolError for a head of too many lines as well."""
        if self.is_fragmented:
            return h11.NEED_DATA
        if not self._allowed:
            self.has_more = True
            return h11.NEED_DATA
        self._allowed -= 1
        try:
            if self.their_state is h11.IDLE:
                self._require_few_headers()
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            self._is_head_too_large = error.error_status_hint == TOO_LARGE
            raise
        match event:
            case h11.Request():
                self._chunks = self._bytes = 0
                if any(name == b"transfer-encoding" for name, _ in event.headers):
                    self._allowed = 0  # chunks and trailers wait for their turn
            case h11.Data():
                self._chunks += event.chunk_start
                self._bytes += len(event.data)
                if self._chunks > max(MAX_SMALL_CHUNKS, self._bytes // SMALL):
                    self.is_fragmented = True
        return event

    def refusal(self) -> bytes:
        """The answer to what is no request, or one whose head is too large: the last one here."""
        if self._is_head_too_large:
            status, reason = TOO_LARGE, "Request Header Fields Too Large"
            words = f"headers have more than {MAX_HEAD} bytes or {MAX_HEADERS} lines; send fewer"
        else:
            status, reason, words = 400, "Bad Request", "this is no HTTP request"
        headers = [
            ("content-type", "text/plain; charset=utf-8"),
            ("content-length", str(len(words))),
            ("connection", "close"),
        ]
        events = (
            h11.Response(status_code=status, headers=headers, reason=reason),
            h11.Data(data=words.encode()),
            h11.EndOfMessage(),
        )
        return b"".join(self.send(event) or b"" for event in events)

    def _require_few_headers(self) -> None:
        """Before they are parsed, which takes the longer the more they are, however short."""
        there, _ = self.trailing_data
        head = there.partition(b"\n\r\n")[0].partition(b"\n\n")[0]
        if head.rstrip(b"\r\n").count(b"\n") > MAX_HEADERS:
            raise h11.RemoteProtocolError(
                f"the head has more than {MAX_HEADERS} lines of headers",
                error_status_hint=TOO_LARGE,
            )
