"""Jobs and event rows for tests of the store, made by hand: any bytes will do as an event."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from segexport.events.outbox import OutboxRow
from segexport.jobs import job as steps
from segexport.jobs.job import Fault, FaultKind, Job, Scope, Step, Transition
from segexport.jobs.publication import Counts, DataFile, DiscardFile, Publication, PublishedBatch
from segexport.jobs.reading import parse_request
from segexport.jobs.request import ExportRequest
from segexport.store.store import JobStore

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
SCOPE = Scope("acme", "prod")
REQUEST = parse_request(
    {
        "fields": "person.name.lastName,homeAddress.city",
        "filter": {"segments": [{"segmentId": "s1", "status": ["realized", "exited"]}]},
        "destination": {"datasetId": "audience"},
        "journey": {"versionId": "v1", "namespace": "ECID", "testMode": True, "name": "Grüße"},
    }
)


def naming(*segments: str | tuple[str, str]) -> ExportRequest:
    """A request of these segments: each an id, or a namespace and an id."""
    named = [("ups", each) if isinstance(each, str) else each for each in segments]
    return parse_request(
        {
            "filter": {"segments": [{"segmentNs": ns, "segmentId": name} for ns, name in named]},
            "destination": {"datasetId": "audience"},
        }
    )


PUBLICATION = Publication(
    batches=(
        PublishedBatch(
            id="b-1",
            files=(
                DataFile(name="part-00000.parquet", rows=70, size=4_000_000_000, sha256="cd" * 32),
                DataFile(name="part-00001.parquet", rows=20, size=1, sha256="ef" * 32),
            ),
            counts=Counts(total=100, realized=90, failed=10),
            namespaces={"ECID": 90, "Email": 12},
        ),
    ),
    discards=DiscardFile(path="/data/discards/1.arrow", sha256="ab" * 32, rows=10),
    endpoints=(DataFile(name="endpoints-00000.json.gz", rows=130, size=9, sha256="09" * 32),),
    unknown_consents=7,
)
FAULT = Fault(FaultKind.UNREACHABLE, "the profile store «main» is away")
CANCELLATION = Fault(FaultKind.CANCELLED, "cancelled on request")

_ids = itertools.count(1)


def event_row(
    job: Job, sequence: int, *, event_id: UUID | None = None, discards: DiscardFile | None = None
) -> OutboxRow:
    """A row that says nothing, of this job."""
    return OutboxRow(
        job_id=job.id,
        scope=job.scope,
        sequence=sequence,
        event_id=event_id or uuid4(),
        type="finished" if discards is None else "discards",
        occurred_at=job.updated_at,
        value=f'{{"job": {job.id}, "sequence": {sequence}}}'.encode() + bytes([0, 255]),
        discards=discards,
    )


def announced(
    transition: Transition, events: int | None = None
) -> tuple[Transition, list[OutboxRow]]:
    """The transition with its rows: one if the step is announced, or as many as asked for."""
    if events is None:
        events = 1 if transition.milestone else 0
    first = transition.after.events + 1
    job = replace(transition.after, events=transition.after.events + events)
    rows = [event_row(job, sequence) for sequence in range(first, first + events)]
    return replace(transition, after=job), rows


def new_job(
    *,
    job_id: int | None = None,
    scope: Scope = SCOPE,
    request_id: str | None = None,
    now: datetime = NOON,
    deadline: datetime | None = None,
    retry_of: int | None = None,
    request: ExportRequest = REQUEST,
) -> tuple[Transition, list[OutboxRow]]:
    """The first transition of a job, with its row."""
    number = next(_ids)
    return announced(
        steps.submit(
            request,
            job_id=job_id or number,
            scope=scope,
            request_id=request_id or f"request {number}",
            now=now,
            deadline=deadline,
            retry_of=retry_of,
        )
    )


async def submitted(
    store: JobStore,
    *,
    job_id: int | None = None,
    scope: Scope = SCOPE,
    request_id: str | None = None,
    now: datetime = NOON,
    request: ExportRequest = REQUEST,
) -> Job:
    """A stored job in state CREATED."""
    transition, rows = new_job(
        job_id=job_id, scope=scope, request_id=request_id, now=now, request=request
    )
    return (await store.submit(transition, rows, fingerprint="f")).job


async def advanced(store: JobStore, job: Job, step: Step) -> Job:
    """The job after one more stored step."""
    transition, rows = announced(step(job, job.updated_at + timedelta(seconds=1)))
    await store.commit(transition, rows)
    return transition.after


def initialize(job: Job, now: datetime) -> Transition:
    """`steps.initialize` with facts."""
    return steps.initialize(job, now, snapshot="snapshot-7")


def start(job: Job, now: datetime) -> Transition:
    """`steps.start` with facts."""
    return steps.start(job, now, pieces=16, estimate=100)


def publish(job: Job, now: datetime) -> Transition:
    """`steps.publish` with facts."""
    return steps.publish(job, now, PUBLICATION)


def postpone(job: Job, now: datetime) -> Transition:
    """`steps.postpone` until now."""
    return steps.postpone(job, now, until=now)


def fail(job: Job, now: datetime) -> Transition:
    """`steps.fail` with facts."""
    return steps.fail(job, now, FAULT)


def cancel(job: Job, now: datetime) -> Transition:
    """`steps.cancel` with facts."""
    return steps.cancel(job, now, CANCELLATION)


WAY_TO_SUCCESS: Sequence[Step] = (steps.claim, initialize, start, publish, steps.complete)
WAY_TO_FAILURE: Sequence[Step] = (steps.claim, fail, steps.clean_up)
