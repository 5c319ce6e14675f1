"""How jobs look on a terminal, and as JSON for scripts."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Final

import orjson
from rich.console import Console
from rich.table import Table

from segexport.clerk import JobDocument
from segexport.clerk.documents import rfc_3339
from segexport.cli.markup import escape
from segexport.jobs.job import MAX_JOB_ID
from segexport.jobs.lifecycle import JobState
from segexport.printable import printable_json

out: Final = Console(highlight=False, soft_wrap=True)
"""Results go to stdout; logs and errors to stderr."""

_unbounded: Final = Console(highlight=False, soft_wrap=True, width=10_000)
"""For what is no terminal: nothing in a pipe or a file is cut short or wrapped."""

SHOWN_FAILURES: Final = 5
"""Failures of pieces that people see; scripts see all that are kept."""
JOB_ID_WIDTH: Final = len(str(MAX_JOB_ID))


class OutputFormat(StrEnum):
    """For people, or for machines."""

    TEXT = "text"
    JSON = "json"


_COLOURS: Final[Mapping[str, str]] = {
    JobState.COMPLETED: "green",
    JobState.FAILING: "red",
    JobState.FAILED: "red",
    JobState.CANCELLING: "yellow",
    JobState.CANCELLED: "yellow",
}


def coloured(state: str) -> str:
    """The state as Rich markup."""
    return f"[{_COLOURS.get(state, 'cyan')}]{escape(state)}[/]"


def print_table(table: Table) -> None:
    """A table as wide as the terminal, or as it needs to be where there is none."""
    (out if out.is_terminal else _unbounded).print(table)


def print_json(document: object) -> None:
    """One JSON document on one line."""
    out.print(json_text(document), markup=False)


def json_text(document: object) -> str:
    """A document as JSON on one line, without anything that a terminal would obey.

    A name of a file may hold bytes that are no text; only Python's own writer takes them.
    """
    try:
        text = orjson.dumps(document).decode()
    except orjson.JSONEncodeError:
        text = json.dumps(document, separators=(",", ":"))
    return printable_json(text)


def print_status(job: JobDocument, fault_detail: str | None = None) -> None:
    """A job in a few lines, with what only whoever runs the service may see of its fault."""
    facts = [
        ("job", str(job.id)),
        ("state", coloured(job.state)),
        ("dataset", escape(job.dataset_id)),
        ("segments", escape(segments_of(job))),
        ("created", rfc_3339(job.created_at)),
    ]
    if job.snapshot:
        facts.append(("snapshot", escape(job.snapshot)))
    if job.finished_at:
        seconds = (job.finished_at - job.created_at).total_seconds()
        facts.append(("finished", f"{rfc_3339(job.finished_at)} ({seconds:.1f} s after creation)"))
    elif job.pieces:
        pieces = f"{job.pieces_done} of {job.pieces} pieces"
        facts.append(("progress", f"{job.progress:.0%}, {pieces}{pace_of(job)}"))
    if job.has_succeeded:
        facts += [("batch", escape(told)) for told in _told_batches(job)]
    if job.counts:
        facts.append(("counts", counts_of(job)))
    if job.unknown_consents:
        facts.append(("unknown consents", f"{job.unknown_consents:,} endpoints are opted out"))
    facts += _errors_of(job, fault_detail)
    if job.retry_of:
        facts.append(("retry of", str(job.retry_of)))
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(f"[dim]{name}[/]", value)
    print_table(table)


def _errors_of(job: JobDocument, fault_detail: str | None) -> list[tuple[str, str]]:
    """Why it has failed, and what its pieces have met."""
    facts = [("error", escape(job.error.message))] if job.error else []
    if fault_detail:
        facts.append(("detail", escape(fault_detail)))
    failures = [error for error in job.errors if error.piece is not None]
    facts += [
        (f"piece {failure.piece}", escape(f"try {failure.attempt}: {failure.message}"))
        for failure in failures[:SHOWN_FAILURES]
    ]
    if len(failures) > SHOWN_FAILURES:
        facts.append(("", f"and {len(failures) - SHOWN_FAILURES} more failures"))
    return facts


def _told_batches(job: JobDocument) -> list[str]:
    """A batch a line, with its segment where each has its own."""
    segments = {batch.batch_id: batch.segment_id for batch in job.batches or ()}
    return [
        f"{batch}  {segments[batch]}" if batch in segments else batch
        for batch in job.batch_ids or ()
    ]


def pace_of(job: JobDocument) -> str:
    """How fast a job runs and how long it still takes, as far as that is known."""
    if job.rows_per_second is None or job.seconds_left is None:
        return ""
    left = timedelta(seconds=math.ceil(job.seconds_left))
    return f", {job.rows:,} rows, {job.rows_per_second:,.0f} rows/s, {left} left"


def print_jobs(jobs: Sequence[JobDocument]) -> None:
    """Jobs as a table, newest first."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("job", no_wrap=True, min_width=JOB_ID_WIDTH)
    for column in ("state", "created", "total/realized/failed"):
        table.add_column(column, no_wrap=True)
    table.add_column("dataset: segments", overflow="fold")
    for job in jobs:
        table.add_row(
            str(job.id),
            coloured(job.state),
            f"{job.created_at:%Y-%m-%d %H:%M:%S}",
            counts_of(job),
            escape(f"{job.dataset_id}: {segments_of(job)}"),
        )
    print_table(table)


def segments_of(job: JobDocument) -> str:
    """The segments of a request, shortened to what fits a line."""
    segments = job.segment_ids
    if not segments:
        return "all profiles"
    shown = ", ".join(segments[:3])
    return shown if len(segments) <= 3 else f"{shown} and {len(segments) - 3} more"  # noqa: PLR2004


def counts_of(job: JobDocument) -> str:
    """total/realized/failed, or a dash while they are not known."""
    counts = job.counts
    return f"{counts.total}/{counts.realized}/{counts.failed}" if counts else "-"
