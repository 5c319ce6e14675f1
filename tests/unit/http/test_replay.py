"""A signature stands for the call that it first came with, for as long as it is believed."""

from segexport.http.replay import KEPT, Calls


def test_a_signature_stands_for_the_call_that_it_first_came_with() -> None:
    calls = Calls(clock=lambda: 0.0)
    assert [calls.of("a", call) for call in ("one", "two", "one")] == ["one", "one", "one"]
    assert calls.of("b", "two") == "two"


def test_what_is_no_longer_believed_is_forgotten() -> None:
    now = 0.0
    calls = Calls(clock=lambda: now)
    for number in range(10):
        calls.of(str(number), "call")
        now += KEPT / 4
    assert len(calls._seen) == 5
    assert calls.of("0", "later") == "later"
