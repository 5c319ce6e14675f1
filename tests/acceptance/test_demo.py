"""`segexport demo` shows the truth, and fails when store, dataset and events differ."""

import re

import pytest
import typer

from segexport.cli import demo
from segexport.consume.received import Received
from support.command_line import Segexport


def test_the_demonstration_shows_four_endings_and_that_all_counts_agree(
    segexport: Segexport,
) -> None:
    shown = segexport("demo", "--profiles", "2000")
    assert shown.returncode == 0, shown.stderr
    for name, state in (
        ("segment", "COMPLETED"),
        ("journey", "COMPLETED"),
        ("blocked", "FAILED"),
        ("cancelled", "CANCELLED"),
    ):
        assert re.search(rf"^{name} +{state} .* ✓", shown.stdout, re.MULTILINE), shown.stdout
    assert "ERROR_INSTANCE_BAD_NAMESPACE" in shown.stdout
    assert "they agree" in shown.stdout


def test_the_demonstration_fails_when_an_event_is_overlooked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = demo.Ledger.enter

    async def overlook_one_discard(self: demo.Ledger, received: Received) -> bool:
        shown = await truth(self, received)
        job = received.key or ""
        if self.discards[job] == 1 and self.records[job] == 3:
            self.discards[job] = 0
        return shown

    monkeypatch.setattr(demo.Ledger, "enter", overlook_one_discard)
    # Logging is a matter of the whole process, which other tests live in.
    monkeypatch.setattr(demo, "configure_logging", lambda **_: None)
    with pytest.raises(typer.Exit) as ended:
        demo.demo(profiles=2000)
    assert ended.value.exit_code == demo.EXIT_DIFFERENT
    assert "they differ" in capsys.readouterr().out
