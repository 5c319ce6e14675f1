"""Commands about jobs: submit, status, list, cancel, retry."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from segexport.clerk import Clerk, JobDocument, Submitted
from segexport.cli.app import app
from segexport.cli.asked import RequestOptions, read_request
from segexport.cli.clerks import open_clerk
from segexport.cli.present import (
    OutputFormat,
    coloured,
    out,
    pace_of,
    print_jobs,
    print_json,
    print_status,
)
from segexport.jobs.lifecycle import JobState, states_named
from segexport.jobs.request import FileFormat
from segexport.settings import load_settings

EXIT_JOB_FAILED = 1
"""The job that was waited for has failed or was cancelled."""

JobId = Annotated[int, typer.Argument(help="The job's id, as `submit` and `list` show it.")]
Format = Annotated[OutputFormat, typer.Option("--format", help="For people, or for scripts.")]
Wait = Annotated[bool, typer.Option("--wait", help="Follow the job to its end.")]
Url = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Ask the service there, instead of the store here; by default client.url.",
    ),
]
RequestId = Annotated[
    str | None,
    typer.Option(
        help="Makes the command repeatable: within 24 hours, the same id gives the same job."
    ),
]


@app.command()
def submit(
    request: Annotated[
        Path | None,
        typer.Argument(help="The request as JSON, in a file or on stdin (`-`).", allow_dash=True),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="The dataset to export to.")] = None,
    segment: Annotated[
        list[str] | None, typer.Option(help="A segment to export; may be repeated. None: all.")
    ] = None,
    segment_namespace: Annotated[
        str | None, typer.Option(help="The namespace of the segments.", show_default="ups")
    ] = None,
    status: Annotated[
        list[str] | None, typer.Option(help="realized, existing or exited; may be repeated.")
    ] = None,
    fields: Annotated[str, typer.Option(help="Dotted paths, separated by commas. None: all.")] = "",
    merge_policy: Annotated[
        str | None, typer.Option(help="The merge policy's id; by default that of the segments.")
    ] = None,
    segment_per_batch: Annotated[
        bool, typer.Option("--segment-per-batch", help="A batch for each segment.")
    ] = False,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Evaluate the segments by their definitions first.")
    ] = False,
    file_format: Annotated[
        FileFormat | None,
        typer.Option(help="The format of the dataset's files.", show_default="parquet"),
    ] = None,
    journey_version: Annotated[
        str | None, typer.Option(help="The journey version that the audience is for.")
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(help="The journey's identity namespace, such as Email.")
    ] = None,
    journey_id: Annotated[
        str | None, typer.Option(help="The journey's id, which its versions share.")
    ] = None,
    journey_name: Annotated[str | None, typer.Option(help="What people call the journey.")] = None,
    test_mode: Annotated[bool, typer.Option(help="The journey takes test profiles only.")] = False,
    request_id: RequestId = None,
    deadline: Annotated[
        float | None,
        typer.Option(min=1, help="Seconds that the job may take; at most exports.deadline."),
    ] = None,
    wait: Wait = False,
    url: Url = None,
    output: Format = OutputFormat.TEXT,
) -> None:
    """Submit an export job. With --wait, exit status 1 if it failed or was cancelled.

    From options:

        segexport submit --dataset gold-members --segment loyalty-gold --wait

    For a journey, whose undeliverable profiles become discard events:

        segexport submit --dataset spring --segment loyalty-gold --journey-version v12 --namespace Email --journey-name "Spring sale"

    A batch for each of two segments, evaluated just before, as gzipped NDJSON:

        segexport submit --dataset both --segment a --segment b --segment-per-batch --evaluate --file-format ndjson.gz

    From the body of an Experience Platform request:

        segexport submit request.json --request-id nightly-2026-01-31

    To a service elsewhere, with the login of the settings (SEGEXPORT_CLIENT__API_KEY and
    SEGEXPORT_CLIENT__CLIENT_SECRET):

        segexport submit request.json --url https://exports.example --wait
    """  # noqa: E501  (an example that can be copied stands on one line)
    options = RequestOptions(
        dataset=dataset,
        segments=segment or (),
        segment_namespace=segment_namespace,
        statuses=status or (),
        fields=fields,
        merge_policy=merge_policy,
        segment_per_batch=segment_per_batch,
        evaluate=evaluate,
        file_format=file_format,
        journey_version=journey_version,
        namespace=namespace,
        journey_id=journey_id,
        journey_name=journey_name,
        test_mode=test_mode,
    )
    if request is not None and options.are_given:
        raise typer.BadParameter("give a request file or options, not both")
    asked = options.request() if request is None else read_request(request)
    legible = asked.legible

    async def act(clerk: Clerk) -> int:
        submitted = await clerk.submit(
            legible,
            request_id=request_id,
            deadline=timedelta(seconds=deadline) if deadline else None,
            problems=asked.problems,
        )
        return await _show_new_job(clerk, submitted, wait=wait, output=output)

    _run(url, act)


@app.command()
def status(
    job_id: JobId, wait: Wait = False, url: Url = None, output: Format = OutputFormat.TEXT
) -> None:
    """Show a job: its state, its progress, its counts.

    Of a job of the store here, the detail of an error names the files and addresses that were
    meant; a service elsewhere tells them to nobody. With --wait, exit status 1 if it failed or
    was cancelled.

    For example:

        segexport status 4711 --wait

        segexport status 4711 --url https://exports.example --format json
    """

    async def act(clerk: Clerk) -> int:
        if wait:
            return await _follow(clerk, job_id, output)
        await _show(clerk, await clerk.status(job_id), output)
        return 0

    _run(url, act)


@app.command("list")
def list_jobs(
    state: Annotated[
        list[str] | None,
        typer.Option(
            help="Only these: NEW, PROCESSING, SUCCEEDED, FAILED (those cancelled as well), or a "
            "state's own name, such as CANCELLED."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 20,
    url: Url = None,
    output: Format = OutputFormat.TEXT,
) -> None:
    """List jobs, newest first.

    Those of the organization and the sandbox in the settings.

    For example:

        segexport list --state FAILED --limit 5

        segexport list --url https://exports.example
    """
    wanted = _states(state)

    async def act(clerk: Clerk) -> int:
        jobs = await clerk.list(states=wanted, limit=limit)
        if output is OutputFormat.JSON:
            for job in jobs:
                print_json(job.document())
        elif jobs:
            print_jobs(jobs)
        else:
            out.print("no jobs")
        return 0

    _run(url, act)


@app.command()
def cancel(
    job_id: JobId,
    reason: Annotated[str, typer.Option(help="Goes into the job and its last event.")] = (
        "cancelled on request"
    ),
    url: Url = None,
    output: Format = OutputFormat.TEXT,
) -> None:
    """Ask a job to stop. A job that has ended already is left as it is.

    One that is being published, or failing, can no longer be cancelled: exit status 2.

    For example:

        segexport cancel 4711 --reason "wrong segment"

        segexport cancel 4711 --url https://exports.example
    """

    async def act(clerk: Clerk) -> int:
        job = await clerk.cancel(job_id, reason=reason)
        if output is OutputFormat.JSON:
            print_json(job.document())
        else:
            out.print(f"job {job.id} is {coloured(job.state)}")
        return 0

    _run(url, act)


@app.command()
def retry(
    job_id: JobId,
    request_id: RequestId = None,
    wait: Wait = False,
    url: Url = None,
    output: Format = OutputFormat.TEXT,
) -> None:
    """Submit the request of an earlier job again, as a new job.

    With --wait, exit status 1 if it failed or was cancelled.

    For example:

        segexport retry 4711 --wait

        segexport retry 4711 --url https://exports.example
    """

    async def act(clerk: Clerk) -> int:
        submitted = await clerk.retry(job_id, request_id=request_id)
        return await _show_new_job(clerk, submitted, wait=wait, output=output)

    _run(url, act)


def _run(url: str | None, act: Callable[[Clerk], Awaitable[int]]) -> None:
    """Have `act` ask whoever the settings name, or `url` instead; leave with its exit status."""
    settings = load_settings() if url is None else load_settings(client={"url": url})

    async def ask() -> int:
        async with open_clerk(settings) as clerk:
            return await act(clerk)

    if exit_status := asyncio.run(ask()):
        raise typer.Exit(exit_status)


async def _show_new_job(
    clerk: Clerk, submitted: Submitted, *, wait: bool, output: OutputFormat
) -> int:
    job = submitted.job
    if output is OutputFormat.TEXT:
        known = "" if submitted.created else " (the job of this request id, submitted before)"
        out.print(f"job [bold]{job.id}[/]{known}")
    if wait:
        return await _follow(clerk, job.id, output)
    if output is OutputFormat.JSON:
        print_json(job.document())
    return 0


async def _follow(clerk: Clerk, job_id: int, output: OutputFormat) -> int:
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as bar:
        task = bar.add_task("waiting", total=1.0)
        async for job in clerk.follow(job_id):
            bar.update(task, completed=job.progress, description=f"{job.state}{pace_of(job)}")
    await _show(clerk, job, output)
    return 0 if job.has_succeeded else EXIT_JOB_FAILED


async def _show(clerk: Clerk, job: JobDocument, output: OutputFormat) -> None:
    detail = await clerk.fault_detail(job.id) if job.error else None
    if output is OutputFormat.TEXT:
        print_status(job, detail)
        return
    document = job.document()
    if detail:
        document["error"]["detail"] = detail
    print_json(document)


def _states(names: list[str] | None) -> set[JobState] | None:
    if not names:
        return None
    chosen: set[JobState] = set()
    for name in names:
        matching = states_named(name)
        if not matching:
            raise typer.BadParameter(
                f"{name!r} is neither a status nor a state", param_hint="--state"
            )
        chosen |= matching
    return chosen
