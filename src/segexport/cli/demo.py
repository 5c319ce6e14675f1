"""`segexport demo`: the whole main job on the embedded defaults, in a folder of its own."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from segexport.cli.app import app
from segexport.cli.lines import event_line
from segexport.cli.present import coloured, out, print_table
from segexport.commands import Commands
from segexport.consume.consumer import EventReader
from segexport.consume.received import Received
from segexport.errors import TooLateToCancel
from segexport.events.contract import Contract, Verdict
from segexport.events.service_event import FAILED, REALIZED, STATUS, TOTAL
from segexport.events.vocabulary import SEGMENT_EXPORT_JOB
from segexport.exports.dataset import Datasets
from segexport.jobs.job import Job, Scope
from segexport.jobs.lifecycle import JobState, Milestone
from segexport.jobs.publication import Counts
from segexport.jobs.reading import parse_request
from segexport.profiles.builder import Resources
from segexport.profiles.sample import build_sample
from segexport.service import commands_of, running
from segexport.settings import EventSettings, KafkaSettings, load_settings
from segexport.telemetry import configure_logging

EXIT_DIFFERENT: Final = 1
"""Store, dataset and events do not tell the same."""

PATIENCE: Final = timedelta(seconds=90)
"""What all jobs and the last of their events may take."""

SHOWN_DISCARDS: Final = 3
"""Discards shown of each job; the others are counted."""


@dataclass(frozen=True, slots=True)
class Story:
    """A job of the demonstration and how it is meant to end."""

    name: str
    title: str
    ends: JobState
    request: Mapping[str, Any]


STORIES: Final = (
    Story(
        "segment",
        "two fields of the members of one segment",
        JobState.COMPLETED,
        {
            "fields": "person.name,personalEmail.address",
            "filter": {"segments": [{"segmentId": "loyalty-gold"}]},
            "destination": {"datasetId": "gold-members"},
        },
    ),
    Story(
        "journey",
        "the same for a journey by e-mail, with discards",
        JobState.COMPLETED,
        {
            "fields": "personalEmail.address,identityMap",
            "filter": {"segments": [{"segmentId": "loyalty-gold"}]},
            "destination": {"datasetId": "spring-journey"},
            "journey": {"versionId": "spring-v3", "namespace": "Email"},
        },
    ),
    Story(
        "blocked",
        "a dataset whose folder is occupied by a file",
        JobState.FAILED,
        {
            "filter": {"segments": [{"segmentId": "newsletter-gold"}]},
            "destination": {"datasetId": "occupied"},
        },
    ),
    Story(
        "cancelled",
        "every profile with all fields, cancelled while it runs",
        JobState.CANCELLED,
        {"destination": {"datasetId": "everything"}},
    ),
)


@app.command()
def demo(
    profiles: Annotated[int, typer.Option(min=1_000, help="How many profiles.")] = 100_000,
    keep: Annotated[Path | None, typer.Option(help="Work in this new folder and keep it.")] = None,
) -> None:
    """Show the main job: export a made-up audience and follow the events on Kafka.

    Needs no Kafka and no settings. Ends with a table that compares the counts in the store,
    in the dataset and in the events; exit status 0 if they are the same.

        segexport demo --profiles 1000000
    """
    configure_logging(style="console", level="error")
    if keep is not None:
        if keep.exists() and any(keep.iterdir()):
            raise typer.BadParameter(f"{keep} is not empty", param_hint="--keep")
        agree = asyncio.run(_show(keep, profiles))
    else:
        with tempfile.TemporaryDirectory(prefix="segexport-demo-") as folder:
            agree = asyncio.run(_show(Path(folder), profiles))
    if not agree:
        raise typer.Exit(EXIT_DIFFERENT)


async def _show(folder: Path, profiles: int) -> bool:
    # Whatever is configured elsewhere, the demonstration touches nothing outside its folder.
    settings = load_settings(
        data=folder, profiles=None, datasets=None, kafka=KafkaSettings(), events=EventSettings()
    )
    out.rule(f"1. A profile store of {profiles:,} made-up profiles", align="left")
    exports = settings.exports
    snapshot = await asyncio.to_thread(
        build_sample,
        settings.profiles_folder,
        profiles=profiles,
        seed=1,
        now=datetime.now(UTC),
        resources=Resources(threads=exports.threads, memory_limit=exports.memory_limit),
    )
    out.print(
        f"{snapshot.persons:,} persons in {snapshot.fragments:,} fragments, "
        f"{len(snapshot.segments)} segments"
    )
    occupied = settings.datasets_folder / settings.organization / settings.sandbox / "occupied"
    occupied.parent.mkdir(parents=True)
    occupied.write_text("a file where the folder of a dataset should be\n")
    out.rule("2. Jobs, and their events as a Kafka consumer receives them", align="left")
    async with running(settings) as parts:
        commands = commands_of(settings, parts.store)
        ledger = Ledger()
        scope = Scope(settings.organization, settings.sandbox)
        async with asyncio.timeout(PATIENCE.total_seconds()), asyncio.TaskGroup() as group:
            listening = group.create_task(_listen(parts.kafka, ledger))
            jobs = [await _tell(commands, scope, story, ledger) for story in STORIES]
            listening.cancel()
    out.rule("3. What the store, the dataset and the events say", align="left")
    agree = _compare(jobs, ledger, Datasets.of(settings))
    as_told = all(job.state is story.ends for job, story in zip(jobs, STORIES, strict=True))
    verdict = "[green]they agree[/]" if agree else "[bold red]they differ[/]"
    records, valid = ledger.records.total(), ledger.valid.total()
    out.print(f"{records:,} events, {valid:,} of them valid: {verdict}")
    return agree and as_told


async def _tell(commands: Commands, scope: Scope, story: Story, ledger: "Ledger") -> Job:
    """Submit a job, see it to its end, and wait for the last of its events."""
    job = (await commands.submit(scope, parse_request(story.request))).job
    out.print(f"[bold]job {job.id}: {story.title}[/]")
    if story.ends is JobState.CANCELLED:
        await _until(commands, job, lambda job: job.state is JobState.PROCESSING or job.is_terminal)
        with suppress(TooLateToCancel):
            await commands.cancel(scope, job.id, reason="the demonstration changed its mind")
    job = await _until(commands, job, lambda job: job.is_terminal)
    await ledger.has(str(job.id), job.events)
    return job


async def _until(commands: Commands, job: Job, holds: Callable[[Job], bool]) -> Job:
    seen = 0
    while not holds(job):
        seen = await commands.store.wait_for_change(seen, timedelta(seconds=1))
        job = await commands.store.get(job.scope, job.id)
    return job


class Ledger:
    """What was received: how much of each job, and the counts that its last event told."""

    def __init__(self) -> None:
        self.records: Counter[str] = Counter()
        self.valid: Counter[str] = Counter()
        self.discards: Counter[str] = Counter()
        self.finished: dict[str, Counts] = {}
        self._news = asyncio.Condition()

    async def enter(self, received: Received) -> bool:
        """Note a record; returns whether it is one to show."""
        job = received.key or ""
        event = received.document[SEGMENT_EXPORT_JOB]
        self.valid[job] += received.judgement.verdict is Verdict.VALID
        if STATUS not in event:
            self.discards[job] += 1
        elif event[STATUS] == Milestone.FINISHED:
            self.finished[job] = Counts(
                total=event[TOTAL], realized=event[REALIZED], failed=event[FAILED]
            )
        async with self._news:
            self.records[job] += 1
            self._news.notify_all()
        return STATUS in event or self.discards[job] <= SHOWN_DISCARDS

    async def has(self, job: str, records: int) -> None:
        """Return once so many records of the job have come."""
        async with self._news:
            await self._news.wait_for(lambda: self.records[job] >= records)


async def _listen(kafka: KafkaSettings, ledger: Ledger) -> None:
    async with EventReader(kafka, contract=Contract.EMITTED) as reader:
        async for received in reader.follow():
            if await ledger.enter(received):
                out.print(event_line(received))
            elif ledger.discards[received.key or ""] == SHOWN_DISCARDS + 1:
                out.print("              … and more discards of this job")


def _compare(jobs: list[Job], ledger: Ledger, datasets: Datasets) -> bool:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("job", "ended as", "store", "dataset", "events", "discards", ""):
        table.add_column(column, no_wrap=True)
    agree = True
    for job, story in zip(jobs, STORIES, strict=True):
        key = str(job.id)
        told = ledger.finished.get(key)
        exported = _rows_of(job, datasets)
        discarded = ledger.discards[key]
        published = job.state is JobState.COMPLETED
        same = (
            job.counts is not None
            and ledger.records[key] == ledger.valid[key] == job.events
            and told == job.counts
            and exported == job.counts.realized
            and discarded == (job.counts.failed if published else 0)
        )
        agree = agree and same
        table.add_row(
            story.name,
            coloured(job.state),
            _counts(job.counts),
            str(exported),
            _counts(told),
            str(discarded),
            "[green]✓[/]" if same else "[bold red]✗[/]",
        )
    print_table(table)
    return agree


def _rows_of(job: Job, datasets: Datasets) -> int:
    """The rows of the job's batch, counted in its files; 0 where it has published none."""
    if job.state is not JobState.COMPLETED or job.publication is None:
        return 0
    dataset = datasets.dataset(job.scope, job.request.destination.dataset_id)
    batch = dataset.batch(job.publication.batches[0].id)
    batch.verify()
    return sum(file.rows for file in batch.manifest.files)


def _counts(counts: Counts | None) -> str:
    return f"{counts.total}/{counts.realized}/{counts.failed}" if counts else "-"
