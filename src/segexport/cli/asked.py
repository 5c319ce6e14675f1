"""The request that `submit` is given, in a file or as options."""

import sys
from codecs import BOM_UTF8
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from segexport.errors import InvalidRequest, Problem
from segexport.faults import explaining
from segexport.jobs.reading import Draft, draft_request
from segexport.jobs.request import ExportRequest, FileFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions:
    """A request in options; each is empty where it was not given."""

    dataset: str | None
    segments: Sequence[str]
    segment_namespace: str | None
    statuses: Sequence[str]
    fields: str
    merge_policy: str | None
    segment_per_batch: bool
    evaluate: bool
    file_format: FileFormat | None
    journey_version: str | None
    namespace: str | None
    journey_id: str | None
    journey_name: str | None
    test_mode: bool

    @property
    def are_given(self) -> bool:
        """Whether there is any."""
        return any(getattr(self, name) for name in self.__dataclass_fields__)

    def request(self) -> Draft[ExportRequest]:
        """What they ask for. Raises BadParameter."""
        if self.dataset is None:
            raise typer.BadParameter("give a request file, or at least --dataset")
        journey = (self.journey_version, self.namespace, self.journey_id, self.journey_name)
        is_for_a_journey = self.test_mode or any(word is not None for word in journey)
        if is_for_a_journey and None in (self.journey_version, self.namespace):
            raise typer.BadParameter("a journey needs both --journey-version and --namespace")
        if not self.segments and (self.segment_namespace or self.statuses):
            raise typer.BadParameter("--segment-namespace and --status need a --segment")
        return draft_request(self._document())

    def _document(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "fields": self.fields,
            "destination": {
                "datasetId": self.dataset,
                "segmentPerBatch": self.segment_per_batch,
                "format": self.file_format,
            },
            "evaluationInfo": {"segmentation": self.evaluate},
        }
        if self.segments:
            qualified = {
                "segmentNs": self.segment_namespace or "ups",
                "status": self.statuses or ["realized"],
            }
            document["filter"] = {
                "segments": [{"segmentId": segment, **qualified} for segment in self.segments]
            }
        if self.journey_version is not None:
            document["journey"] = {
                "versionId": self.journey_version,
                "namespace": self.namespace,
                "testMode": self.test_mode,
                "id": self.journey_id,
                "name": self.journey_name,
            }
        if self.merge_policy is not None:
            document["mergePolicy"] = {"id": self.merge_policy}
        return document


def read_request(path: Path) -> Draft[ExportRequest]:
    """The request in a file, or on stdin (`-`). Raises `InvalidRequest`, and `InputFailed`."""
    if str(path) == "-":
        content = sys.stdin.buffer.read()
    else:
        with explaining(_unreadable, path):
            content = path.read_bytes()
    return draft_request(content.removeprefix(BOM_UTF8))


def _unreadable(path: str, why: str) -> InvalidRequest:
    return InvalidRequest([Problem("", f"cannot read {path}: {why}")])
