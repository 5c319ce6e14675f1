"""What is wrong with a request: segments and fields that are not there, each with a hint."""

from collections.abc import Iterator, Sequence

from segexport.errors import Problem
from segexport.exports.fields import (
    BESIDE,
    EVENT_LIST,
    PLAIN_EVENT,
    beside,
    chosen,
    clashes,
    like,
    unknown,
)
from segexport.jobs.request import ExportRequest, SegmentFilter
from segexport.profiles.catalogue import Catalogue
from segexport.profiles.snapshots import Snapshot


def segment_problems(
    request: ExportRequest, snapshot: Snapshot, catalogue: Catalogue
) -> Iterator[Problem]:
    """Segments that the snapshot does not have.

    One that was evaluated for a job may have nobody, and is then not among its segments.
    """
    known = [(size.namespace, size.segment) for size in snapshot.segments]
    if request.evaluation_info.segmentation and snapshot.evaluated_for is not None:
        return
    for index, wanted in enumerate(request.filter.segments):
        if (wanted.segment_ns, wanted.segment_id) in known:
            continue
        if catalogue.segment(wanted.segment_ns, wanted.segment_id):
            hint = (
                "it is defined but was never evaluated: set evaluationInfo.segmentation "
                "(`submit --evaluate`), or run `segexport segments evaluate`"
            )
        else:
            hint = _elsewhere(wanted, known) or (
                "see the snapshot's segments with `segexport profiles show`"
            )
        yield Problem(
            f"filter.segments.{index}.segmentId",
            f"no segment {wanted.segment_id!r} in namespace {wanted.segment_ns!r} "
            f"of the profile store; {hint}",
        )


def definition_problems(request: ExportRequest, catalogue: Catalogue) -> Iterator[Problem]:
    """Segments that cannot be evaluated."""
    defined = [(each.namespace, each.segment) for each in catalogue.segments]
    define = "define it with `segexport segments define`"
    if not request.filter.segments and not defined:
        yield Problem(
            "evaluationInfo.segmentation",
            "no segment is defined, so there is nothing to evaluate: define one with "
            "`segexport segments define`, or leave this out",
        )
    for index, wanted in enumerate(request.filter.segments):
        if (wanted.segment_ns, wanted.segment_id) not in defined:
            yield Problem(
                f"filter.segments.{index}.segmentId",
                f"segment {wanted.segment_id!r} in namespace {wanted.segment_ns!r} has no "
                "definition, so it cannot be evaluated; "
                f"{_elsewhere(wanted, defined) or define}",
            )


def field_problems(request: ExportRequest, snapshot: Snapshot) -> Iterator[Problem]:
    """Fields of the profile that the snapshot does not have, or that cannot lie side by side."""
    paths = request.field_paths
    for path, hint in unknown(paths, snapshot.attributes, BESIDE):
        yield Problem("fields", f"the profile store has no field {path!r}; {hint}")
    others = set(beside(paths))
    if request.additional_fields.event_list is not None:
        others.add(EVENT_LIST)
    for message in clashes(chosen(paths, snapshot.attributes), others):
        yield Problem("fields", message)


def event_problems(request: ExportRequest, snapshot: Snapshot) -> Iterator[Problem]:
    """Fields of the events that the snapshot does not have, or that cannot lie side by side."""
    where, asked = "additionalFields.eventList.fields", request.additional_fields.event_list
    if asked is None:
        return
    known = snapshot.event_attributes or PLAIN_EVENT
    for path, hint in unknown(asked.field_paths, known, ()):
        yield Problem(where, f"the events of the profile store have no field {path!r}; {hint}")
    for message in clashes(chosen(asked.field_paths, known), ()):
        yield Problem(where, message)


def _elsewhere(wanted: SegmentFilter, known: Sequence[tuple[str, str]]) -> str | None:
    """A hint at where the segment is, or what it may be called, among those known."""
    namespaces = sorted({ns for ns, segment in known if segment == wanted.segment_id})
    if namespaces:
        return f"it is known in namespace {', '.join(map(repr, namespaces))}"
    return like(wanted.segment_id, [segment for ns, segment in known if ns == wanted.segment_ns])
