"""What a caller asks for: the body of an export request.

The shape and the names are those of the Experience Platform Segmentation API's
`POST /export/jobs`; `journey`, `pinpoint` and `destination.format` are additions of
segexport's own.
Every string is bounded, and free of control characters, so that whatever a request holds
fits into an event.

A word of the request that is not understood is refused, never ignored: an export that
silently means something else than it says is worse than none. How the parts go together is
looked at in `consistency`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from segexport.jobs.values import (
    TEXT,
    WHOLE,
    Flag,
    Moment,
    Name,
    Part,
    PathName,
    RoleArn,
    S3Prefix,
    Version,
    bounded,
)

MAX_FIELDS = 16_384
"""Characters in the comma-separated list of fields."""
MAX_SEGMENTS = 500
"""Segments in one request."""
MAX_STATUSES = 10
"""Statuses of one segment, repetitions included."""

Fields = Annotated[
    str, StringConstraints(max_length=MAX_FIELDS), Field(json_schema_extra={"pattern": TEXT})
]
"""Dotted XDM paths, separated by commas."""


def _paths(fields: str) -> tuple[str, ...]:
    paths = (path.strip() for path in fields.split(","))
    return tuple(dict.fromkeys(path for path in paths if path))


class SegmentStatus(StrEnum):
    """A profile's standing in a segment, as an export asks for it."""

    REALIZED = "realized"  # in the segment now, `existing` members included
    EXISTING = "existing"  # in the segment now, and was at the evaluation before
    EXITED = "exited"  # was in the segment, is no longer


_STATUS = {"type": "string", "enum": [status.value for status in SegmentStatus]}
_SEVERAL = {"type": "array", "items": _STATUS, "minItems": 1, "maxItems": MAX_STATUSES}
_ONE_OR_SEVERAL = {"anyOf": [_SEVERAL, _STATUS]}


class SegmentFilter(Part):
    """One segment of the filter. The namespace is `ups` unless said otherwise."""

    segment_id: Name
    segment_ns: Name = "ups"
    status: Annotated[
        tuple[SegmentStatus, ...],
        bounded(MAX_STATUSES),
        WithJsonSchema(_ONE_OR_SEVERAL, mode="validation"),
    ] = (SegmentStatus.REALIZED,)

    @field_validator("status", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        # The documented responses show both `["exited"]` and `"exited"`.
        return (value,) if isinstance(value, str) else value

    @field_validator("status")
    @classmethod
    def _named_once(cls, value: tuple[SegmentStatus, ...]) -> tuple[SegmentStatus, ...]:
        if not value:
            raise ValueError("name at least one status, or leave it out for realized")
        return tuple(dict.fromkeys(value))


class QualificationTime(Part):
    """When a profile came to stand in a segment as asked: `start_time` <= time < `end_time`."""

    start_time: Moment | None = None
    end_time: Moment | None = None


class Filter(Part):
    """Which profiles are exported. No segments: every profile of the store.

    `from_ingest_timestamp`: only profiles of which something was ingested later than this,
    and only events that were. `empty_profiles`: those too of whom only events are known.
    """

    segments: Annotated[
        tuple[SegmentFilter, ...],
        Field(json_schema_extra={"maxItems": MAX_SEGMENTS}),
        bounded(MAX_SEGMENTS),
    ] = ()
    segment_qualification_time: QualificationTime | None = None
    from_ingest_timestamp: Moment | None = None
    empty_profiles: Flag = False


class MergePolicy(Part):
    """How fragments of one person become one profile: the id of a policy that is defined.

    Without a version the newest one.
    """

    id: Name
    version: Annotated[int, Field(ge=1, le=1_000_000), WHOLE] | None = None


class EventFilter(Part):
    """Events ingested later than `from_ingest_timestamp` and before `to_ingest_timestamp`.

    The time of ingestion, not the event's own.
    """

    from_ingest_timestamp: Moment | None = None
    to_ingest_timestamp: Moment | None = None


class EventList(Part):
    """The events of each exported profile, as a nested list. Blank `fields`: all of them."""

    fields: Fields = ""
    filter: EventFilter = EventFilter()

    @property
    def field_paths(self) -> tuple[str, ...]:
        """The dotted XDM paths of `fields`, in order and once each; empty means all."""
        return _paths(self.fields)


class AdditionalFields(Part):
    """What is exported beside the profile's own record."""

    event_list: EventList | None = None


class FileFormat(StrEnum):
    """How the files of a batch are written."""

    PARQUET = "parquet"
    NDJSON = "ndjson"
    NDJSON_GZ = "ndjson.gz"


class Destination(Part):
    """The dataset that receives the batch, or with `segment_per_batch` a batch per segment."""

    dataset_id: PathName
    segment_per_batch: Flag = False
    format: FileFormat = FileFormat.PARQUET

    @model_validator(mode="before")
    @classmethod
    def _one_spelling(cls, given: object) -> object:
        # The documented responses show both `datasetId` and `dataSetId`.
        if not isinstance(given, Mapping) or "datasetId" in given:
            return given
        return {"datasetId" if key == "dataSetId" else key: given[key] for key in given}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = super().__get_pydantic_json_schema__(core_schema, handler)
        if handler.mode == "validation":
            told = handler.resolve_ref_schema(schema)
            told["properties"]["dataSetId"] = told["properties"]["datasetId"]
            told["oneOf"] = [{"required": ["datasetId"]}, {"required": ["dataSetId"]}]
            del told["required"]
        return schema


class EvaluationInfo(Part):
    """With `segmentation`, the segments are evaluated by their definitions before the export."""

    segmentation: Flag = False


class SchemaName(Part):
    """The schema of the destination dataset."""

    name: Name = "_xdm.context.profile"


class Journey(Part):
    """The journey that the audience is exported for.

    With it, profiles that the journey could not take become discards: those without an
    identity in `namespace`, those whose identity there is exported already and, in test
    mode, those that are not test profiles. All events of the job name the journey:
    `version_id`, and where they are given `id`, which its versions share, and `name`.
    """

    version_id: Name
    namespace: Name
    test_mode: Flag = False
    id: Name | None = None
    name: Name | None = None


class Pinpoint(Part):
    """The Pinpoint export job that the request is: endpoint definitions go to `s3_url_prefix`.

    The prefix ends in a slash. `role_arn`, `segment_id` and `segment_version` are kept as
    they came, and mean nothing here: who is exported stands in the filter.
    """

    application_id: PathName
    role_arn: RoleArn
    s3_url_prefix: S3Prefix
    segment_id: Name | None = None
    segment_version: Version | None = None


class ExportRequest(Part):
    """An export request, checked and frozen."""

    fields: Fields = ""
    merge_policy: MergePolicy | None = None
    filter: Filter = Filter()
    additional_fields: AdditionalFields = AdditionalFields()
    destination: Destination
    schema_: SchemaName = Field(default=SchemaName(), alias="schema")
    evaluation_info: EvaluationInfo = EvaluationInfo()
    journey: Journey | None = None
    pinpoint: Pinpoint | None = None

    @property
    def field_paths(self) -> tuple[str, ...]:
        """The dotted XDM paths of `fields`, in order and once each; empty means all."""
        return _paths(self.fields)

    @property
    def only_segment(self) -> SegmentFilter | None:
        """The segment, where the request names exactly one."""
        segments = self.filter.segments
        return segments[0] if len(segments) == 1 else None

    def with_policy(self, policy_id: str, version: int) -> Self:
        """The same request, with the merge policy and its version named."""
        policy = MergePolicy(id=policy_id, version=version)
        return self.model_copy(update={"merge_policy": policy})

    def document(self) -> dict[str, Any]:
        """The request as the JSON document that it came from, defaults filled in."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
