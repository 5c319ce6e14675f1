"""Jobs and places in lists of jobs, as addresses and queries name them."""

import re
from typing import Final

from pydantic import AfterValidator

from segexport.errors import JobNotFound
from segexport.events.record import milliseconds
from segexport.jobs.job import Job

JOB_ID: Final = "[0-9]{1,16}"
"""The pattern of a job's id."""
PLACE: Final = f"[0-9]{{1,14}}_{JOB_ID}"
"""That of a place: `<creation in ms since 1970>_<job id>`."""


def job_number(text: str) -> int:
    """A job's id. Raises `JobNotFound` for what is none."""
    if not re.fullmatch(JOB_ID, text):
        raise JobNotFound(f"there is no job {text[:32]!r}; a job's id is a number")
    return int(text)


def place_of(job: Job) -> str:
    """The place in a list behind a job."""
    return f"{milliseconds(job.created_at)}_{job.id}"


def place_named(text: str) -> tuple[int, int] | None:
    """What `Commands.before` takes of a place; None if `text` is none."""
    if not re.fullmatch(PLACE, text):
        return None
    moment, _, job_id = text.partition("_")
    return int(moment), int(job_id)


def place_in(text: str) -> tuple[int, int]:
    """The same of a text that was looked at before."""
    found = place_named(text)
    assert found is not None  # noqa: S101  (see `placed`)
    return found


def placed(words: str) -> AfterValidator:
    """Of a parameter that is a place, or empty; `words` say what it must be otherwise."""

    def check(text: str) -> str:
        if text and place_named(text) is None:
            raise ValueError(words)
        return text

    return AfterValidator(check)
