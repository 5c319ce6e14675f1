"""How much of what a client sends is parsed at a time."""

import h11
import pytest

from segexport.http.metered import MAX_HEADERS, MAX_SMALL_CHUNKS, SMALL, Metered

CHUNKED = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def events(meter: Metered, allowed: int) -> list[object]:
    """What is parsed when so many events are allowed."""
    meter.allow(allowed)
    found: list[object] = []
    while (event := meter.next_event()) is not h11.NEED_DATA:
        found.append(event)
    return found


def chunks(count: int, size: int = 1) -> bytes:
    return b"%x\r\n%s\r\n" % (size, b"x" * size) * count


def head(lines: int) -> bytes:
    headers = b"".join(b"x%d:\r\n" % number for number in range(lines - 1))
    return b"GET / HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n"


def test_no_more_events_are_parsed_than_are_allowed_and_none_is_lost() -> None:
    meter = Metered()
    meter.receive_data(CHUNKED + chunks(100) + END)
    assert len(events(meter, 10)) == 1  # a body in chunks waits for its turn
    found: list[object] = []
    while meter.has_more:
        some = events(meter, 7)
        assert len(some) <= 7
        found += some
    assert b"".join(bytes(one.data) for one in found if isinstance(one, h11.Data)) == b"x" * 100
    assert isinstance(found[-1], h11.EndOfMessage)


@pytest.mark.parametrize(
    ("count", "size", "fragmented"),
    [
        (MAX_SMALL_CHUNKS, 1, False),
        (MAX_SMALL_CHUNKS + 1, 1, True),
        (MAX_SMALL_CHUNKS + 1, SMALL - 1, True),
        (MAX_SMALL_CHUNKS * 2, SMALL, False),
    ],
)
def test_a_body_may_have_only_so_many_small_chunks(count: int, size: int, fragmented: bool) -> None:
    meter = Metered()
    meter.receive_data(CHUNKED + chunks(count, size) + END)
    events(meter, 1)
    found = events(meter, 1_000_000)
    assert meter.is_fragmented is fragmented
    assert isinstance(found[-1], h11.EndOfMessage) is not fragmented
    assert events(meter, 1_000_000) == []


def test_chunks_are_counted_for_each_body_by_itself() -> None:
    meter = Metered()
    for _ in range(3):
        meter.receive_data(CHUNKED + chunks(MAX_SMALL_CHUNKS) + END)
        events(meter, 1)
        events(meter, 1_000_000)
        assert not meter.is_fragmented
        meter.send(h11.Response(status_code=204, headers=[]))
        meter.send(h11.EndOfMessage())
        meter.start_next_cycle()


@pytest.mark.parametrize("complete", [True, False])
def test_a_head_of_too_many_lines_is_refused_before_it_is_parsed(complete: bool) -> None:
    meter = Metered()
    meter.receive_data(head(MAX_HEADERS))
    assert isinstance(events(meter, 1)[0], h11.Request)
    other = Metered()
    sent = head(MAX_HEADERS + 1)
    other.receive_data(sent if complete else sent[:-2] + b"x:\r\n")
    with pytest.raises(h11.RemoteProtocolError):
        events(other, 1)
    assert other.refusal().startswith(b"HTTP/1.1 431 ")


def test_lines_of_what_follows_a_head_do_not_count() -> None:
    meter = Metered()
    meter.receive_data(
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000\r\n\r\n" + b"\n" * 2000
    )
    assert isinstance(events(meter, 9)[-1], h11.EndOfMessage)


def test_what_is_no_request_is_told_so() -> None:
    meter = Metered()
    meter.receive_data(b"nonsense\r\n\r\n")
    with pytest.raises(h11.RemoteProtocolError):
        events(meter, 1)
    assert meter.refusal().startswith(b"HTTP/1.1 400 ")
