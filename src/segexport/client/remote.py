"""Jobs of a service elsewhere."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from segexport.clerk import JobDocument, Submitted
from segexport.client.connection import Connection
from segexport.commands import request_id_problems
from segexport.errors import InvalidRequest, NotSegexport, Problem
from segexport.http.own_api import CANCELLATION, JOB, JOBS, RETRY, JobPage
from segexport.jobs.lifecycle import JobState
from segexport.jobs.request import ExportRequest

SOONEST: Final = 0.5
LATEST: Final = 5.0
"""Seconds between two looks at a job that is followed: a twentieth of the time it took so far."""

_Told = TypeVar("_Told", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class RemoteClerk:
    """A clerk who asks a service. Raises what the service's own clerk raises, `AccessRefused`
    where the service does not let us in, and `ServiceError`.
    """

    connection: Connection

    async def submit(
        self,
        request: ExportRequest,
        *,
        request_id: str | None = None,
        deadline: timedelta | None = None,
        problems: Sequence[Problem] = (),
    ) -> Submitted:
        """Accept a request as a job. A service is not asked for one that has `problems`."""
        if problems:
            raise InvalidRequest(problems)
        params = {} if deadline is None else {"deadline": deadline.total_seconds()}
        return await self._create(JOBS, request_id, params, request.document())

    async def retry(self, job_id: int, *, request_id: str | None = None) -> Submitted:
        """Submit the request of an earlier job again."""
        return await self._create(RETRY.format(id=job_id), request_id, {}, None)

    async def cancel(self, job_id: int, *, reason: str) -> JobDocument:
        """Ask a job to stop."""
        # What is no text, from a terminal's bytes, becomes question marks, as in a fault.
        body = {"reason": reason.encode(errors="replace").decode()}
        answer = await self.connection.ask("POST", CANCELLATION.format(id=job_id), json=body)
        return self._told(JobDocument, answer)

    async def status(self, job_id: int) -> JobDocument:
        """A job as it stands."""
        return self._told(JobDocument, await self.connection.ask("GET", JOB.format(id=job_id)))

    async def fault_detail(self, job_id: int) -> str | None:
        """Nothing: a service tells its places to nobody."""
        del job_id
        return None

    async def list(
        self, *, states: Collection[JobState] | None = None, limit: int
    ) -> Sequence[JobDocument]:
        """Jobs, newest first."""
        params: dict[str, Any] = {"limit": limit}
        if states is not None:
            params["state"] = sorted(states)
        return self._told(JobPage, await self.connection.ask("GET", JOBS, params=params)).jobs

    async def follow(self, job_id: int) -> AsyncIterator[JobDocument]:
        """A job as it stands, each moment."""
        begun = time.monotonic()
        while True:
            job = await self.status(job_id)
            yield job
            if job.has_ended:
                return
            await asyncio.sleep(min(LATEST, SOONEST + (time.monotonic() - begun) / 20))

    async def _create(
        self, path: str, request_id: str | None, params: Mapping[str, Any], body: Any
    ) -> Submitted:
        """Have a job created, once, however often it takes to hear of it."""
        if problems := request_id_problems(request_id):
            raise InvalidRequest(problems)
        known_as = secrets.token_hex(16) if request_id is None else request_id
        answer = await self.connection.ask(
            "POST", path, params={**params, "requestId": known_as}, json=body
        )
        # An id that is new belongs to no earlier job, even if an answer was lost.
        created = answer.status_code == HTTPStatus.CREATED or request_id is None
        return Submitted(self._told(JobDocument, answer), created)

    def _told(self, model: type[_Told], answer: httpx.Response) -> _Told:
        try:
            return model.model_validate_json(answer.content)
        except ValidationError as error:
            raise NotSegexport(
                f"{self.connection.url} answers with something else than jobs; check --url, or "
                "whether its segexport is of another version"
            ) from error
