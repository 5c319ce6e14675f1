"""Segments that are evaluated for a job before its snapshot is pinned."""

from collections.abc import Sequence
from datetime import datetime

from segexport.errors import UnknownSegment
from segexport.jobs.job import Job
from segexport.jobs.request import ExportRequest
from segexport.profiles.builder import Resources
from segexport.profiles.catalogue import Catalogue, SegmentDefinition
from segexport.profiles.evaluation import Evaluation
from segexport.profiles.snapshots import ProfileStore
from segexport.settings import ExportSettings


def evaluation_for(
    job: Job, profiles: ProfileStore, *, now: datetime, settings: ExportSettings
) -> Evaluation:
    """The evaluation that the job asks for.

    Run again by whoever takes the job over, it finds the snapshot that it has made before.
    Raises `UnknownSegment` and `ProfileStoreCorrupt`.
    """
    return Evaluation(
        profiles.folder,
        definitions_for(job.request, profiles.catalogue()),
        now=now,
        resources=Resources(threads=settings.threads, memory_limit=settings.memory_limit),
        job=job.id,
    )


def definitions_for(request: ExportRequest, catalogue: Catalogue) -> Sequence[SegmentDefinition]:
    """The newest definitions of the request's segments; all there are, if it names none.

    Raises `UnknownSegment` for one that is not defined, and if nothing is.
    """
    wanted = request.filter.segments
    if not wanted and not catalogue.segments:
        raise UnknownSegment(
            "evaluationInfo.segmentation asks for segments to be evaluated, and none is defined; "
            "define them with `segexport segments define`, or leave segmentation out"
        )
    if not wanted:
        return catalogue.newest_segments
    return [catalogue.definition(one.segment_ns, one.segment_id) for one in wanted]
