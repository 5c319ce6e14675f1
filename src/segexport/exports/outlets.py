"""Where the endpoint definitions of Pinpoint jobs go: what lies behind their S3 prefixes.

Whoever runs segexport says, for each application, which prefixes may be exported to, and
where each of them really is: in the S3 of the settings, under the same bucket and key, or
in a folder, below which the rest of the URL becomes sub-folders.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from segexport.errors import DatasetError, OutletMissing, OutletUnreachable, Problem
from segexport.exports.in_bucket import InBucket
from segexport.exports.location import Location
from segexport.exports.object_store import ObjectStore, open_store
from segexport.exports.on_disk import OnDisk
from segexport.jobs.job import Scope
from segexport.jobs.request import ExportRequest, Pinpoint
from segexport.modes import AS_USUAL, Modes
from segexport.settings import Settings
from segexport.settings.http import S3, ApplicationSettings

PROBE: Final = "endpoints-{job_id}-probe"


def endpoint_file(job_id: int, index: int) -> str:
    """What a file of a job is called below its prefix: unlike that of any other job.

    Scripts that were written for Pinpoint look for what ends in `.gz`.
    """
    return f"endpoints-{job_id}-part-{index:05d}.json.gz"


@dataclass(frozen=True, slots=True)
class Outlets:
    """The destinations of all applications. `store` is the S3 of the settings, where used.

    `modes` are those of files in folders.
    """

    applications: Mapping[str, ApplicationSettings]
    store: ObjectStore | None = None
    modes: Modes = AS_USUAL

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those that the settings name. Raises `SettingsError` where S3 cannot be used."""
        applications = settings.pinpoint.applications
        on_s3 = any(S3 in each.destinations.values() for each in applications.values())
        store = open_store(settings.s3.as_options()) if on_s3 else None
        return cls(applications, store, settings.exports.modes)

    def problems(self, scope: Scope, request: ExportRequest) -> Sequence[Problem]:
        """What is wrong with where a request wants its endpoints, if it wants any."""
        if request.pinpoint is None:
            return ()
        found = self._resolved(scope, request.pinpoint)
        return (found,) if isinstance(found, Problem) else ()

    def location(self, scope: Scope, asked: Pinpoint) -> Location:
        """The folder behind a prefix. Raises `OutletMissing` if there is none any more."""
        found = self._resolved(scope, asked)
        if isinstance(found, Problem):
            raise OutletMissing(f"endpoint definitions have no place to go: {found.message}")
        return found

    def probe(self, scope: Scope, asked: Pinpoint, job_id: int) -> None:
        """See that a job can write below its prefix; nothing stays there.

        Raises `OutletMissing` if nobody has said where that is, and `OutletUnreachable` for
        whatever is wrong there: it is often somebody else's, and may be put right meanwhile.
        """
        location = self.location(scope, asked)
        try:
            location.probe(PROBE.format(job_id=job_id))
        except DatasetError as error:
            raise OutletUnreachable(
                f"endpoint definitions cannot be written to {asked.s3_url_prefix}: {error}"
            ) from error

    def _resolved(self, scope: Scope, asked: Pinpoint) -> Location | Problem:
        application = self.applications.get(asked.application_id)
        if application is None or scope != Scope(application.organization, application.sandbox):
            return Problem(
                "pinpoint.applicationId",
                f"there is no application {asked.application_id!r} in this organization and "
                "sandbox; see pinpoint.applications in the settings",
            )
        url = asked.s3_url_prefix
        covering = [prefix for prefix in application.destinations if url.startswith(prefix)]
        if not covering:
            return Problem(
                "pinpoint.s3UrlPrefix",
                f"application {asked.application_id!r} has no destination for {url}; add one to "
                f"pinpoint.applications.{asked.application_id}.destinations in the settings",
            )
        prefix = max(covering, key=len)
        place = application.destinations[prefix]
        if place == S3:
            assert self.store is not None  # noqa: S101  (opened where a destination is there)
            return InBucket(self.store, url.removeprefix("s3://").rstrip("/"))
        below = url.removeprefix(prefix).split("/")  # a request has no step that leads upwards
        root = Path(place).absolute()
        return OnDisk(root.joinpath(*below), root, self.modes)
