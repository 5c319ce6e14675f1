"""How the parts of a request go together, where each of them is in order by itself."""

from collections.abc import Iterator
from datetime import datetime

from segexport.errors import Problem
from segexport.jobs.request import ExportRequest, Filter


def contradictions(request: ExportRequest) -> Iterator[Problem]:
    """What in a request contradicts the rest of it, each with the path of its part."""
    yield from _in_filter(request.filter)
    events = request.additional_fields.event_list
    if events is not None:
        yield from _not_in_order(
            "additionalFields.eventList.filter",
            ("fromIngestTimestamp", events.filter.from_ingest_timestamp),
            ("toIngestTimestamp", events.filter.to_ingest_timestamp),
        )
    per_batch = request.destination.segment_per_batch
    if per_batch and not request.filter.segments:
        yield Problem("", "destination.segmentPerBatch needs filter.segments")
    if request.pinpoint is None:
        return
    if per_batch:
        yield Problem("", "pinpoint exports each endpoint once; leave out segmentPerBatch")
    if request.field_paths:
        # Without identities there is no endpoint, and without consents no opting out.
        yield Problem("", "pinpoint takes what it needs of each profile; leave fields blank")


def _in_filter(asked: Filter) -> Iterator[Problem]:
    named = [(segment.segment_ns, segment.segment_id) for segment in asked.segments]
    if len(set(named)) < len(named):
        words = "a segment is named twice; give it once, with all its statuses"
        yield Problem("filter", words)
    when = asked.segment_qualification_time
    if when is None:
        return
    if not asked.segments:
        words = "segmentQualificationTime needs segments: nobody qualifies for none"
        yield Problem("filter", words)
    yield from _not_in_order(
        "filter.segmentQualificationTime",
        ("startTime", when.start_time),
        ("endTime", when.end_time),
    )


def _not_in_order(
    path: str, start: tuple[str, datetime | None], end: tuple[str, datetime | None]
) -> Iterator[Problem]:
    (start_name, begins), (end_name, ends) = start, end
    if begins is not None and ends is not None and begins >= ends:
        yield Problem(path, f"{start_name} must lie before {end_name}")
