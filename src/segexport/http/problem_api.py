"""How problem details (RFC 9457) are described: the errors of segexport's own addresses."""

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from segexport.http import openapi

PROBLEM: Final = "application/problem+json"


class ProblemEntry(BaseModel):
    """One thing that is wrong; `path` says where in the request."""

    path: str
    message: str


class ProblemDetails(BaseModel):
    """What went wrong. `code` is for machines, and does not change."""

    model_config = ConfigDict(populate_by_name=True, extra="forbid")

    type: str = Field(pattern="^urn:segexport:")
    title: str
    status: int
    detail: str
    code: str
    request_id: str = Field(alias="requestId")
    problems: tuple[ProblemEntry, ...] | None = None


def problem(
    status: int,
    title: str,
    code: str,
    description: str,
    detail: str,
    *problems: dict[str, str],
    **headers: str,
) -> dict[str, Any]:
    """An answer that is an error; `problems` are those of its example."""
    example: dict[str, Any] = {
        "type": f"urn:segexport:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "requestId": "3f2c7f0e4c1d4e5c9d6b0a1f2e3d4c5b",
    }
    if problems:
        example["problems"] = list(problems)
    return openapi.answer(description, ProblemDetails, example, media_type=PROBLEM, **headers)


TOO_LATE: Final = problem(
    408,
    "Request Timeout",
    "http.body_too_late",
    "The body did not arrive in time.",
    "the body did not arrive within 30 s; send it faster",
)
TOO_LARGE: Final = problem(
    413,
    "Content Too Large",
    "http.body_too_large",
    "The body is too large.",
    "the body is larger than 1000000 bytes; make it smaller",
)
REFUSED: Final[dict[int | str, dict[str, Any]]] = {
    401: problem(
        401,
        "Unauthorized",
        "access.token_invalid",
        "The token, or the session, is not valid.",
        "Oauth token is not valid",
        WWW_Authenticate="Bearer.",
    ),
    403: problem(
        403,
        "Forbidden",
        "access.token_missing",
        "Token or API key are missing, or the key may not act here.",
        "Oauth token is missing.",
    ),
    429: problem(
        429,
        "Too Many Requests",
        "access.rate",
        "The organization has used up its rate.",
        "too many requests of this organization; try again in 1 s",
        Retry_After="Seconds until it is worth another try.",
    ),
    503: problem(
        503,
        "Service Unavailable",
        "store.unavailable",
        "Something that is needed is not available.",
        "this part of segexport is not available at the moment; try again later",
        Retry_After="Seconds until it is worth another try.",
    ),
}
"""What may be answered wherever a token and a key are needed."""
