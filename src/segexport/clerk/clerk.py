"""What can be asked about the jobs of one organization and sandbox, wherever they are."""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from segexport.clerk.documents import JobDocument
from segexport.errors import Problem
from segexport.jobs.lifecycle import JobState
from segexport.jobs.request import ExportRequest


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job of a submission; not `created` if its request id was known."""

    job: JobDocument
    created: bool


class Clerk(Protocol):
    """The commands, answered in documents. Each raises what the command of that name raises."""

    async def submit(
        self,
        request: ExportRequest,
        *,
        request_id: str | None = None,
        deadline: timedelta | None = None,
        problems: Sequence[Problem] = (),
    ) -> Submitted:
        """Accept a request as a job; with `problems` it is refused with all that is wrong."""
        ...

    async def retry(self, job_id: int, *, request_id: str | None = None) -> Submitted:
        """Submit the request of an earlier job again."""
        ...

    async def cancel(self, job_id: int, *, reason: str) -> JobDocument:
        """Ask a job to stop; the job as it then stands."""
        ...

    async def status(self, job_id: int) -> JobDocument:
        """A job as it stands."""
        ...

    async def fault_detail(self, job_id: int) -> str | None:
        """What only whoever runs the service is told of a job's fault, if there is more."""
        ...

    async def list(
        self, *, states: Collection[JobState] | None = None, limit: int
    ) -> Sequence[JobDocument]:
        """Jobs, newest first."""
        ...

    def follow(self, job_id: int) -> AsyncIterator[JobDocument]:
        """A job as it stands, again and again, up to its end."""
        ...
