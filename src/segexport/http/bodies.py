"""Reading the bodies of requests, each in a time that others can wait for."""

from codecs import BOM_UTF8
from collections.abc import Sequence
from typing import Final, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request

from segexport.errors import BodyTooLarge
from segexport.http import service_api as api
from segexport.http.turns import turns
from segexport.jobs.reading import Draft, draft, draft_request
from segexport.jobs.request import ExportRequest

UNSUPPORTED_MEDIA_TYPE = 415
MAX_FORM: Final = 16 * 1024
"""Bytes of a form."""

_Read = TypeVar("_Read", bound=BaseModel)


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


async def drafted(model: type[_Read], text: bytes) -> Draft[_Read]:
    """What can be read of a JSON text, when its turn has come. Raises as `draft`."""
    return await turns().run(draft, model, text)


async def read_request(request: Request) -> Draft[ExportRequest]:
    """The body as an export request. Raises as `read_json` and `draft`."""
    return await turns().run(draft_request, await read_json(request))


async def read_form(request: Request) -> Sequence[tuple[str, str]]:
    """The fields of a form; none where the body is no form, or one of very many fields.

    Raises `BodyTooLarge` when more than `MAX_FORM` bytes have come, and what `Limits` raises.
    """
    body = bytearray()
    size = 0
    async for part in request.stream():
        size += len(part)
        if size <= MAX_FORM:
            body += part
    if size > MAX_FORM:
        raise BodyTooLarge(f"the form is larger than {MAX_FORM} bytes; leave out what it need not")
    kinds = [kind.partition(";")[0].strip() for kind in request.headers.getlist("content-type")]
    if [kind.lower() for kind in kinds] != [api.FORM]:
        return ()
    return await turns().run(_fields, bytes(body))


def _fields(form: bytes) -> Sequence[tuple[str, str]]:
    try:
        return parse_qsl(
            form.decode(), keep_blank_values=True, errors="strict", max_num_fields=api.MAX_FIELDS
        )
    except ValueError:
        return ()
