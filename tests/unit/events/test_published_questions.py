"""What Journey Optimizer's published dashboards ask, on the events of jobs of every outcome.

The questions are in our own words, with the published conditions: rows about jobs are those
whose eventType is `segmenttrigger-orchestrator`; a job has ended when its eventCode is
INFO_EXPORTJOB_SUCCEEDED or ERROR_EXPORTJOB_FAILED; discards are found by their eventCode.
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from segexport.events.discards import DiscardRow
from segexport.events.vocabulary import Dialect, Form
from segexport.jobs import job as steps
from segexport.jobs.job import Fault, FaultKind
from support.events import CODES, Life, request, voice
from support.step_events import StepEvents, values_of

PLAIN, DISCARDING, SEVERAL, FAILED, LATE, LOST = "101", "102", "103", "104", "105", "106"
CANCELLED, RUNNING = "107", "108"
UNTOUCHED, EARLY, AWAY, WITHDRAWN = "109", "110", "111", "112"
"""Job ids: those that started, then those that did not."""
DISCARDS: list[DiscardRow] = [
    *(("ups", "gold", person, CODES[0]) for person in range(1, 21)),
    *(("ups", "gold", person, CODES[1]) for person in range(21, 51)),
    ("ups", "gold", 51, CODES[2]),
    ("ups", "gold", 52, CODES[3]),
]
AGAIN: list[DiscardRow] = [("crm", "new", 1, CODES[0]), ("ups", "gold", 99, CODES[4])]
RUN_TIME = timedelta(minutes=7)


def journeys(dialect: Dialect, form: Form) -> Iterator[bytes]:
    """The records of a store with every outcome, for one journey version."""
    speaking = voice(dialect, form)

    def job(number: str, *segments: str) -> Life:
        wanted = request(*(segments or ("gold",)), journey=True)
        return Life(wanted, speaking, job_id=int(number))

    plain = job(PLAIN).started()
    plain.later(RUN_TIME - timedelta(seconds=3))
    yield from values_of(plain.published(100, 0))
    yield from values_of(job(DISCARDING).completed(100, len(DISCARDS)), DISCARDS)
    yield from values_of(job(SEVERAL, "gold", "crm/new").completed(10, len(AGAIN)), AGAIN)
    yield from values_of(job(FAILED).failed())
    yield from values_of(job(LATE).failed(FaultKind.DEADLINE))
    tried_again = job(LOST).started()
    tried_again.step(steps.postpone, until=tried_again.job.updated_at).step(steps.claim)
    yield from values_of(_failing(tried_again, FaultKind.UNREACHABLE))
    yield from values_of(job(CANCELLED).failed(FaultKind.CANCELLED))
    yield from values_of(job(RUNNING).started())
    yield from values_of(job(UNTOUCHED))
    yield from values_of(_failing(job(EARLY), FaultKind.DEADLINE))
    yield from values_of(_failing(job(AWAY).step(steps.claim), FaultKind.UNREACHABLE))
    cancelled = Fault(FaultKind.CANCELLED, "not needed")
    yield from values_of(job(WITHDRAWN).step(steps.cancel, cancelled))


def _failing(life: Life, kind: FaultKind) -> Life:
    return life.step(steps.fail, Fault(kind, "it is away")).step(steps.clean_up)


@pytest.fixture(params=Form)
def asked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StepEvents]:
    """The table, in the dialect whose queries are published."""
    table = StepEvents(tmp_path, journeys(Dialect.JOURNEY_OPTIMIZER, request.param))
    yield table
    table.close()


@pytest.fixture(params=Dialect)
def in_each_dialect(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StepEvents]:
    """The table, in the dialect of the test's turn."""
    table = StepEvents(tmp_path, journeys(request.param, Form.URI))
    yield table
    table.close()


ABOUT_JOBS = "job.eventType = 'segmenttrigger-orchestrator'"
ENDED = "job.eventCode in ('INFO_EXPORTJOB_SUCCEEDED', 'ERROR_EXPORTJOB_FAILED')"
STARTED = {PLAIN, DISCARDING, SEVERAL, FAILED, LATE, LOST, CANCELLED, RUNNING}
ALL = STARTED | {UNTOUCHED, EARLY, AWAY, WITHDRAWN}


def test_the_overview_has_the_rows_of_jobs_and_no_discard(asked: StepEvents) -> None:
    overview = asked.rows(f"select job.ID, job.status from events where {ABOUT_JOBS} order by all")
    assert len(overview) == len(set(overview))
    assert {(number, "queued") for number in ALL} <= set(overview)
    assert {number for number, status in overview if status == "started"} == STARTED
    running = {RUNNING, UNTOUCHED}
    assert {number for number, status in overview if status == "finished"} == ALL - running
    assert len(overview) == len(ALL) + len(STARTED) + len(ALL - running)


def test_no_job_that_has_ended_seems_to_run(asked: StepEvents) -> None:
    running = asked.rows(
        f"""select job.ID from events where {ABOUT_JOBS} group by job.ID
            having count(*) filter (job.status = 'started') > 0
               and count(*) filter ({ENDED}) = 0"""
    )
    assert running == [(RUNNING,)]


def test_each_job_that_started_and_ended_has_one_row_that_says_so(asked: StepEvents) -> None:
    ended = asked.table(
        f"select job.ID, min(job.eventCode), count(*) from events where {ABOUT_JOBS} and {ENDED} "
        "group by job.ID"
    )
    succeeded = ("INFO_EXPORTJOB_SUCCEEDED", 1)
    failed = ("ERROR_EXPORTJOB_FAILED", 1)
    assert ended == {
        **dict.fromkeys((PLAIN, DISCARDING, SEVERAL), succeeded),
        **dict.fromkeys((FAILED, LATE, LOST, CANCELLED, WITHDRAWN), failed),
    }


def test_the_errors_are_of_the_jobs_that_have_not_succeeded(asked: StepEvents) -> None:
    errors = asked.table(
        f"""select job.ID, job.eventCode from events
            where {ABOUT_JOBS} and job.eventCode in
                ('ERROR_EXPORTJOB_FAILED', 'ERROR_TOPIC_CREATION', 'ERROR_EXPORTJOB_APICALL',
                 'ERROR_EXPORTJOB_APICALL_TIMEOUT')"""
    )
    assert errors == {
        **dict.fromkeys((FAILED, LATE, LOST, CANCELLED, WITHDRAWN), "ERROR_EXPORTJOB_FAILED"),
        EARLY: "ERROR_EXPORTJOB_APICALL_TIMEOUT",
        AWAY: "ERROR_EXPORTJOB_APICALL",
    }


METRICS = f"""
    with ended as (
        select job.ID as id, sum(job.exportCountTotal) as total,
               sum(job.exportCountRealized) as realized, sum(job.exportCountFailed) as failed
        from events where {ABOUT_JOBS} and {ENDED} group by job.ID
    ), discards as (
        select job.ID as id, count(distinct profile.ID) as profiles
        from events where job.eventCode like 'ERROR_INSTANCE_%' group by job.ID
    )
    select ended.*, coalesce(profiles, 0) from ended left join discards using (id)"""


def test_the_metrics_of_a_job_are_its_counts_and_its_discards(asked: StepEvents) -> None:
    assert asked.table(METRICS) == {
        PLAIN: (100, 100, 0, 0),
        DISCARDING: (100, 48, 52, 52),
        SEVERAL: (10, 8, 2, 2),
        **dict.fromkeys((FAILED, LATE, LOST, CANCELLED), (100, 0, 100, 0)),
        WITHDRAWN: (0, 0, 0, 0),
    }


def test_the_metrics_of_a_journey_version_are_the_sums(asked: StepEvents) -> None:
    (row,) = asked.rows(
        f"""select journey.versionID, sum(job.exportCountTotal), sum(job.exportCountRealized),
                   sum(job.exportCountFailed)
            from events where {ABOUT_JOBS} and {ENDED} group by all"""
    )
    assert row == ("v12", 610, 156, 454)


def test_our_own_key_tells_a_cancel_from_a_failure_and_a_deadline(asked: StepEvents) -> None:
    faults = asked.table(
        f"select job.ID, own.fault from events where {ABOUT_JOBS} and own.fault is not null"
    )
    assert faults == {
        FAILED: "failed",
        LATE: "deadline",
        LOST: "unreachable",
        CANCELLED: "cancelled",
        EARLY: "deadline",
        AWAY: "unreachable",
        WITHDRAWN: "cancelled",
    }


def test_the_run_time_of_a_job_lies_between_its_queued_and_its_finished_row(
    in_each_dialect: StepEvents,
) -> None:
    run_times = in_each_dialect.table(
        """select job.ID, date_diff('minute', min(moment) filter (job.status = 'queued'),
                                    min(moment) filter (job.status = 'finished'))
           from events where step.journeyVersionID = 'v12' and job.status is not null
           group by job.ID"""
    )
    assert set(run_times) == ALL
    assert run_times[PLAIN] == RUN_TIME // timedelta(minutes=1)
    assert {number for number, minutes in run_times.items() if minutes is None} == {
        RUNNING,
        UNTOUCHED,
    }


def test_discards_are_counted_by_code(in_each_dialect: StepEvents) -> None:
    found: dict[Any, Any] = dict(
        in_each_dialect.table(
            """select job.eventCode, count(*), count(distinct profile.ID) from events
               where job.eventCode like 'ERROR_INSTANCE_%' group by all"""
        )
    )
    # A profile that two jobs discard is one profile in two events.
    assert found == {
        CODES[0]: (21, 20),
        CODES[1]: (30, 30),
        CODES[2]: (1, 1),
        CODES[3]: (1, 1),
        CODES[4]: (1, 1),
    }


def test_all_events_of_a_job_are_found_by_its_id_among_step_events(
    in_each_dialect: StepEvents,
) -> None:
    found = in_each_dialect.rows(
        """select distinct job.ID, step.exportJobID, journey.ID, journey.name, step.inTest
           from events order by 1"""
    )
    assert found == [(number, number, "j1", "Grüße", False) for number in sorted(ALL)]


def test_what_was_exported_is_asked_by_dataset_without_joining_anything(
    in_each_dialect: StepEvents,
) -> None:
    found = in_each_dialect.table(
        """select own.dataset, count(*), count(own.batches), sum(own.rows), sum(own.bytes)
           from events where job.status = 'finished' group by all"""
    )
    assert found == {"audience": (10, 3, 156, 1_560)}
    times = in_each_dialect.table(
        """select job.ID, own.attempt, own.duration, step.processingTime
           from events where job.status = 'finished'"""
    )
    assert times[PLAIN] == (1, 422_000, 419_000)
    assert times[LOST] == (2, 7_000, 4_000)
    assert times[WITHDRAWN] == (0, 1_000, None)


def test_discards_name_the_namespace_of_their_profile(in_each_dialect: StepEvents) -> None:
    namespaces = in_each_dialect.rows(
        "select distinct profile.namespace from events where job.status is null"
    )
    assert namespaces == [("SegexportPerson",)]


def test_discards_are_told_from_events_about_jobs_by_their_type(asked: StepEvents) -> None:
    types = asked.table(
        "select job.eventType, bool_and(profile.ID is not null), bool_or(profile.ID is not null) "
        "from events group by all"
    )
    assert types == {"segmenttrigger-orchestrator": (False, False), "error": (True, True)}
