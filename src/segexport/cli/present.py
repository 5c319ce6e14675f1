"""How jobs look on a terminal, and as JSON for scripts."""

import math
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segexport.commands import JobStatus
from segexport.jobs.job import MAX_JOB_ID, Job
from segexport.jobs.lifecycle import JobState

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


_COLOURS: Final = {
    JobState.COMPLETED: "green",
    JobState.FAILING: "red",
    JobState.FAILED: "red",
    JobState.CANCELLING: "yellow",
    JobState.CANCELLED: "yellow",
}


def coloured(state: JobState) -> str:
    """The state as Rich markup."""
    return f"[{_COLOURS.get(state, 'cyan')}]{state}[/]"


def print_table(table: Table) -> None:
    """A table as wide as the terminal, or as it needs to be where there is none."""
    (out if out.is_terminal else _unbounded).print(table)


def print_json(document: object) -> None:
    """One JSON document on one line."""
    out.print(orjson.dumps(document).decode(), markup=False)


def job_document(job: Job) -> dict[str, Any]:
    """A job as a JSON document: times in RFC 3339, absent facts left out."""
    counts = job.counts
    publication = job.publication
    document: dict[str, Any] = {
        "id": job.id,
        "organization": job.scope.organization,
        "sandbox": job.scope.sandbox,
        "state": job.state.value,
        "status": job.platform_status,
        "requestId": job.request_id,
        "createdAt": _time(job.created_at),
        "updatedAt": _time(job.updated_at),
        "startedAt": _time(job.started_at),
        "finishedAt": _time(job.finished_at),
        "deadline": _time(job.deadline),
        "attempts": job.attempts,
        "retryOf": job.retry_of,
        "snapshot": job.snapshot,
        "estimate": job.estimate,
        "pieces": job.pieces,
        "counts": counts
        and {"total": counts.total, "realized": counts.realized, "failed": counts.failed},
        "namespaces": dict(publication.namespaces) if publication else None,
        "batchIds": [batch.id for batch in publication.batches] if publication else None,
        "batches": _batches(job),
        "error": job.fault and {"kind": job.fault.kind.value, "message": job.fault.message},
        "request": job.request.document(),
    }
    return {key: value for key, value in document.items() if value is not None}


def _batches(job: Job) -> list[dict[str, Any]] | None:
    """Which segment each batch is for, where each has its own, in the words of the API."""
    if job.publication is None or not job.request.destination.segment_per_batch:
        return None
    segments = job.request.document()["filter"]["segments"]
    return [
        {**segments[batch.segment], "batchId": batch.id}
        for batch in job.publication.batches
        if batch.segment is not None
    ]


def status_document(status: JobStatus) -> dict[str, Any]:
    """A job with its progress."""
    return {
        **job_document(status.job),
        "progress": round(status.progress, 4),
        "piecesDone": status.pieces_done,
        "rows": status.rows,
        "rowsPerSecond": None if status.rate is None else round(status.rate, 1),
        "secondsLeft": None if status.remaining is None else round(status.remaining, 1),
        "errors": _errors(status),
    }


def _errors(status: JobStatus) -> list[dict[str, Any]]:
    """Why the job has ended as it did, then what its pieces have met."""
    fault = status.job.fault
    ended = [{"code": fault.kind.value, "message": fault.message}] if fault else []
    met = [
        {
            "code": "piece",
            "message": failure.message,
            "piece": failure.piece,
            "attempt": failure.attempt,
            "failedAt": _time(failure.failed_at),
        }
        for failure in status.failures
    ]
    return [*ended, *met]


def print_status(status: JobStatus) -> None:
    """A job in a few lines."""
    job = status.job
    facts = [
        ("job", str(job.id)),
        ("state", coloured(job.state)),
        ("dataset", escape(job.request.destination.dataset_id)),
        ("segments", escape(segments_of(job))),
        ("created", _time(job.created_at) or ""),
    ]
    if job.snapshot:
        facts.append(("snapshot", job.snapshot))
    if job.finished_at:
        seconds = (job.finished_at - job.created_at).total_seconds()
        facts.append(("finished", f"{_time(job.finished_at)} ({seconds:.1f} s after creation)"))
    elif job.pieces:
        pieces = f"{status.pieces_done} of {job.pieces} pieces"
        facts.append(("progress", f"{status.progress:.0%}, {pieces}{pace_of(status)}"))
    if job.publication and job.state is JobState.COMPLETED:
        facts += [("batch", told) for told in _told_batches(job)]
    if job.counts:
        facts.append(("counts", counts_of(job)))
    if job.fault:
        facts.append(("error", escape(job.fault.message)))
    facts += [
        (f"piece {failure.piece}", escape(f"try {failure.attempt}: {failure.message}"))
        for failure in status.failures[:SHOWN_FAILURES]
    ]
    if len(status.failures) > SHOWN_FAILURES:
        facts.append(("", f"and {len(status.failures) - SHOWN_FAILURES} more failures"))
    if job.retry_of:
        facts.append(("retry of", str(job.retry_of)))
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(f"[dim]{name}[/]", value)
    print_table(table)


def _told_batches(job: Job) -> list[str]:
    """A batch a line, with its segment where each has its own."""
    batches = job.publication.batches if job.publication else ()
    segments = job.request.filter.segments
    return [
        batch.id
        if batch.segment is None
        else f"{batch.id}  {escape(segments[batch.segment].segment_id)}"
        for batch in batches
    ]


def pace_of(status: JobStatus) -> str:
    """How fast a job runs and how long it still takes, as far as that is known."""
    if status.rate is None or status.remaining is None:
        return ""
    left = timedelta(seconds=math.ceil(status.remaining))
    return f", {status.rows:,} rows, {status.rate:,.0f} rows/s, {left} left"


def print_jobs(jobs: list[Job]) -> None:
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
            escape(f"{job.request.destination.dataset_id}: {segments_of(job)}"),
        )
    print_table(table)


def segments_of(job: Job) -> str:
    """The segments of a request, shortened to what fits a line."""
    segments = [segment.segment_id for segment in job.request.filter.segments]
    if not segments:
        return "all profiles"
    shown = ", ".join(segments[:3])
    return shown if len(segments) <= 3 else f"{shown} and {len(segments) - 3} more"  # noqa: PLR2004


def counts_of(job: Job) -> str:
    """total/realized/failed, or a dash while they are not known."""
    counts = job.counts
    return f"{counts.total}/{counts.realized}/{counts.failed}" if counts else "-"


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else None
