"""Jobs and places in lists of jobs, as addresses and queries name them."""

import re
from typing import Final

from segexport.errors import JobNotFound
from segexport.events.record import milliseconds
from segexport.jobs.job import Job

_PLACE: Final = re.compile(r"(\d{1,14})_(\d{1,16})", re.ASCII)
_JOB_ID: Final = re.compile(r"\d{1,16}", re.ASCII)


def job_number(text: str) -> int:
    """A job's id. Raises `JobNotFound` for what is none."""
    if not _JOB_ID.fullmatch(text):
        raise JobNotFound(f"there is no job {text[:32]!r}; a job's id is a number")
    return int(text)


def place_of(job: Job) -> str:
    """The place in a list behind a job: `<creation in ms since 1970>_<job id>`."""
    return f"{milliseconds(job.created_at)}_{job.id}"


def place_named(text: str) -> tuple[int, int] | None:
    """What `Commands.before` takes of a place; None if `text` is none."""
    found = _PLACE.fullmatch(text)
    return (int(found[1]), int(found[2])) if found else None
