"""The events of a few jobs, always the same, as the records that the relay would send."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from segexport.events.announcement import Voice, announce
from segexport.events.discards import Discard, expand
from segexport.events.record import Record, record_of, store_source
from segexport.events.vocabulary import EventCode
from segexport.jobs import job as steps
from segexport.jobs.job import Fault, FaultKind, Job, Scope, Step, Transition
from segexport.jobs.publication import Counts, DataFile, DiscardFile, Publication, PublishedBatch
from segexport.jobs.reading import parse_request

STORE = UUID("6b1f5f0e-7f9a-4c36-9d0b-2f6f3b0f4f11")
SCOPE = Scope("acme", "prod")
_BEGUN = datetime(2026, 3, 1, 12, 0, 0, 250_000, UTC)
_REQUEST = parse_request(
    {
        "filter": {"segments": [{"segmentId": "spring-sale"}]},
        "destination": {"datasetId": "audience"},
        "journey": {
            "versionId": "8a1f-v3",
            "namespace": "ECID",
            "id": "8a1f",
            "name": "Spring sale",
        },
    }
)
_DISCARDS = (
    Discard("ups", "spring-sale", 1042, EventCode.ERROR_INSTANCE_BAD_NAMESPACE),
    Discard("ups", "spring-sale", 977, EventCode.ERROR_INSTANCE_DUPLICATION),
)
_OUTCOME = Publication(
    batches=(
        PublishedBatch(
            id="b-1",
            files=(
                DataFile(name="part-00000.parquet", rows=4998, size=1_000_000, sha256="ab" * 32),
            ),
            counts=Counts(total=5000, realized=4998, failed=2),
        ),
    ),
    discards=DiscardFile(path=str(Path("discards")), sha256="0" * 64, rows=len(_DISCARDS)),
)
_FAULT = Fault(
    FaultKind.UNREACHABLE,
    "the profile store cannot be used (attempt 5, the last); whoever runs the service finds the "
    "cause in its log, under job 102",
    detail="/srv/profiles cannot be read (Input/output error) (attempt 5, the last)",
)


def told(form: str = "uri", dialect: str = "xdm") -> list[Record]:
    """Job 101 succeeds and discards two profiles; job 102 fails as it begins. In order."""
    voice = Voice.of(STORE, 1, dialect=dialect, form=form)
    return [*_success(voice), *_failure(voice)]


def _success(voice: Voice) -> Iterator[Record]:
    yield from _told(
        _submitted(101),
        (
            steps.claim,
            lambda job, now: steps.initialize(job, now, snapshot="snapshot-7"),
            lambda job, now: steps.start(job, now, pieces=4, estimate=5100),
            lambda job, now: steps.publish(job, now, _OUTCOME),
            steps.complete,
        ),
        voice,
    )


def _failure(voice: Voice) -> Iterator[Record]:
    fail = lambda job, now: steps.fail(job, now, _FAULT)  # noqa: E731  (a step like the others)
    yield from _told(_submitted(102), (steps.claim, fail, steps.clean_up), voice)


def _submitted(number: int) -> Transition:
    return steps.submit(
        _REQUEST, job_id=number, scope=SCOPE, request_id=f"request {number}", now=_BEGUN
    )


def _told(transition: Transition, way: tuple[Step, ...], voice: Voice) -> Iterator[Record]:
    job, records = _announced(transition, voice)
    yield from records
    for step in way:
        job, records = _announced(step(job, job.updated_at + timedelta(seconds=2)), voice)
        yield from records


def _announced(transition: Transition, voice: Voice) -> tuple[Job, list[Record]]:
    transition, rows = announce(transition, voice)
    source = store_source(STORE)
    records: list[Record] = []
    for row in rows:
        records += expand(row, _DISCARDS, 0, source) if row.discards else [record_of(row, source)]
    return transition.after, records
