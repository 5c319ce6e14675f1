"""Names and reasons of others are shown as they are, and move nothing on a terminal."""

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from segexport.cli.lines import event_line
from segexport.cli.markup import escape
from segexport.cli.present import json_text
from segexport.consume.received import Received
from segexport.events.contract import Contract, judge
from segexport.events.service_event import (
    EVENT_CODE,
    EVENT_TYPE,
    JOB_ID,
    SEGMENT_ID,
    STATUS,
    TOTAL,
)
from segexport.events.vocabulary import SEGMENT_EXPORT_JOB
from segexport.printable import printable, printable_json
from segexport.telemetry import configure_logging

HIDDEN = {
    "turned around": "\u202e",
    "isolated": "\u2066",
    "of no width": "\u200b",
    "a mark": "\ufeff",
    "a line": "\u2028",
    "a paragraph": "\u2029",
    "a line of ASCII": "\n",
    "an escape": "\x1b",
    "an escape of one byte": "\x9b",
    "deleted": "\x7f",
    "a tag": "\U000e0041",
    "half a pair": "\udcff",
}


@pytest.mark.parametrize("hidden", HIDDEN.values(), ids=HIDDEN)
def test_what_cannot_be_seen_is_shown_as_an_escape(hidden: str) -> None:
    shown = printable(f"gold{hidden}members")
    assert shown.isascii()
    assert shown.isprintable()
    assert hidden not in shown
    assert shown.startswith("gold\\")


@pytest.mark.parametrize("name", ["gold", "été", "会員", "золото", "🥇", "a\u00a0b", "[bold]"])
def test_letters_of_all_languages_stay(name: str) -> None:
    assert printable(name) == name


@given(st.text())
def test_nothing_printable_is_left_to_be_obeyed_and_json_stays_the_same(text: str) -> None:
    assert not set(printable(text)) & set(HIDDEN.values())
    document = {"name": text}
    for written in (json.dumps(document, ensure_ascii=False), json.dumps(document)):
        shown = printable_json(written)
        assert json.loads(shown) == document
        assert not set(shown) & set(HIDDEN.values())


@pytest.mark.parametrize("hidden", HIDDEN.values(), ids=HIDDEN)
def test_documents_for_scripts_say_it_as_escapes_of_json(hidden: str) -> None:
    text = json_text({"file": f"a{hidden}b"})
    assert json.loads(text) == {"file": f"a{hidden}b"}
    assert text.isascii()


def test_markup_in_a_name_is_no_markup() -> None:
    shown = io.StringIO()
    Console(file=shown).print(escape("[bold red]a\u202e[/]"))
    assert shown.getvalue() == "[bold red]a\\u202e[/]\n"


@pytest.mark.parametrize("hidden", HIDDEN.values(), ids=HIDDEN)
@pytest.mark.parametrize("where", [SEGMENT_ID, STATUS, EVENT_CODE, EVENT_TYPE, JOB_ID, TOTAL])
def test_an_event_of_somebody_else_is_one_line_that_moves_nothing(where: str, hidden: str) -> None:
    document = {SEGMENT_EXPORT_JOB: {where: f"[red]x{hidden}09:30 ✓ valid"}}
    received = Received(
        topic="events",
        partition=0,
        offset=0,
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        key=f"k{hidden}",
        headers={},
        value=b"{}",
        document=document,
        judgement=judge(document, Contract.XDM),
    )
    line = event_line(received).plain
    assert hidden not in line
    assert "[red]x" in line
    assert len(line.splitlines()) == 1


@pytest.fixture
def _logs_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


@pytest.mark.usefixtures("_logs_as_before")
@pytest.mark.parametrize("hidden", HIDDEN.values(), ids=HIDDEN)
def test_a_line_of_the_log_on_a_terminal_is_one_line(
    hidden: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(style="console")
    structlog.stdlib.get_logger("test").warning("a fault", error=f"no{hidden}thing")
    told = capsys.readouterr().err
    assert f"no{hidden}thing" not in told
    assert "thing" in told
    assert len(told.splitlines()) == 1
