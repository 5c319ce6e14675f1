"""The table that Journey Optimizer's dashboards query, made of what the relay would send.

The table is `journey_step_events`: an event a row, in compact form, which is the nesting of its
columns. Whoever flattens the events of our topic gets the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import orjson

from segexport.events.discards import DiscardRow
from segexport.events.record import record_of
from segexport.events.vocabulary import SEGMENT_EXPORT_JOB
from segexport.events.xdm import to_compact
from support.events import SOURCE, Life, expanded


def values_of(life: Life, discards: Sequence[DiscardRow] = ()) -> list[bytes]:
    """The values of a job's records, in their order on the topic."""
    values: list[bytes] = []
    for row in life.rows:
        records = [record_of(row, SOURCE)] if row.discards is None else expanded(row, discards)
        values += [record.value for record in records]
    return values


class StepEvents:
    """The table of these records' values; its questions are SQL with short names.

    `job` stands for the segmentExportJob object, `journey`, `profile` and `step` for its
    neighbours, `own` for our own keys, `moment` for the time.
    """

    def __init__(self, folder: Path, values: Iterable[bytes]) -> None:
        documents = [orjson.loads(value) for value in values]
        lines = [
            orjson.dumps(to_compact(each) if SEGMENT_EXPORT_JOB in each else each)
            for each in documents
        ]
        file = folder / "journey_step_events.ndjson"
        file.write_bytes(b"\n".join(lines))
        self._database = duckdb.connect()
        self._database.execute(
            f"""create table journey_step_events as
                select * from read_json('{file}', format = 'newline_delimited',
                                        sample_size = -1)"""
        )
        self._database.execute(
            """create view events as select
                   _id as id, timestamp as moment, _segexport as own,
                   _experience.journeyOrchestration.serviceEvents.segmentExportJob as job,
                   _experience.journeyOrchestration.journey as journey,
                   _experience.journeyOrchestration.profile as profile,
                   _experience.journeyOrchestration.stepEvents as step
               from journey_step_events"""
        )

    def rows(self, question: str) -> list[tuple[Any, ...]]:
        """The answer to a question."""
        return self._database.execute(question).fetchall()

    def table(self, question: str) -> Mapping[Any, Any]:
        """The answer to one in two columns, or more: the first of them names the rest."""
        answer = {row[0]: row[1] if len(row) == 2 else row[1:] for row in self.rows(question)}
        assert len(answer) == len(self.rows(question)), "the first column names no row"
        return answer

    def close(self) -> None:
        """Free it."""
        self._database.close()
