"""The line that `tail` shows of an event."""

from typing import Any

import orjson
import pytest
from rich.text import Text

from segexport.cli.lines import event_line
from segexport.consume.received import Received
from segexport.events.contract import Contract, judge
from segexport.events.vocabulary import OWN, Dialect, Form
from segexport.jobs.job import FaultKind
from support.events import EVENTS, EVERY_VOICE, NOW, Life, request, voice


def styled(document: dict[str, Any]) -> Text:
    received = Received(
        topic="events",
        partition=0,
        offset=0,
        timestamp=NOW,
        key="1",
        headers={},
        value=orjson.dumps(document),
        document=document,
        judgement=judge(document, Contract.EMITTED),
    )
    return event_line(received)


def line_of(document: dict[str, Any]) -> str:
    return styled(document).plain


@pytest.mark.parametrize(("dialect", "form"), EVERY_VOICE)
@pytest.mark.parametrize("kind", FaultKind)
def test_a_line_tells_a_cancelled_job_from_one_that_failed_or_was_late(
    dialect: Dialect, form: Form, kind: FaultKind
) -> None:
    document = Life(request("gold"), voice(dialect, form)).failed(kind).documents[-1]
    line = line_of(document)
    assert f" ({kind})  100/0/100  gold  ✓ valid" in line


def test_the_fault_of_an_event_of_an_earlier_version_is_told_as_well() -> None:
    document = EVENTS["failed (xdm, one segment)"]
    told = {key.replace(OWN, "urn:segexport:"): value for key, value in document.items()}
    assert "ERROR_EXPORTJOB_FAILED (failed)" in line_of(told)


def test_a_line_has_no_brackets_where_nothing_has_failed() -> None:
    for name, document in EVENTS.items():
        if name.startswith(("queued", "started", "succeeded", "discarded")):
            assert "(" not in line_of(document)


@pytest.mark.parametrize(("dialect", "form"), EVERY_VOICE)
def test_the_end_of_a_job_is_red_if_it_failed_and_green_if_nobody_was_there_to_export(
    dialect: Dialect, form: Form
) -> None:
    for ended, colour in (
        (Life(request("gold"), voice(dialect, form)).failed(), "red"),
        (Life(request("gold"), voice(dialect, form)).completed(total=0, discarded=0), "green"),
        (Life(request("gold"), voice(dialect, form)).completed(total=5, discarded=5), "green"),
    ):
        line = styled(ended.documents[-1])
        at = line.plain.index("finished")
        assert colour in [str(span.style) for span in line.spans if span.start == at]


def test_whatever_stands_in_the_place_of_a_fault_is_shown_and_nothing_else() -> None:
    document = {**EVENTS["failed (xdm, one segment)"], OWN + "fault": {"[red]\x1b[31m": 1}}
    line = line_of(document)
    assert "ERROR_EXPORTJOB_FAILED ({" in line
    assert line.isprintable()
