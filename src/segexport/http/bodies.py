"""Reading the bodies of requests."""

from codecs import BOM_UTF8

from starlette.exceptions import HTTPException
from starlette.requests import Request

UNSUPPORTED_MEDIA_TYPE = 415


async def read_json(request: Request) -> bytes:
    """The body as it is, if it is said to be JSON, or nothing is said; without a BOM.

    Raises HTTPException 415 for another type, or one that is compressed, and what `Limits`
    raises.
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip()
    if kind.lower() != "application/json" and not kind.lower().endswith("+json"):
        raise HTTPException(UNSUPPORTED_MEDIA_TYPE)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(UNSUPPORTED_MEDIA_TYPE)
    return (await request.body()).removeprefix(BOM_UTF8)
