"""Jobs of the store that is open here."""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from segexport.clerk.clerk import Submitted
from segexport.clerk.documents import JobDocument
from segexport.commands import Commands
from segexport.errors import Problem
from segexport.jobs.job import Scope
from segexport.jobs.lifecycle import JobState
from segexport.jobs.request import ExportRequest
from segexport.store.store import Submission


@dataclass(frozen=True, slots=True)
class LocalClerk:
    """A clerk who asks the commands, for one organization and sandbox."""

    commands: Commands
    scope: Scope

    async def submit(
        self,
        request: ExportRequest,
        *,
        request_id: str | None = None,
        deadline: timedelta | None = None,
        problems: Sequence[Problem] = (),
    ) -> Submitted:
        """Accept a request as a job."""
        return await self._submitted(
            await self.commands.submit(
                self.scope,
                request,
                request_id=request_id,
                deadline=deadline,
                problems=problems,
            )
        )

    async def retry(self, job_id: int, *, request_id: str | None = None) -> Submitted:
        """Submit the request of an earlier job again."""
        return await self._submitted(
            await self.commands.retry(self.scope, job_id, request_id=request_id)
        )

    async def cancel(self, job_id: int, *, reason: str) -> JobDocument:
        """Ask a job to stop."""
        await self.commands.cancel(self.scope, job_id, reason=reason)
        return await self.status(job_id)

    async def status(self, job_id: int) -> JobDocument:
        """A job as it stands."""
        return JobDocument.of(await self.commands.status(self.scope, job_id))

    async def fault_detail(self, job_id: int) -> str | None:
        """What the store has of a fault beside what is for everybody. Not for answers."""
        fault = (await self.commands.status(self.scope, job_id)).job.fault
        return None if fault is None else fault.detail

    async def list(
        self, *, states: Collection[JobState] | None = None, limit: int
    ) -> Sequence[JobDocument]:
        """Jobs, newest first."""
        found = await self.commands.statuses(self.scope, states=states, limit=limit)
        return [JobDocument.of(status) for status in found]

    async def follow(self, job_id: int) -> AsyncIterator[JobDocument]:
        """A job as it stands, at each change of the store, and each second."""
        seen = 0
        while True:
            job = await self.status(job_id)
            yield job
            if job.has_ended:
                return
            seen = await self.commands.store.wait_for_change(seen, timedelta(seconds=1))

    async def _submitted(self, submission: Submission) -> Submitted:
        status = await self.commands.answered(submission)
        return Submitted(JobDocument.of(status), submission.created)
