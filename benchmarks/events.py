"""What events cost: judging and writing one, announcing a transition, expanding a discard.

    python benchmarks/events.py

The baseline of the first table is bare serialisation of documents that are already built:
what is above it is the price of knowing that every event is valid. `jsonschema` is the peer
that Python programs usually take for it, compiled once.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import orjson

from measure import Comparison, compare, print_header
from segexport.events import schema
from segexport.events.announcement import Voice, announce
from segexport.events.contract import Contract, judge, kind_of
from segexport.events.discards import DiscardRow, expand
from segexport.events.documents import Located, read_documents
from segexport.events.outbox import OutboxRow
from segexport.events.record import store_source
from segexport.events.xdm import Document
from segexport.jobs import job as steps
from segexport.jobs.job import Job, Scope, Transition
from segexport.jobs.publication import Counts, DiscardFile, Publication, PublishedBatch
from segexport.jobs.reading import parse_request

STORE = UUID("6c2c1c40-5d3b-4b0a-9a3f-0f6f3a1d2e01")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
REQUEST = parse_request(
    {
        "destination": {"datasetId": "gold-members"},
        "filter": {"segments": [{"segmentId": "b1d0bb71-5f2a-4a0e-8f0f-7a5b1f9f3d77"}]},
        "journey": {"versionId": "f3485959-0a9e-4004-82d9-f11bd6c4585b", "namespace": "Email"},
    }
)
JOBS = 2_000
REFERENCE_JOBS = 100
DISCARDS = 100_000


async def main() -> None:
    """Measure, and print the tables."""
    print_header("events", "orjson", "jsonschema-rs", "jsonschema")
    documents = [orjson.loads(row.value) for row in _announced(_voice("uri"), JOBS)]
    for comparing in (_writing(documents), _announcing(), _judging(documents), _expanding()):
        print(await comparing, "\n")


async def _writing(documents: list[Document]) -> Comparison:
    fast = {kind: schema.fast(schema.EMITTED, kind) for kind in map(kind_of, documents)}
    reference = {kind: schema.reference(schema.EMITTED, kind) for kind in fast}
    few = documents[: 2 * REFERENCE_JOBS]

    def ours() -> int:
        for document in documents:
            assert fast[kind_of(document)].is_valid(document)
            orjson.dumps(document)
        return len(documents)

    def with_jsonschema() -> int:
        for document in few:
            assert reference[kind_of(document)].is_valid(document)
            orjson.dumps(document)
        return len(few)

    def bare() -> int:
        for document in documents:
            orjson.dumps(document)
        return len(documents)

    return await compare(
        f"validate and serialise events of {len(orjson.dumps(documents[0]))} bytes",
        {
            "ours: jsonschema-rs + orjson": ours,
            "jsonschema + orjson": with_jsonschema,
            "orjson alone": bare,
        },
        baseline="orjson alone",
    )


async def _announcing() -> Comparison:
    def run(form: str) -> int:
        return len(_announced(_voice(form), JOBS))

    def steps_alone() -> int:
        for job_id in range(1, JOBS + 1):
            _start(_submit(job_id))
        return 2 * JOBS

    return await compare(
        "announce `queued` and `started`: build, check, serialise, with the steps themselves",
        {
            "URI form": lambda: run("uri"),
            "compact form": lambda: run("compact"),
            "the steps alone": steps_alone,
        },
        baseline="the steps alone",
    )


async def _judging(documents: list[Document]) -> Comparison:
    lines = [orjson.dumps(document) + b"\n" for document in documents]

    def judged(contract: Contract) -> int:
        for found in read_documents(lines):
            assert isinstance(found, Located)
            assert not judge(found.document, contract).findings
        return len(lines)

    def bare() -> int:
        for line in lines:
            orjson.loads(line)
        return len(lines)

    return await compare(
        "parse and judge, as `segexport validate` does",
        {
            "contract xdm": lambda: judged(Contract.XDM),
            "contract emitted": lambda: judged(Contract.EMITTED),
            "orjson.loads alone": bare,
        },
        baseline="orjson.loads alone",
    )


async def _expanding() -> Comparison:
    discards: list[DiscardRow] = [
        (
            "ups",
            REQUEST.filter.segments[0].segment_id,
            10**17 + number,
            "ERROR_INSTANCE_DUPLICATION",
        )
        for number in range(DISCARDS)
    ]
    rows = {form: _row_of_discards(_voice(form)) for form in ("uri", "compact")}
    document = orjson.loads(next(expand(rows["uri"], discards, 0, "source")).value)

    def run(form: str) -> int:
        for _ in expand(rows[form], discards, 0, store_source(STORE)):
            pass
        return DISCARDS

    def bare() -> int:
        for _ in discards:
            orjson.dumps(document)
        return DISCARDS

    return await compare(
        "expand a file of discards into records: ids, events, checks, headers",
        {
            "URI form": lambda: run("uri"),
            "compact form": lambda: run("compact"),
            "orjson.dumps of one event": bare,
        },
        baseline="orjson.dumps of one event",
        runs=5,
    )


def _voice(form: str) -> Voice:
    return Voice.of(STORE, 1, dialect="xdm", form=form)


def _submit(job_id: int) -> Transition:
    return steps.submit(
        REQUEST, job_id=job_id, scope=Scope("acme", "prod"), request_id="r", now=NOW
    )


def _start(submitted: Transition) -> Transition:
    job = steps.claim(submitted.after, NOW).after
    job = steps.initialize(job, NOW + timedelta(seconds=1), snapshot="s").after
    return steps.start(job, NOW + timedelta(seconds=2), pieces=16, estimate=1_000_000)


def _announced(voice: Voice, jobs: int) -> list[OutboxRow]:
    rows: list[OutboxRow] = []
    for job_id in range(1, jobs + 1):
        submitted, queued = announce(_submit(job_id), voice)
        _, started = announce(_start(submitted), voice)
        rows += queued + started
    return rows


def _row_of_discards(voice: Voice) -> OutboxRow:
    job: Job = _start(announce(_submit(7), voice)[0]).after
    outcome = Publication(
        batches=(
            PublishedBatch(
                id="b",
                files=(),
                counts=Counts(total=DISCARDS, realized=0, failed=DISCARDS),
            ),
        ),
        discards=DiscardFile(path="/none", sha256="0" * 64, rows=DISCARDS),
    )
    published = steps.publish(job, NOW + timedelta(seconds=3), outcome).after
    _, rows = announce(steps.complete(published, NOW + timedelta(seconds=4)), voice)
    return rows[0]


if __name__ == "__main__":
    asyncio.run(main())
