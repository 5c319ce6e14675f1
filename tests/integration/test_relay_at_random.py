"""Whatever jobs, faults and refusals come together: each event arrives once, in order."""

import asyncio
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segexport.errors import JobNotFound
from segexport.events.record import Record
from segexport.relay.schedule import Bounds
from segexport.settings import KafkaSettings
from segexport.store.sqlite import SqliteStore
from support.deliveries import complete, discard_file, relay_of, running, sent_by, submit
from support.examples import examples
from support.tape import Tape
from support.waiting import until

FAULTS = st.lists(st.sampled_from([None, None, "lost", "unanswered"]), max_size=12)
JOBS = st.lists(st.sampled_from([0, 0, 0, 1, 7, 150, 700]), min_size=1, max_size=8)
"""For each job, how many discards it has."""


@st.composite
def refusals(draw: st.DrawFn) -> dict[tuple[int, int], int]:
    """How often (which job, which of its events) is refused before it is taken."""
    jobs, sequences = st.integers(0, 7), st.sampled_from([1, 2, 3, 4, 5, 100, 152, 153])
    return draw(st.dictionaries(st.tuples(jobs, sequences), st.integers(1, 5), max_size=3))


@settings(
    max_examples=examples(30),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)
@given(jobs=JOBS, faults=FAULTS, refused=refusals(), size=st.sampled_from([3_000, 40_000, 1 << 23]))
def test_each_event_arrives_once_and_in_order(
    jobs: list[int], faults: list[str | None], refused: dict[tuple[int, int], int], size: int
) -> None:
    asyncio.run(_deliver(jobs, faults, refused, size))


async def _deliver(
    jobs: list[int], faults: list[str | None], refused: dict[tuple[int, int], int], size: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = await SqliteStore.open(Path(folder, "jobs.sqlite"))
        made = [await submit(store) for _ in jobs]
        left = Counter(
            {
                (b"%d" % made[place].id, b"%012d" % sequence): times
                for (place, sequence), times in refused.items()
                if place < len(made)
            }
        )

        def refuses(record: Record) -> bool:
            place = (record.key, dict(record.headers)["ce_sequence"])
            if left[place] <= 0:
                return False
            left[place] -= 1
            return True

        tape = Tape(refuses=refuses, faults=list(faults))
        relay = relay_of(
            store, KafkaSettings(), publishers=tape.publisher, bounds=Bounds(size=size)
        )
        async with running(relay):
            for job, discards in zip(made, jobs, strict=True):
                file = discard_file(Path(folder), discards) if discards else None
                await complete(store, job, file)
            await until(lambda: _all_arrived(tape, store), 60, "everything has arrived")
        expected = {
            key: [record.value for record in records]
            for key, records in (await sent_by(store)).items()
        }
        assert {
            key: [record.value for record in records] for key, records in tape.by_key.items()
        } == expected
        await store.close()


async def _all_arrived(tape: Tape, store: SqliteStore) -> bool:
    """Ask for a replay of whatever is parked; whether nothing is left."""
    for parked in await store.parked():
        with suppress(JobNotFound):  # an earlier replay has just come through
            await store.request_replay(parked.job_id)
    expected = sum(map(len, (await sent_by(store)).values()))
    return len(tape.records) >= expected and not await store.parked()
